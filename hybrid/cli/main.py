"""Arguments of the command line, and what a mistake looks like: one line on stderr, no traceback.

Exit codes: 0 done, 1 the work failed, 2 wrong use. `--debug` shows the traceback of an error.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from hybrid.cli import commands
from hybrid.errors import HybridError
from hybrid.pairs.export import FORMATS

Command = Callable[[argparse.Namespace], None]
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    options = _parser().parse_args(arguments)
    _quiet_libraries()
    try:
        options.command(options)
        sys.stdout.flush()  # here, where a reader that has gone is handled
    except HybridError as error:
        return _fail(options, error, str(error), error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run the same command again to go on\n")
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has gone: there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(
            options,
            error,
            f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}; "
            "nothing that was finished is lost, run the same command again",
            1,
        )
    except (MemoryError, RuntimeError) as error:
        # torch, which is not imported here, has its own: OutOfMemoryError on a GPU, a plain RuntimeError on a CPU
        if (
            isinstance(error, RuntimeError)
            and "out of memory" not in str(error)
            and "allocate memory" not in str(error)
        ):
            raise
        return _fail(
            options,
            error,
            "out of memory; lower tune.max_tokens and compare.batch_tokens, or choose a smaller model",
            1,
        )
    return 0


def _fail(options: argparse.Namespace, error: BaseException, message: str, code: int) -> int:
    if options.debug:
        raise error
    sys.stderr.write(f"hybrid: {message}\n")
    return code


def _quiet_libraries() -> None:
    """Silences the libraries' own bars and advice: progress is ours, and stdout belongs to results."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("BITSANDBYTES_NOWELCOME", "1")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hybrid",
        description="From a folder of documents to a domain assistant, and the evidence for how to build it: "
        "retrieval, fine-tuning, or both.",
        epilog="Start with: hybrid init DIR --documents FOLDER --questions FILE.jsonl && hybrid run --project DIR",
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    init = _add(subparsers, "init", commands.init, "make a project folder", project=False)
    init.add_argument("folder", type=Path, help="the new project folder")
    init.add_argument("--documents", type=Path, required=True, help="folder, file or BEIR corpus.jsonl to answer from")
    init.add_argument("--questions", type=Path, help="questions and answers for the comparison, as for pairs --from")
    _add_stages(subparsers)
    ask = _add(subparsers, "ask", commands.ask, "answer one question with citations")
    ask.add_argument("question", nargs="+", help="the question")
    chat = _add(subparsers, "chat", commands.chat, "answer questions until you leave")
    serve = _add(subparsers, "serve", commands.serve, "answer over HTTP: an OpenAI-compatible API and a chat page")
    serve.add_argument("--host", default="127.0.0.1", help="address to bind to (default: this machine only)")
    serve.add_argument("--port", type=int, default=8000, help="port to bind to; 0 takes a free one (default: 8000)")
    for command in (ask, chat, serve):
        command.add_argument("--arm", help="hybrid, rag, tuned or base; by default hybrid if it is trained, else rag")
    _add(subparsers, "plan", commands.plan, "estimate memory and time of training, and whether it is worth it")
    _add(subparsers, "status", commands.status, "what is fresh, stale or missing, and why")
    _add_export(subparsers)
    return parser


def _add_stages(subparsers: Subparsers) -> None:
    for name, text in (
        ("run", "all stages that are not fresh"),
        ("index", "read, chunk and embed the documents"),
        ("pairs", "make training pairs"),
        ("tune", "train the adapters"),
        ("compare", "answer the questions with every arm"),
    ):
        stage = _add(subparsers, name, commands.stage, text)
        stage.set_defaults(stage=name, examples=None)
        stage.add_argument("--force", action="store_true", help="do it again although it is fresh")
        if name in {"run", "pairs"}:
            stage.add_argument(
                "--from",
                dest="examples",
                type=Path,
                metavar="FILE",
                help="learn from these questions and answers, not a teacher's; the same as --set pairs.file=FILE: "
                "a question file, SQuAD, a BEIR folder, PubMedQA, HotpotQA, prompt and completion, chat messages, "
                "ShareGPT, Alpaca, CSV or TSV",
            )


def _add_export(subparsers: Subparsers) -> None:
    export = _add(
        subparsers,
        "export",
        commands.export,
        "write the tuned model, merged with its base, as a safetensors folder, or the training pairs",
    )
    what = export.add_mutually_exclusive_group(required=True)
    what.add_argument("output", type=Path, nargs="?", help="the new folder of the model")
    what.add_argument("--pairs", type=Path, metavar="FOLDER", help="the new folder of the training pairs")
    export.add_argument("--arm", default="hybrid", choices=["hybrid", "tuned"], help="whose adapter")
    export.add_argument("--format", choices=["all", *FORMATS], help="format of the pairs (default: all)")


def _add(
    subparsers: Subparsers,
    name: str,
    command: Command,
    text: str,
    *,
    project: bool = True,
) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(command=command)
    if project:
        parser.add_argument(
            "--project", type=Path, default=Path(), metavar="DIR", help="the project folder (default: this one)"
        )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting, such as tune.epochs=2"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser
