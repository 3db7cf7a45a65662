import math
import subprocess
import sys

import pytest

from hybrid.errors import ConfigError
from hybrid.tuning.settings import TuneSettings


def test_importing_the_settings_loads_no_torch() -> None:
    code = "import sys, hybrid.tuning.settings; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "dora"),
        ("weights", "int8"),
        ("scheduler", "step"),
        ("dtype", "float8"),
        ("rank", 0),
        ("rank", True),
        ("alpha", 1.5),
        ("dropout", 1.0),
        ("target_modules", ()),
        ("learning_rate", 0.0),
        ("epochs", -1),
        ("epochs", math.inf),
        ("learning_rate", math.nan),
        ("warmup_ratio", 1.0),
        ("weight_decay", -0.1),
        ("max_grad_norm", -1.0),
        ("max_tokens", 0),
        ("trees_per_step", 0),
        ("min_shared_tokens", 0),
        ("save_steps", 0),
    ],
)
def test_a_wrong_value_is_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        TuneSettings(**{name: value})  # type: ignore[arg-type]
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)
