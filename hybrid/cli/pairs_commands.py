"""The commands of a reader of pairs: show, mark, page and review."""

from __future__ import annotations

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from hybrid.artefacts import read_manifest
from hybrid.errors import ConfigError
from hybrid.pairs.review.marks import Verdict, read_marks
from hybrid.pairs.review.show import Filter, entries, fits, format_entry, format_funnel, format_marks, funnel
from hybrid.project import Project
from hybrid.stages.pairs import published_page, read_parts

if TYPE_CHECKING:
    from hybrid.server.review import Reviewed


def show(options: Namespace) -> None:
    """`hybrid pairs show`."""
    if options.limit < 0:
        raise ConfigError(f"--limit is {options.limit}; it must be 0, for all pairs, or more")
    project = Project.open(options.project, options.set)
    parts, marks = read_parts(project), read_marks(project.marks)
    counts = read_manifest(project.path("pairs")) or {}
    part = "" if options.part == "all" else options.part
    wanted = Filter(
        options.kind, options.asks, options.document, options.source, options.search, part=part, mark=options.mark
    )
    found = [entry for entry in entries(parts, marks) if fits(entry, wanted)]
    listed = found[: options.limit or None]
    if options.json:
        pairs = [{**asdict(e.pair), "part": e.part, "mark": asdict(e.mark) if e.mark else None} for e in listed]
        steps = [step._asdict() for step in funnel(counts)]
        print(json.dumps({"funnel": steps, "matching": len(found), "pairs": pairs}, ensure_ascii=False))
        return
    width = shutil.get_terminal_size().columns
    told = [format_funnel(counts), format_marks(marks, counts), *(format_entry(entry, width) for entry in listed)]
    if len(listed) < len(found):
        told.append(f"{len(listed)} of {len(found)} pairs; --limit 0 shows all")
    elif not found:
        told.append("no pair fits")
    print("\n\n".join(filter(None, told)))


def mark(options: Namespace) -> None:
    """`hybrid pairs mark`."""
    if options.reason and options.verdict is None:
        raise ConfigError("--reason belongs to --bad or --good; --clear takes mark and reason away")
    project = Project.open(options.project, options.set)
    project.mark_pairs(options.ids, options.verdict, options.reason)
    if options.json:
        print(json.dumps({"marks": str(project.marks), "changed": len(options.ids)}))
    else:
        done = f"marked {options.verdict}" if options.verdict else "cleared"
        next_run = f"; to leave them out, run: hybrid pairs --project {options.project}"
        print(f"{len(options.ids)} {done} in {project.marks}{next_run if options.verdict == 'bad' else ''}")


def page(options: Namespace) -> None:
    """`hybrid pairs page`."""
    text = published_page(Project.open(options.project, options.set))
    options.out.write_text(text, encoding="utf-8")
    print(json.dumps({"page": str(options.out)}) if options.json else f"wrote {options.out}")


@dataclass(frozen=True, slots=True)
class _Review:
    """A project as the review server sees it."""

    project: Project

    def page(self, token: str) -> str:
        return published_page(self.project, token)

    def mark(self, key: str, verdict: Verdict | None, reason: str) -> None:
        self.project.mark_pairs([key], verdict, reason)


def review(options: Namespace) -> None:
    """`hybrid pairs review`: until Ctrl-C."""
    from hybrid.server.review import make_review_server

    project = Project.open(options.project, options.set)
    read_parts(project)  # a project without pairs is told so here, not in the browser
    reviewed: Reviewed = _Review(project)
    with make_review_server(reviewed, options.port) as server, suppress(KeyboardInterrupt):
        sys.stderr.write(f"Review the pairs on {server.url}; marks go to {project.marks} (Ctrl-C ends)\n")
        if options.json:
            print(json.dumps({"url": server.url}), flush=True)
        server.serve_forever()


COMMANDS: dict[str, tuple[Callable[[Namespace], None], str]] = {
    "pairs show": (show, "list the pairs and the funnel they came through"),
    "pairs mark": (mark, "mark pairs as bad or good; the next run drops the bad ones"),
    "pairs page": (page, "write one HTML page about all pairs, as the pairs stage does"),
    "pairs review": (review, "serve that page to a browser on this machine, and save the marks made on it"),
}
