"""The commands: they open the project, call its API and print the result."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from hybrid.arms import ARMS
from hybrid.assistant import Assistant
from hybrid.benchmarks import create_benchmark
from hybrid.blind import describe, judge_blind_sheet, write_blind_sheet
from hybrid.config import apply_override
from hybrid.errors import ConfigError, HybridError, QuestionError
from hybrid.eval.labels import duration
from hybrid.merge import merge as merge_projects
from hybrid.plan import Plan
from hybrid.project import Project, Report
from hybrid.robustness import markdown, run_robustness
from hybrid.stages.run import StageResult
from hybrid.types import Answer


def init(options: Namespace) -> None:
    """`hybrid init`."""
    settings: dict[str, Any] = {}
    for override in options.set:
        apply_override(settings, override)
    for key in ("folder", "documents", "questions"):
        if key in settings:
            raise ConfigError(f"--set {key}=…: give it as an argument of hybrid init instead")
    project = Project.create(options.folder, options.documents, options.questions, **settings)
    if options.json:
        _print_json({"project": str(project.folder)})
    else:
        print(f"made {project.folder}; next: hybrid run --project {options.folder}")


def stage(options: Namespace) -> None:
    """`hybrid run`, `index`, `pairs` and `tune`."""
    project = Project.open(options.project, [*options.set, *_examples(options)])
    done = getattr(project, options.stage)(force=options.force)
    results = done if isinstance(done, list) else [done]
    compared = any(result.stage == "compare" for result in results)
    _print_results(options, results, project.report() if compared else None)
    if options.stage == "run" and not compared and not options.json:
        print("no question file is set, so nothing was compared; try: hybrid ask")


def compare(options: Namespace) -> None:
    """`hybrid compare`, on the project's questions or on a published set, with what goes beyond the report."""
    if bool(options.benchmark) != bool(options.path):
        raise ConfigError("--benchmark NAME and --path FOLDER belong together: the set, and where its copy is")
    if options.fold and not options.benchmark:
        raise ConfigError("--fold is a part of a published set; name it by --benchmark NAME --path FOLDER")
    if options.benchmark:
        project = create_benchmark(options.benchmark, options.path, options.project, options.set, fold=options.fold)
    else:
        project = Project.open(options.project, options.set)
    if options.ratings:
        rated = judge_blind_sheet(project, options.ratings)
        return _print_json(asdict(rated)) if options.json else print(describe(rated))
    result = project.compare(force=options.force)
    robustness = run_robustness(project, sample=options.sample, force=options.force) if options.robustness else None
    sheet = write_blind_sheet(project, options.blind) if options.blind else None
    further = {"robustness": asdict(robustness)} if robustness else {}
    _print_results(options, [result], project.report(), {**further, **({"blind": str(sheet)} if sheet else {})})
    if robustness and not options.json:
        print(f"\n{markdown(robustness)}")
    if sheet and not options.json:
        print(
            f"\nto rate blind, one of {sheet / 'rate.html'} and {sheet / 'answers.csv'}; then: hybrid compare --ratings"
        )
    return None


def merge(options: Namespace) -> None:
    """`hybrid merge`."""
    report = merge_projects([Project.open(folder, options.set) for folder in options.projects], options.into)
    if "seeds" in report.data and not options.json:
        return print(f"{report.verdict}\n\nreport: {report.folder / 'seeds.html'}")
    return _print_results(options, [], report)


def _print_results(
    options: Namespace, results: Sequence[StageResult], report: Report | None, further: Mapping[str, Any] | None = None
) -> None:
    if options.json:
        data = {**(report.data if report else {}), **(further or {})}
        _print_json({"stages": [_stage_json(result) for result in results], **data})
        return
    for result in results:
        print(_stage_line(result))
    if report:
        print(f"\n{format_table(report)}\n\n{report.verdict}\n\nreport: {report.folder / 'report.html'}")


def _examples(options: Namespace) -> list[str]:
    """`--from FILE` as the setting it stands for, which like `--set` holds for one command."""
    if options.examples is None:
        return []
    setting = json.dumps(str(options.examples.resolve()), ensure_ascii=False)
    sys.stderr.write(f"for later commands set pairs.file to {setting} in {options.project / 'hybrid.yaml'}\n")
    return [f"pairs.file={setting}"]


