"""How good the offline teacher's kept pairs are in a careful reader's eyes: draws pairs to read, then counts.

    python benchmarks/teacher_sheet.py draw --data DATA --work /tmp/sheet
    python benchmarks/teacher_sheet.py count --work /tmp/sheet --reader "who read, and how far apart the passes were"

`draw` makes the pairs of every set with the default settings, so that the funnel is the product's own, and writes
WORK/pass1.jsonl and WORK/pass2.jsonl: the same pairs with question, answer, quote and chunk, each time in another
order. The reader writes verdict1.tsv and verdict2.tsv beside them, a line a pair: its number, a tab, and `right` or one
of the CLASSES below, the second time without looking at the first. Where the two differ, the pair is looked at once
more; final.tsv says what holds. `count` publishes benchmarks/results/teacher_sheet.csv and teacher_sheet.json.

Right is what a user could ask without having seen the passage (a topic named as `About TITLE:` counts as named), in
tolerable grammar, with an answer that its passage gives and that says all that was asked for.

The absent pairs of training are not drawn: their answer is the refusal. Only the handbook's questions and answers are
published; the others are named by the document and span of their quote.
"""

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import report

import hybrid
from hybrid.eval.shares import wilson_interval
from hybrid.pairs.formats.export import read_pairs
from hybrid.pairs.gates.funnel import GATES, funnel_table
from hybrid.retrieval.index import Index
from hybrid.types import Chunk, Pair

HANDBOOK = Path(__file__).resolve().parents[1] / "examples" / "handbook"
SETS = {"handbook": 34, "emanual_tv": 33, "squad11_dev13": 33}
PARTS = {"squad11_dev13": 1 / 3}  # of the documents, to save time
CLASSES = ("not self-contained", "unnatural or ungrammatical", "answer wrong", "answer incomplete", "trivial")
RIGHT = "right"
LIMITS = ("not drawn", "no context", "over the total")  # they say how much is wanted, not what is good
FIELDS = ("set", "id", "asks", "question", "answer", "judgement", "class", "first_pass", "second_pass")
Row = dict[str, Any]


def draw(options: argparse.Namespace) -> None:
    """Makes the pairs of all sets and writes those to read, numbered, in two orders."""
    rows: list[Row] = []
    figures: Row = {}
    for name, size in SETS.items():
        project = make_project(name, options)
        stage = project.pairs()
        chunks = {chunk.id: chunk for chunk in Index.load(project.path("index")).chunks}
        pairs = [pair for pair in read_pairs(project.path("pairs") / "train.jsonl") if pair.kind != "absent"]
        chosen = Random(f"{options.seed}/{name}").sample(pairs, min(size, len(pairs)))
        rows += [reading(name, pair, chunks) for pair in chosen]
        figures[name] = {"documents": len({chunk.document for chunk in chunks.values()}), **funnel(stage.manifest)}
        figures[name]["asks of all kept"] = dict(Counter(pair.asks for pair in pairs).most_common())
        sys.stderr.write(f"{name}\n{funnel_table(stage.manifest)}\n")
    numbered = [{"number": number, **row} for number, row in enumerate(rows, 1)]
    for order in (1, 2):
        shuffled = Random(f"{options.seed}/order {order}").sample(numbered, len(numbered))
        write_lines(options.work / f"pass{order}.jsonl", shuffled)
    record = {"seed": options.seed, "versions": stage.manifest["versions"], "funnels": figures}
    (options.work / "funnels.json").write_text(report.dump(record), encoding="utf-8")


