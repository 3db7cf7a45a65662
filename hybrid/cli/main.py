"""Arguments of the command line, and what a mistake looks like: one line on stderr, no traceback.

Exit codes: 0 done, 1 the work failed, 2 wrong use. `--debug` shows the traceback of an error.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TypeAlias, get_args

from hybrid.benchmarks import BENCHMARKS
from hybrid.cli import commands, pairs_commands
from hybrid.errors import HybridError
from hybrid.pairs.formats.export import FORMATS
from hybrid.tuning.settings import GgufWeights
from hybrid.types import PairKind

Command = Callable[[argparse.Namespace], None]
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    options = _parser().parse_args(_joined(list(sys.argv[1:] if arguments is None else arguments)))
    _quiet_libraries()
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal that lacks a sign shows a question mark
        sys.stdout.reconfigure(errors="replace")
    try:
        options.command(options)
        if sys.stdout is not None:  # closed by the caller
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


def _joined(arguments: list[str]) -> list[str]:
    """Makes one word of `pairs show` and its like, which are commands of their own.

    Subparsers of `pairs` would accept its options before their name and then ignore them, such as `--force`, or set
    them back to their defaults, such as `--project`.
    """
    name = " ".join(arguments[:2])
    return [name, *arguments[2:]] if name in pairs_commands.COMMANDS else arguments


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
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it recommends a package that Hybrid does not need


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
    _add_comparison(subparsers.choices["compare"])
    merge = _add(
        subparsers, "merge", commands.merge, "put comparisons of several projects together in one report", project=False
    )
    merge.add_argument("projects", type=Path, nargs="+", help="projects that asked other questions, or had other seeds")
    merge.add_argument("--into", type=Path, required=True, metavar="FOLDER", help="where the report is written")
    _add_pairs(subparsers)
    ask = _add(subparsers, "ask", commands.ask, "answer one question with citations")
    ask.add_argument("question", nargs="+", help="the question")
    chat = _add(subparsers, "chat", commands.chat, "answer questions until you leave")
    serve = _add(subparsers, "serve", commands.serve, "answer over HTTP: an OpenAI-compatible API and a chat page")
    serve.add_argument("--host", default="127.0.0.1", help="address to bind to (default: this machine only)")
    serve.add_argument("--port", type=int, default=8000, help="port to bind to; 0 takes a free one (default: 8000)")
    for command in (ask, chat, serve):
        command.add_argument("--arm", help="an arm's name; by default hybrid if it is trained, else rag")
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
        stage = _add(subparsers, name, commands.compare if name == "compare" else commands.stage, text)
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


def _add_comparison(compare: argparse.ArgumentParser) -> None:
    """What a comparison can do beside the report."""
    compare.add_argument(
        "--benchmark", choices=list(BENCHMARKS), help="make the project from a published set, split without leaks"
    )
    compare.add_argument("--path", type=Path, metavar="FOLDER", help="where the copy of the set is")
    compare.add_argument(
        "--fold", type=int, default=0, metavar="N", help="which part of the set is asked about, from 0 (default: 0)"
    )
    compare.add_argument(
        "--robustness", action="store_true", help="also ask with distractors, contradictions, typos, injections …"
    )
    compare.add_argument("--sample", type=int, default=40, metavar="N", help="questions of --robustness (default: 40)")
    compare.add_argument("--blind", type=int, default=0, metavar="N", help="write a sheet of N answers to rate blind")
    compare.add_argument("--ratings", type=Path, nargs="+", metavar="FILE", help="evaluate rated sheets, one a rater")


def _add_pairs(subparsers: Subparsers) -> None:
    """What a reader does with pairs that have been made."""
    subparsers.choices[
        "pairs"
    ].epilog = f"To look at what was made: hybrid {', hybrid '.join(pairs_commands.COMMANDS)}."
    show, mark, page, review = (
        _add(subparsers, name, command, text) for name, (command, text) in pairs_commands.COMMANDS.items()
    )
    show.add_argument("--kind", default="", choices=get_args(PairKind), help="only pairs of this kind")
    show.add_argument("--asks", default="", metavar="SORT", help="only this sort of question, such as fact or number")
    show.add_argument("--document", default="", metavar="ID", help="only about documents with this in their id")
    show.add_argument("--source", default="", metavar="NAME", help="only of teachers or files with this in their name")
    show.add_argument("--search", default="", metavar="WORDS", help="only with these words in its texts")
    show.add_argument("--part", default="all", choices=["train", "dev", "all"], help="which part (default: all)")
    show.add_argument("--mark", default="", choices=["bad", "good", "none"], help="only pairs with this mark, or none")
    show.add_argument("--limit", type=int, default=20, metavar="N", help="most pairs, 0 for all (default: 20)")
    mark.add_argument("ids", nargs="+", metavar="ID", help="a pair's id, or the short one that pairs show prints")
    verdict = mark.add_mutually_exclusive_group(required=True)
    verdict.add_argument("--bad", dest="verdict", action="store_const", const="bad", help="drop it from now on")
    verdict.add_argument("--good", dest="verdict", action="store_const", const="good", help="somebody has looked")
    verdict.add_argument("--clear", dest="verdict", action="store_const", const=None, help="take the mark away")
    mark.add_argument("--reason", default="", metavar="TEXT", help="why")
    page.add_argument("--out", type=Path, required=True, metavar="FILE", help="the HTML file to write")
    review.add_argument("--port", type=int, default=8001, help="port to bind to; 0 takes a free one (default: 8001)")


def _add_export(subparsers: Subparsers) -> None:
    export = _add(
        subparsers,
        "export",
        commands.export,
        "write the tuned model, merged with its base, as a safetensors folder, or the training pairs",
    )
    what = export.add_mutually_exclusive_group(required=True)
    what.add_argument("output", type=Path, nargs="?", help="the new folder of the model, or the new file with --gguf")
    what.add_argument("--pairs", type=Path, metavar="FOLDER", help="the new folder of the training pairs")
    export.add_argument("--arm", default="hybrid", choices=["hybrid", "tuned"], help="whose adapter")
    export.add_argument(
        "--gguf", choices=get_args(GgufWeights), help="one file for llama.cpp with weights of this type"
    )
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