def _stage_json(result: StageResult) -> dict[str, Any]:
    return {
        "stage": result.stage,
        "skipped": result.skipped,
        **{k: v for k, v in result.manifest.items() if k != "stage"},
    }


def _stage_line(result: StageResult) -> str:
    shown = (
        "documents",
        "chunks",
        "train",
        "dev",
        "contexts",
        "questions per context",
        "steps",
        "loss_first",
        "loss_last",
        "questions",
    )
    facts = ", ".join(
        f"{key.replace('_', ' ')} {_number(result.manifest[key])}" for key in shown if key in result.manifest
    )
    if stats := result.manifest.get("stats"):
        saved = stats["separate_tokens"] / stats["unique_tokens"]
        facts += f", {stats['mean_branches']:.1f} examples per context, {saved:.1f} times fewer tokens by sharing"
    state = "fresh, skipped" if result.skipped else f"done in {result.manifest['seconds']:.0f} s"
    kernels = "; ".join(f"{kind}: {what}" for kind, what in result.manifest.get("kernels", {}).items())
    return f"{result.stage:<12} {state} ({facts})" + (f"\n{'':<12} {kernels}" if kernels else "")


def _number(value: float) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def format_table(report: Report) -> str:
    """The main table of a report as text."""
    header = (
        "arm",
        "F1",
        "EM",
        "ROUGE-L",
        "contains",
        "recall@k",
        "abstained",
        "s/question",
        "F1 against rag (95% interval)",
    )
    rows = [header]
    for arm in report.data["arms"]:
        versus = arm["vs_rag"]
        difference = (
            f"{versus['f1_difference']:+.3f} ({versus['low']:+.3f} to {versus['high']:+.3f}), p={versus['p']:.4f}"
            if versus
            else "–"
        )
        recall = "–" if arm["recall_at_k"] is None else f"{arm['recall_at_k']:.2f}"
        rows.append(
            (
                arm["name"],
                *(f"{arm[key]:.3f}" for key in ("f1", "em", "rouge_l", "contains")),
                recall,
                f"{arm['abstained']:.2f}",
                f"{arm['seconds']:.2f}",
                difference,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _assistant(options: Namespace) -> Assistant:
    """Loads the assistant, and says so if it answers from what has changed since."""
    project = Project.open(options.project, options.set)
    assistant = project.assistant(options.arm)
    _tell_stale(options, project, {"index", f"tune/{ARMS[assistant.arm].adapter}"})
    return assistant


def _tell_stale(options: Namespace, project: Project, used: Collection[str]) -> None:
    with suppress(HybridError):  # what is there is of use where the documents are gone, too
        stale = [f"{s.stage} ({s.reason})" for s in project.status() if s.state == "stale" and s.stage in used]
        if stale:
            sys.stderr.write(f"stale: {', '.join(stale)}; to renew it, run: hybrid run --project {options.project}\n")


def ask(options: Namespace) -> None:
    """`hybrid ask`."""
    answer = _assistant(options).ask(" ".join(options.question))
    if options.json:
        _print_json(asdict(answer))
    else:
        print(answer.text)
        _print_citations(answer)
    _tell_cut_off(answer)


def _tell_cut_off(answer: Answer) -> None:
    if answer.cut_off:
        sys.stderr.write("the answer was cut off; for longer ones set compare.max_new_tokens\n")


def chat(options: Namespace) -> None:
    """`hybrid chat`: each question is answered on its own."""
    assistant = _assistant(options)
    interactive = sys.stdin.isatty()
    if interactive:
        print(f"Answering as {assistant.arm}. An empty line or Ctrl-D ends the chat.")
    while True:
        try:
            question = input("> " if interactive else "").strip()
        except EOFError:
            break
        if not question:
            if interactive:
                break
            continue
        stream = assistant.stream(question)
        try:
            for piece in stream:
                if not options.json:
                    print(piece, end="", flush=True)
        except (ConfigError, QuestionError) as error:  # of this question: the next may be well
            sys.stderr.write(f"hybrid: {error}\n")
            continue
        if options.json:
            _print_json({"question": question, **asdict(stream.answer)})
        else:
            print()
            _print_citations(stream.answer)
        _tell_cut_off(stream.answer)


def _print_citations(answer: Answer) -> None:
    for citation in answer.citations:
        page = f" (page {citation.page})" if citation.page else ""
        print(
            f"  [{citation.number}] {citation.document}:{citation.start}-{citation.end}{page}"
            f"  “{' '.join(citation.quote.split())}”"
        )


def serve(options: Namespace) -> None:
    """`hybrid serve`: until Ctrl-C."""
    from hybrid.server import make_server

    assistant = _assistant(options)
    with make_server(assistant, options.host, options.port) as server, suppress(KeyboardInterrupt):
        sys.stderr.write(f"Answering as {assistant.arm} on {server.url} (Ctrl-C ends)\n")
        if not server.is_local:
            sys.stderr.write("Everyone who reaches this address can ask: there is no password\n")
        if options.json:
            print(json.dumps({"url": server.url, "arm": assistant.arm}), flush=True)
        server.serve_forever()


def plan(options: Namespace) -> None:
    """`hybrid plan`."""
    from hybrid.planning import plan_project

    made = plan_project(Project.open(options.project, options.set))
    if options.json:
        _print_json({**asdict(made), "total_mb": made.memory.total, "peak_mb": made.memory.peak})
    else:
        print(format_plan(made))


def format_plan(plan: Plan) -> str:
    """A plan as text."""
    lines = [
        f"model    {plan.model}, {plan.parameters / 1e6:.1f} million parameters; {plan.method} trains "
        f"{plan.trained_parameters / 1e6:.2f} million on {plan.machine.device} in {plan.machine.dtype}"
    ]
    for work in plan.workloads:
        source = "counted from the pairs" if work.exact else "estimated from the documents"
        lines.append(
            f"{work.adapter:<8} {work.pairs} pairs in {work.rows} rows, {work.tokens} tokens a pass "
            f"({work.separate_tokens} without sharing), {source}"
        )
    memory = plan.memory
    parts = ", ".join(f"{name} {size:.0f}" for name, size in asdict(memory).items() if size and name != "loading")
    reading = f"; {memory.peak:.0f} MB while the model is read" if memory.loading else ""
    lines.append(f"memory   about {memory.total:.0f} MB ({parts}){reading}; {plan.machine.free_mb:.0f} MB are free")
    lines.append(
        f"time     about {duration(plan.seconds)} at {plan.machine.flops / 1e9:.0f} GFLOP/s, measured just now"
    )
    if plan.drafts:
        lines.insert(1, f"pairs    {plan.drafts}")
    return "\n".join([*lines, "", *plan.advice])


def status(options: Namespace) -> None:
    """`hybrid status`."""
    states = Project.open(options.project, options.set).status()
    if options.json:
        _print_json({"stages": [state._asdict() for state in states]})
    else:
        for state in states:
            print(f"{state.stage:<12} {state.state:<8} {state.reason}".rstrip())


def export(options: Namespace) -> None:
    """`hybrid export`."""
    if options.format and not options.pairs:
        raise ConfigError(f"--format {options.format} is a format of training pairs: add --pairs FOLDER")
    if options.gguf and options.pairs:
        raise ConfigError(f"--gguf {options.gguf} is a type of a model's weights: name its new file, without --pairs")
    project = Project.open(options.project, options.set)
    if options.pairs:
        formats = [] if options.format in {None, "all"} else [options.format]
        left_out = project.export_pairs(options.pairs, *formats)
        for name, count in left_out.items():
            sys.stderr.write(f"{count} pairs cannot be written as {name}, which has no place for such pairs\n")
        written = {"pairs": str(options.pairs), "left_out": left_out}
    else:
        written = {"model": str(project.export(options.output, options.arm, options.gguf))}
        _tell_stale(options, project, {f"tune/{options.arm}"})
    if options.json:
        _print_json(written)
    else:
        print(f"wrote {options.pairs or options.output}")


def _print_json(value: dict[str, Any] | Sequence[Any]) -> None:
    print(json.dumps(value, ensure_ascii=False))
