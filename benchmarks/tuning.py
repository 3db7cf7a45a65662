"""Training speed on shared contexts: Hybrid against TRL's SFTTrainer with PEFT, on the same token ids.

    python benchmarks/tuning.py --device cpu --json > tuning.json

Every context has `--context` tokens and G questions of 20 tokens with answers of 15; loss on the answers alone. A step
trains 12 pairs. Each system runs in a process of its own, in rounds that take turns, LoRA of rank 16 on all linear
layers in fp32, no checkpointing, AdamW. `trl multi-turn` puts the G questions into one conversation: as cheap as
sharing, but another objective, since an answer sees the questions and answers before it. The gradient error is the
relative difference of Hybrid's gradient to that of separate samples through plain transformers and PEFT.

Needs `pip install trl`. The table goes to stderr; with `--json` one object goes to stdout.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from transformers import TrainerCallback

PAIRS = 12
QUESTION, ANSWER = 20, 15
SYSTEMS = ("hybrid", "trl", "trl multi-turn")
_PACKAGES = ("torch", "transformers", "peft", "trl")


class Pair(NamedTuple):
    """Token ids of one training pair."""

    context: int
    prompt: tuple[int, ...]
    answer: tuple[int, ...]


def make_pairs(contexts: int, per_context: int, context_tokens: int, seed: int) -> list[Pair]:
    """Random token ids: speed does not depend on what they mean."""
    rng = Random(seed)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(100, 40_000) for _ in range(count))

    pairs = []
    for number in range(contexts):
        shared = draw(context_tokens)
        pairs += [Pair(number, shared + draw(QUESTION), draw(ANSWER)) for _ in range(per_context)]
    return pairs


# --- what a process measures ------------------------------------------------------------------------------------------


class Clock(TrainerCallback):
    """Seconds of every optimiser step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.started = 0.0

    def on_step_begin(self, *_: object, **__: object) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *_: object, **__: object) -> None:
        self.seconds.append(time.perf_counter() - self.started)


def run_hybrid(pairs: Sequence[Pair], model: Path, per_context: int, folder: Path) -> list[float]:
    """Trains one step of context trees; returns its seconds."""
    import torch

    from hybrid.tuning.lora import fused_lora
    from hybrid.tuning.settings import TuneSettings
    from hybrid.tuning.trainer import TreeTrainer, prepare_model, training_arguments
    from hybrid.tuning.tree import Example, build_trees, pack_rows

    longest = max(len(p.prompt) + len(p.answer) for p in pairs) + per_context * (QUESTION + ANSWER)
    settings = TuneSettings(
        method="lora", dtype="float32", max_tokens=longest, trees_per_step=PAIRS // per_context, warmup_ratio=0.0
    )
    examples = [Example(str(n), str(p.context), p.prompt, p.answer) for n, p in enumerate(pairs)]
    trees = build_trees(examples, max_tokens=longest, min_shared_tokens=settings.min_shared_tokens)
    rows = pack_rows(trees, max_tokens=longest, seed=0)
    tuned = prepare_model(model, settings, torch.float32, torch.device("cpu"))
    clock = Clock()
    with fused_lora(tuned):
        trainer = TreeTrainer(tuned, training_arguments(settings, 0, folder, len(rows), len(trees)), rows)
        trainer.add_callback(clock)
        trainer.train()
    return clock.seconds


def run_trl(pairs: Sequence[Pair], model: Path, folder: Path, *, multi_turn: bool) -> list[float]:
    """Trains one step with TRL and PEFT on the same pairs; returns its seconds."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    records = _conversations(pairs) if multi_turn else [_record(p.prompt, p.answer) for p in pairs]
    arguments = SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=1,  # as Hybrid's rows; four to a batch took 143 s and 10.8 GB a step at G=1
        gradient_accumulation_steps=len(records),
        num_train_epochs=1,
        learning_rate=1e-3,
        optim="adamw_torch_fused",
        gradient_checkpointing=False,
        bf16=False,
        max_length=None,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    clock = Clock()
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=arguments,
        train_dataset=Dataset.from_list(records),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[clock],
    )
    trainer.train()
    return clock.seconds


def _record(prompt: Sequence[int], answer: Sequence[int]) -> dict[str, list[int]]:
    return {"input_ids": [*prompt, *answer], "labels": [-100] * len(prompt) + list(answer)}


def _conversations(pairs: Sequence[Pair]) -> list[dict[str, list[int]]]:
    """One record a context: the context once, then its questions and answers in turn."""
    records: dict[int, dict[str, list[int]]] = {}
    for pair in pairs:
        if pair.context not in records:
            records[pair.context] = _record(pair.prompt, pair.answer)
            continue
        question = pair.prompt[-QUESTION:]
        records[pair.context]["input_ids"] += [*question, *pair.answer]
        records[pair.context]["labels"] += [-100] * QUESTION + list(pair.answer)
    return list(records.values())


def gradient_error(pairs: Sequence[Pair], model: Path) -> float:
    """Relative difference of the adapters' gradient: context trees against separate samples."""
    import torch
    from torch.nn.functional import cross_entropy

    from hybrid.tuning.batch import collate
    from hybrid.tuning.lora import fused_lora
    from hybrid.tuning.loss import row_loss
    from hybrid.tuning.settings import TuneSettings
    from hybrid.tuning.trainer import prepare_model
    from hybrid.tuning.tree import Example, build_trees

    torch.manual_seed(0)
    tuned = prepare_model(model, TuneSettings(method="lora"), torch.float32, torch.device("cpu"))
    adapters = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    with torch.no_grad():  # the B matrices start at zero, which would leave A without a gradient
        for parameter in adapters:
            parameter.add_(torch.randn_like(parameter) * 0.02)
    examples = [Example(str(n), str(p.context), p.prompt, p.answer) for n, p in enumerate(pairs)]
    with fused_lora(tuned):
        for tree in build_trees(examples, max_tokens=10**6, min_shared_tokens=16):
            row_loss(tuned, collate((tree,))).backward()  # type: ignore[no-untyped-call]
    ours = torch.cat([parameter.grad.flatten() for parameter in adapters if parameter.grad is not None])
    tuned.zero_grad()
    tuned.get_base_model().set_attn_implementation("sdpa")
    for pair in pairs:
        ids = torch.tensor([[*pair.prompt, *pair.answer]])
        logits = tuned(input_ids=ids, use_cache=False).logits[0, len(pair.prompt) - 1 : -1]
        cross_entropy(logits, ids[0, len(pair.prompt) :], reduction="sum").backward()  # type: ignore[no-untyped-call]
    theirs = torch.cat([parameter.grad.flatten() for parameter in adapters if parameter.grad is not None])
    return float((ours - theirs).double().norm() / theirs.double().norm())


