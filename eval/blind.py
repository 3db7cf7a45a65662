"""A blinded sheet on which people rate the answers of two arms, and the key that says which arm is which.

sheet, key = make_sheet(questions, {"rag": texts, "hybrid": others}, [("hybrid", "rag")], n=50, seed=0)

The sheet goes out twice, as a CSV file for a spreadsheet and as a page for a browser, and names no arm. The key stays
behind. eval/ratings.py reads what comes back.
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from hybrid.errors import EvaluationError
from hybrid.types import Question

COLUMNS = ("item", "question", "reference", "answer_a", "answer_b", "rating", "sheet")
TEXT_COLUMNS = ("question", "reference", "answer_a", "answer_b")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so is run by spreadsheets


@dataclass(frozen=True, slots=True)
class Item:
    """What a rater sees: a question, its gold answers, and two answers to choose from."""

    item: str
    question: str
    reference: str
    answer_a: str
    answer_b: str


@dataclass(frozen=True, slots=True)
class KeyItem:
    """What a rater must not see: the arms of an item, and the fingerprint of its texts."""

    item: str
    question: str
    arm_a: str
    arm_b: str
    texts: str


@dataclass(frozen=True, slots=True)
class Key:
    """What turns ratings into results.

    Attributes:
        sheet: Fingerprint of the sheet.
        pairs: The pairs of arms that are compared.
        items: The items of the sheet, in its order.
        same: Number of questions per pair that both arms answered in the same words: ties that nobody needs to rate.
    """

    sheet: str
    pairs: tuple[tuple[str, str], ...]
    items: tuple[KeyItem, ...]
    same: tuple[int, ...]


class Sheet(NamedTuple):
    """The items in the order of the sheet, and its fingerprint."""

    id: str
    items: tuple[Item, ...]


def make_sheet(
    questions: Sequence[Question],
    answers: Mapping[str, Sequence[str]],
    pairs: Sequence[tuple[str, str]],
    *,
    n: int,
    seed: int,
) -> tuple[Sheet, Key]:
    """Draws questions and hides which arm gave which answer.

    Every pair of arms is shown on the same questions. Each of its arms is A on half of the items, and the items of all
    pairs are mixed.

    Args:
        questions: The questions, with distinct ids.
        answers: Per arm, its answers in the order of the questions.
        pairs: The pairs of arms to compare.
        n: Number of questions; all if there are fewer.
        seed: The same seed gives the same sheet.

    Raises:
        EvaluationError: `n` is below 1, an arm is unknown or paired with itself, a pair is there twice, or all drawn
            answers are the same.
    """
    if n < 1:
        raise EvaluationError(f"a blinded sheet needs at least one question, got {n}")
    _check_pairs(pairs, answers)
    rng = Random(seed)
    rows = sorted(rng.sample(range(len(questions)), min(n, len(questions))))
    texts = {arm: [_shown(text) for text in answers[arm]] for pair in pairs for arm in pair}
    drawn: list[tuple[int, tuple[str, str]]] = []
    same = []
    for pair in pairs:
        differ = [row for row in rows if texts[pair[0]][row] != texts[pair[1]][row]]
        same.append(len(rows) - len(differ))
        drawn += zip(differ, _halved(pair, len(differ), rng), strict=True)
    if not drawn:
        raise EvaluationError(
            f"the arms answered all {len(rows)} questions in the same words; there is nothing to rate"
        )
    rng.shuffle(drawn)
    items = tuple(
        Item(str(number), questions[row].question, _reference(questions[row]), texts[a][row], texts[b][row])
        for number, (row, (a, b)) in enumerate(drawn, 1)
    )
    sheet = _digest(*(asdict(item) for item in items))
    keys = tuple(
        KeyItem(item.item, questions[row].id, a, b, texts_digest(asdict(item)))
        for item, (row, (a, b)) in zip(items, drawn, strict=True)
    )
    return Sheet(sheet, items), Key(sheet, tuple(pairs), keys, tuple(same))


def _reference(question: Question) -> str:
    """What a rater judges by; a made-up answer may read better than a refusal that is right."""
    return " / ".join(question.answers) if question.answerable else "(The documents do not answer this question.)"


def write_sheet(sheet: Sheet, key: Key, folder: Path, key_file: Path, *, title: str) -> None:
    """Writes `answers.csv` and `rate.html` into the folder, and the key apart from them.

    Raises:
        EvaluationError: The folder holds another sheet, on which somebody may have worked.
    """
    content = {"answers.csv": _csv(sheet), "rate.html": _page(sheet, title)}
    for name, text in content.items():
        file = folder / name
        if file.exists() and file.read_bytes() != text.encode(errors="replace"):
            raise EvaluationError(f"{file} holds another or a rated sheet; move it away first")
    for file in (*(folder / name for name in content), key_file):
        file.parent.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / name).write_bytes(text.encode(errors="replace"))
    key_file.write_text(json.dumps(asdict(key), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_key(file: Path) -> Key:
    """Reads the key of a sheet.

    Raises:
        EvaluationError: The file is missing or no key.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return Key(
            sheet=str(values["sheet"]),
            pairs=tuple((str(first), str(second)) for first, second in values["pairs"]),
            items=tuple(KeyItem(**item) for item in values["items"]),
            same=tuple(int(count) for count in values["same"]),
        )
    except FileNotFoundError as error:
        raise EvaluationError(f"the key {file} is missing; make a sheet first: hybrid compare --blind 50") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{file} is no key of a blinded sheet: {error}") from error


