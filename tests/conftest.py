"""Fixtures shared by all tests, and an environment in which no test can use the network for a model."""

import json
import os
import re
import shutil
import string
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from hybrid import Project
    from hybrid.arms import Runner

# Before any test module imports transformers. HYBRID_CACHE keeps its default: models are converted once per machine.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MKL_CBWR"] = "AUTO"  # the same sums in every process, whatever the alignment of its memory

# Property tests draw the same examples on every machine; `--hypothesis-profile search` draws new ones, and many more.
settings.load_profile("ci")
settings.register_profile("search", derandomize=False, max_examples=2000, deadline=None)

_ROOT = Path(__file__).resolve().parents[1]
_TOY = Path(__file__).resolve().parent / "fixtures" / "toy"
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

Command = Callable[..., "subprocess.CompletedProcess[str]"]
OneThread = Callable[[], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The public data sets: `HYBRID_DATA`, or `../shared/data` beside the repository."""
    folder = Path(os.environ.get("HYBRID_DATA") or _ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"needs the public data sets: {folder} does not exist; set HYBRID_DATA to their folder")
    return folder


@pytest.fixture
def short_files() -> Callable[[int], AbstractContextManager[None]]:
    """Returns a context in which no file grows beyond some bytes: writes fail as they do on a full disk."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(scope="session")
def handbook() -> Path:
    """The example corpus: `docs/` and `questions.jsonl`."""
    return _ROOT / "examples" / "handbook"


@pytest.fixture(scope="session")
def toy() -> Path:
    """Six short documents in `docs/` and `questions.jsonl` about them."""
    return _TOY


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a byte-level tokenizer and a chat template: real in every respect but its size."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_model")
    trained = ByteLevelBPETokenizer()
    special = ["<pad>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    trained.train([str(path) for path in sorted((_TOY / "docs").iterdir())], vocab_size=600, special_tokens=special)
    trained.save(str(folder / "tokenizer.json"))
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(folder / "tokenizer.json"),
        pad_token="<pad>",
        eos_token="<|end|>",
        additional_special_tokens=special[2:],
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def runner(tiny_model: Path) -> "Runner":
    """The tiny model, ready to answer."""
    from transformers import AutoModelForCausalLM

    from hybrid.arms import Runner
    from hybrid.config import PromptConfig
    from hybrid.models import load_tokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.eval()  # type: ignore[no-untyped-call]
    return Runner(model, load_tokenizer(tiny_model), PromptConfig(), 8, 400)


def _word_pieces() -> dict[str, int]:
    """A vocabulary of whole words and single characters. A trained one differs from process to process."""
    text = " ".join(path.read_text(encoding="utf-8").lower() for path in sorted((_TOY / "docs").iterdir()))
    letters = sorted({*string.ascii_lowercase, *string.digits, *string.punctuation})
    words = sorted({word for word in re.findall(r"[a-z]+", text) if len(word) > 1})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters), *words]
    return {piece: number for number, piece in enumerate(pieces)}


@pytest.fixture(scope="session")
def tiny_embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT as a sentence-transformers folder."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_embedder")
    BertWordPieceTokenizer(_word_pieces()).save(str(folder / "tokenizer.json"))
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(folder / "tokenizer.json"),
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=256,
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    module = "sentence_transformers.models."
    parts = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling")]
    modules = [{"idx": int(n), "name": n, "path": path, "type": module + kind} for n, path, kind in parts]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 256}', encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_cross_encoder(tiny_embedder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a random cross-encoder with the words of the tiny embedder, which reads up to 256 tokens."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig

    def make(labels: int = 1) -> Path:
        folder = tmp_path_factory.mktemp("tiny_cross_encoder")
        tokenizer = AutoTokenizer.from_pretrained(tiny_embedder)
        tokenizer.save_pretrained(folder)
        torch.manual_seed(1)
        config = BertConfig(  # type: ignore[call-arg]
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=256,
            num_labels=labels,
            initializer_range=0.5,
        )
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_settings(tiny_model: Path, tiny_embedder: Path) -> dict[str, Any]:
    """Settings with which a whole run takes seconds."""
    return {
        "model": str(tiny_model),
        "embedder": str(tiny_embedder),
        "index": {"chunk_tokens": 48},
        "prompt": {"k": 3},
        "pairs": {
            "total": 40,
            "questions_per_context": 6,
            "dev_share": 0.2,
            "p_absent": 0.08,
            # To a random embedder all questions mean the same.
            "max_meaning": 2.0,
            "duplicate_meaning": 2.0,
        },
        "tune": {"dtype": "float32", "trees_per_step": 2, "save_steps": 1, "learning_rate": 0.01, "epochs": 3},
        "compare": {"max_new_tokens": 12, "batch_tokens": 1200, "dev_questions": 3, "shots": 1},
    }


@pytest.fixture
def toy_project(tmp_path: Path, tiny_settings: Mapping[str, Any]) -> "Project":
    """A fresh project on a copy of the toy documents, with the tiny models."""
    from hybrid import Project

    shutil.copytree(_TOY, tmp_path / "toy")
    return Project.create(
        tmp_path / "project", tmp_path / "toy" / "docs", tmp_path / "toy" / "questions.jsonl", **tiny_settings
    )


@pytest.fixture(scope="session")
def one_thread() -> OneThread:
    """A block on one thread: floating-point sums depend on the number of threads; tiny models only wait for more."""

    @contextmanager
    def block() -> Iterator[None]:
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)

    return block


@pytest.fixture(scope="session")
def finished_project(
    tmp_path_factory: pytest.TempPathFactory, tiny_settings: Mapping[str, Any], one_thread: OneThread
) -> "Project":
    """A toy project after `run`. It is shared: tests that change it work on `finished_copy`."""
    from hybrid import Project

    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(_TOY, folder / "toy")
    project = Project.create(
        folder / "project", folder / "toy" / "docs", folder / "toy" / "questions.jsonl", **tiny_settings
    )
    with one_thread():
        project.run()
    return project


@pytest.fixture
def finished_copy(tmp_path: Path, finished_project: "Project") -> "Project":
    """A copy of the finished project and its documents."""
    from hybrid import Project

    shutil.copytree(finished_project.folder.parent, tmp_path / "copy")
    return Project.open(tmp_path / "copy" / "project")


@pytest.fixture(scope="session")
def hybrid_command() -> Command:
    """Runs the command line in a process of its own, from a folder that is not the repository."""

    def run(*arguments: str | Path, prefix: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        program = "import sys; from hybrid.cli import main; sys.exit(main())"
        command = [*prefix, sys.executable, "-c", program, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, encoding="utf-8")

    return run