def _warm_up(model: Path) -> None:
    """A small forward pass, so that no system pays for the first use of a library."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.inference_mode():
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)(input_ids=torch.arange(100, 164)[None])


def measure(what: str, per_context: int, context_tokens: int) -> dict[str, Any]:
    """What a process reports: seconds of a step and its peak memory, or the gradient error."""
    from hybrid.config import SMOLLM2
    from hybrid.models import resolve_model

    model = resolve_model(SMOLLM2)
    pairs = make_pairs(PAIRS // per_context, per_context, context_tokens, seed=0)
    if what == "gradient":
        return {"gradient_error": gradient_error(pairs, model)}
    _warm_up(model)
    with tempfile.TemporaryDirectory() as folder:
        if what == "hybrid":
            (seconds,) = run_hybrid(pairs, model, per_context, Path(folder))
        else:
            (seconds,) = run_trl(pairs, model, Path(folder), multi_turn=what == "trl multi-turn")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {"seconds": seconds, "peak_mb": round(peak)}


# --- rounds and the table ---------------------------------------------------------------------------------------------


def _child(what: str, per_context: int, context_tokens: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", what, "--groups", str(per_context)]
    done = subprocess.run([*command, "--context", str(context_tokens)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what} at G={per_context} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(groups: Sequence[int], context_tokens: int, rounds: int) -> list[dict[str, Any]]:
    """Measures every system `rounds` times in turn and returns the rows of the table."""
    rows = []
    for per_context in groups:
        runs: dict[str, list[dict[str, Any]]] = {system: [] for system in SYSTEMS}
        for number in range(rounds):
            for system in SYSTEMS if number % 2 == 0 else reversed(SYSTEMS):
                runs[system].append(_child(system, per_context, context_tokens))
                sys.stderr.write(f"G={per_context} round {number + 1}: {system} {runs[system][-1]}\n")
        error = _child("gradient", per_context, context_tokens)["gradient_error"]
        speed = {s: PAIRS / statistics.median(run["seconds"] for run in found) for s, found in runs.items()}
        peak = {s: statistics.median(run["peak_mb"] for run in found) for s, found in runs.items()}
        rows += [
            {
                "G": per_context,
                "pairs_per_second": round(speed["hybrid"], 4),
                "peer": peer,
                "peer_pairs_per_second": round(speed[peer], 4),
                "ratio": round(speed["hybrid"] / speed[peer], 2),
                "peak_mb": peak["hybrid"],
                "peer_peak_mb": peak[peer],
                "gradient_error": error,
                "seconds": {system: [round(run["seconds"], 2) for run in runs[system]] for system in ("hybrid", peer)},
                "same_objective": peer == "trl",
            }
            for peer in SYSTEMS[1:]
        ]
    return rows


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["  G  peer             pairs/s   peer's  ratio  peak MB  peer's  gradient error"]
    lines += [
        f"{row['G']:3d}  {row['peer']:15s} {row['pairs_per_second']:8.3f} {row['peer_pairs_per_second']:8.3f} "
        f"{row['ratio']:5.2f}x {row['peak_mb']:8.0f} {row['peer_peak_mb']:7.0f}  {row['gradient_error']:.1e}"
        + ("" if row["same_objective"] else "  (another objective)")
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu"], default="cpu")
    parser.add_argument("--groups", type=int, nargs="+", default=[1, 4, 12], help="questions per context (G)")
    parser.add_argument("--context", type=int, default=700, help="tokens of a context (P)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of every system; the table holds medians")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on stdout")
    parser.add_argument("--measure", choices=[*SYSTEMS, "gradient"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if any(group < 1 or PAIRS % group for group in options.groups):
        parser.error(f"every G must divide the {PAIRS} pairs of a step, found {options.groups}")
    if options.measure:
        sys.stdout.write(json.dumps(measure(options.measure, options.groups[0], options.context)) + "\n")
        return
    rows = compare(options.groups, options.context, options.rounds)
    sys.stderr.write(_table(rows) + "\n")
    if options.json:
        result = {
            "command": f"python benchmarks/tuning.py --device {options.device} --context {options.context} "
            f"--groups {' '.join(map(str, options.groups))} --rounds {options.rounds} --json",
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "date": datetime.date.today().isoformat(),
            "versions": {name: metadata.version(name) for name in _PACKAGES},
            "model": "SmolLM2-135M-Instruct, LoRA r=16 on all linear layers, fp32, no checkpointing",
            "rows": rows,
        }
        sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