def texts_digest(row: Mapping[str, Any]) -> str:
    """Fingerprint of an item's texts; white space, and what guards a cell against formulas, make no difference."""
    return _digest([" ".join(str(row[column]).removeprefix("'").split()) for column in TEXT_COLUMNS])


def _check_pairs(pairs: Sequence[tuple[str, str]], answers: Mapping[str, Sequence[str]]) -> None:
    for pair in pairs:
        for arm in pair:
            if arm not in answers:
                raise EvaluationError(f"there are no answers of an arm {arm!r}; there are {', '.join(answers)}")
        if pair[0] == pair[1]:
            raise EvaluationError(f"arm {pair[0]!r} cannot be compared with itself")
    if not pairs or len({frozenset(pair) for pair in pairs}) < len(pairs):
        raise EvaluationError(f"name each pair of arms once, found {list(pairs)}")


def _halved(pair: tuple[str, str], n: int, rng: Random) -> list[tuple[str, str]]:
    """The pair n times, the other way round in half of the places; chance decides on the odd one."""
    swapped = [False, True] * (n // 2) + [rng.random() < 0.5] * (n % 2)
    rng.shuffle(swapped)
    return [pair[::-1] if swap else pair for swap in swapped]


def _shown(text: str) -> str:
    # An arm that failed has no text; that it is empty must not depend on white space.
    return text.strip() or "(no answer)"


def _digest(*values: Any) -> str:  # noqa: ANN401
    return hashlib.sha256(json.dumps(values, ensure_ascii=True, sort_keys=True).encode()).hexdigest()[:16]


def _csv(sheet: Sheet) -> str:
    target = io.StringIO()
    writer = csv.DictWriter(target, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for item in sheet.items:
        cells = {name: _guarded(text) for name, text in asdict(item).items()}
        writer.writerow({**cells, "rating": "", "sheet": sheet.id})
    # Without the mark, Excel takes UTF-8 for the code page of the machine.
    return "\ufeff" + target.getvalue()


def _guarded(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _page(sheet: Sheet, title: str) -> str:
    import jinja2

    source = resources.files("hybrid.eval").joinpath("blind.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(source)
    return page.render(title=title, sheet=sheet.id, items=[asdict(item) for item in sheet.items]) + "\n"