def make_project(name: str, options: argparse.Namespace) -> hybrid.Project:
    """The project of a set, with the default settings and the set's questions for the comparison."""
    folder: Path = options.work / name
    if (folder / "hybrid.yaml").exists():
        return hybrid.Project.open(folder)
    if name == "handbook":
        return hybrid.Project.create(folder, HANDBOOK / "docs", HANDBOOK / "questions.jsonl")
    documents, questions = (
        read_lines(options.data / name / "corpus.jsonl"),
        read_lines(options.data / name / "qa.jsonl"),
    )
    size = round(PARTS.get(name, 1) * len(documents))
    kept = {documents[i]["_id"] for i in Random(f"{options.seed}/{name}").sample(range(len(documents)), size)}
    part = options.work / f"{name}_part"
    part.mkdir(parents=True, exist_ok=True)
    write_lines(part / "corpus.jsonl", [document for document in documents if document["_id"] in kept])
    write_lines(part / "qa.jsonl", [question for question in questions if kept.issuperset(question["gold"])])
    return hybrid.Project.create(folder, part / "corpus.jsonl", part / "qa.jsonl")


def reading(name: str, pair: Pair, chunks: Mapping[str, Chunk]) -> Row:
    """What the reader sees of a pair."""
    return {
        "set": name,
        "id": " ".join(f"{quote.document}#{quote.start}-{quote.end}" for quote in pair.quotes),
        "asks": pair.asks,
        "question": pair.question,
        "answer": pair.answer,
        "quotes": [quote.text for quote in pair.quotes],
        "chunks": [f"{chunks[oracle].title}: {chunks[oracle].text}" for oracle in pair.oracles],
    }


def funnel(manifest: Mapping[str, Any]) -> Row:
    """Counts of the gates, the share of the candidates that became pairs, and the share that every gate would pass.

    A limit on the number of pairs sets candidates aside before the later gates saw them: the share passed is the
    product of what each gate passed of those that reached it.

    >>> funnel({"candidates": 10, "dropped: duplicate": 2, "dropped: not drawn": 4, "dropped: oracle not retrieved": 1,
    ...         "train": 3, "dev": 0})["share_passed"]
    0.6
    """
    dropped = {gate: int(manifest[f"dropped: {gate}"]) for gate in GATES if f"dropped: {gate}" in manifest}
    left = int(manifest["candidates"])
    passed = 1.0
    for gate, count in dropped.items():
        if gate not in LIMITS and left:
            passed *= 1 - count / left
        left -= count
    kept = int(manifest["train"]) + int(manifest["dev"])
    return {
        "written": int(manifest["candidates"]),
        "dropped": dropped,
        "train": int(manifest["train"]),
        "dev": int(manifest["dev"]),
        "share_kept": round(kept / manifest["candidates"], 3),
        "share_passed": round(passed, 3),
    }


def count(options: argparse.Namespace) -> None:
    """Publishes the sheet and its figures."""
    drawn = sorted(read_lines(options.work / "pass1.jsonl"), key=lambda row: row["number"])
    first, second = (read_verdicts(options.work / f"verdict{n}.tsv", drawn) for n in (1, 2))
    last = read_verdicts(options.work / "final.tsv", [row for row in drawn if _differ(first, second, row)])
    final = {**second, **last}
    sheet = [published(row, first, second, final[row["number"]]) for row in drawn]
    record = json.loads((options.work / "funnels.json").read_text(encoding="utf-8"))
    sets = {name: {**tally(of_set(sheet, name)), "funnel": record["funnels"][name]} for name in SETS}
    result = {
        **report.header("python benchmarks/teacher_sheet.py draw --data DATA --work WORK", record["versions"]),
        "seed": record["seed"],
        "reader": options.reader,
        "part_of_documents": {name: round(part, 3) for name, part in PARTS.items()},
        "agreement": agreement(sheet),
        "all": tally(sheet),
        "sets": sets,
    }
    with (report.RESULTS / "teacher_sheet.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sheet)
    report.save("teacher_sheet", result)
    sys.stderr.write(table(sets, result["all"]) + "\n")


def read_verdicts(path: Path, rows: Iterable[Row]) -> dict[int, str]:
    """The verdicts by number, one for every row.

    Raises:
        SystemExit: One is missing, or is neither `right` nor a class.
    """
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n") if line]
    verdicts = {int(number): verdict for number, verdict, *_ in lines}
    if strange := [verdict for verdict in verdicts.values() if verdict not in {RIGHT, *CLASSES}]:
        raise SystemExit(f"{path}: {strange[0]!r} is no verdict; write one of {RIGHT}, {', '.join(CLASSES)}")
    if missing := [row["number"] for row in rows if row["number"] not in verdicts]:
        raise SystemExit(f"{path}: no verdict on number {missing[0]}")
    return verdicts


def published(row: Row, first: Mapping[int, str], second: Mapping[int, str], verdict: str) -> Row:
    """The row of the sheet: no text of a set that may not be copied."""
    is_ours = row["set"] == "handbook"
    return {
        **{key: row[key] for key in ("set", "id", "asks")},
        "question": row["question"] if is_ours else "",
        "answer": row["answer"] if is_ours else "",
        "judgement": RIGHT if verdict == RIGHT else "wrong",
        "class": "" if verdict == RIGHT else verdict,
        "first_pass": first[row["number"]],
        "second_pass": second[row["number"]],
    }


def tally(rows: Sequence[Row]) -> Row:
    """How many are right, with Wilson's interval, the classes of the others, and the same by what they ask."""
    right = sum(row["judgement"] == RIGHT for row in rows)
    by_asks = {
        asks: {"n": len(same), "right": sum(row["judgement"] == RIGHT for row in same)}
        for asks in sorted({row["asks"] for row in rows})
        for same in [[row for row in rows if row["asks"] == asks]]
    }
    return {
        "n": len(rows),
        "right": right,
        "share": round(right / len(rows), 3),
        "interval": [round(bound, 3) for bound in wilson_interval(right, len(rows))],
        "classes": dict(Counter(row["class"] for row in rows if row["class"]).most_common()),
        "by_asks": by_asks,
    }


def agreement(rows: Sequence[Row]) -> Row:
    """How often the reader's two passes agree: right or wrong, beyond chance (Cohen's kappa), and on the class."""
    passes = [[row[key] == RIGHT for row in rows] for key in ("first_pass", "second_pass")]
    same = sum(a == b for a, b in zip(*passes, strict=True)) / len(rows)
    shares = [sum(one) / len(rows) for one in passes]
    chance = shares[0] * shares[1] + (1 - shares[0]) * (1 - shares[1])
    return {
        "right_or_wrong": round(same, 3),
        "kappa": round((same - chance) / (1 - chance), 3) if chance < 1 else 1.0,
        "class": round(sum(row["first_pass"] == row["second_pass"] for row in rows) / len(rows), 3),
        "right": [sum(one) for one in passes],
    }


def table(sets: Mapping[str, Row], everything: Row) -> str:
    """The figures as text."""
    columns = [report.Column(title, title) for title in ("set", "written", "passed", "n", "right", "share", "interval")]
    columns += [report.Column(name, name) for name in CLASSES]
    rows = []
    for name, found in [*sets.items(), ("all", everything)]:
        gates = found.get("funnel", {})
        rows.append(
            {
                **{"set": name, "written": gates.get("written", "-"), "passed": gates.get("share_passed", "-")},
                **{key: found[key] for key in ("n", "right", "share")},
                "interval": "-".join(f"{bound:.2f}" for bound in found["interval"]),
                **{kind: found["classes"].get(kind, 0) for kind in CLASSES},
            }
        )
    return report.table(columns, rows)


def of_set(rows: Iterable[Row], name: str) -> list[Row]:
    return [row for row in rows if row["set"] == name]


def read_lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _differ(first: Mapping[int, str], second: Mapping[int, str], row: Row) -> bool:
    return first[row["number"]] != second[row["number"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    drawing = commands.add_parser("draw", help="make the pairs and draw those to read")
    drawing.add_argument("--data", type=Path, required=True, help="folder with emanual_tv/ and squad11_dev13/")
    drawing.add_argument("--seed", type=int, default=1)
    drawing.set_defaults(do=draw)
    counting = commands.add_parser("count", help="publish what the reader found")
    counting.add_argument("--reader", required=True, help="who read, and how, which the figures rest on")
    counting.set_defaults(do=count)
    for command in (drawing, counting):
        command.add_argument("--work", type=Path, required=True, help="folder of the projects and the pairs to read")
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
