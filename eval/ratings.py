"""What people said of a blinded sheet: who won, how sure that is, and whether the raters agree."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from hybrid.errors import EvaluationError
from hybrid.eval.blind import TEXT_COLUMNS, Key, texts_digest
from hybrid.eval.shares import wilson_interval
from hybrid.eval.statistics import Interval

_RATINGS = {"a": "A", "b": "B", "tie": "tie"}


@dataclass(frozen=True, slots=True)
class Ratings:
    """The ratings of one person.

    Attributes:
        rater: Their name.
        ratings: `A`, `B` or `tie` per item, in the order of the sheet.
        rewritten: Number of items whose texts are not those of the sheet.
    """

    rater: str
    ratings: tuple[str, ...]
    rewritten: int = 0


@dataclass(frozen=True, slots=True)
class Preference:
    """How one arm fared against another.

    Attributes:
        first: The arm whose wins are counted.
        second: The arm that it was compared with.
        n: Number of questions: wins, ties and losses.
        wins: Questions on which most raters preferred `first`.
        ties: Questions without a majority for either arm.
        losses: Questions on which most raters preferred `second`.
        same: Those of the ties that nobody rated, because both arms answered in the same words.
        win_interval: 95 % Wilson interval of the share of wins.
        loss_interval: That of the share of losses.
        p: Two-sided p-value of the sign test, which leaves ties out.
    """

    first: str
    second: str
    n: int
    wins: int
    ties: int
    losses: int
    same: int
    win_interval: Interval
    loss_interval: Interval
    p: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two raters agree.

    Attributes:
        raters: Their names.
        n: Number of items.
        share: Share of the items that they rated alike.
        kappa: Cohen's kappa; None if both gave one and the same rating throughout, which leaves it undefined.
    """

    raters: tuple[str, str]
    n: int
    share: float
    kappa: float | None


@dataclass(frozen=True, slots=True)
class HumanResult:
    """What the raters said together.

    Attributes:
        raters: Their names.
        preferences: One per pair of arms.
        agreements: One per pair of raters.
        rewritten: Per rater, the number of items that came back with other texts than they went out with.
    """

    raters: tuple[str, ...]
    preferences: tuple[Preference, ...]
    agreements: tuple[Agreement, ...]
    rewritten: tuple[int, ...]


def read_ratings(file: Path, key: Key) -> Ratings:
    """Reads the rated sheet of one person, who is named by the file: `answers.csv` filled in, or what the page saved.

    Cells may be separated by commas, semicolons or tabs, as spreadsheets do. These rewrite texts, too, such as 3/4 to a
    date and 007 to 7; a rating counts by the number of its item all the same, and such items are counted.

    Raises:
        EvaluationError: The file cannot be read or belongs to another sheet; an item is missing, there twice or
            unknown, or has the texts of another; its rating is missing or not one of A, B and tie.
    """
    rows = _rows(file)
    known = {item.item: item for item in key.items}
    texts = {item.texts for item in key.items}
    found: dict[str, str] = {}
    rewritten = 0
    for line, row in rows:
        where, item = f"{file}, row {line}", row["item"].strip()
        if row["sheet"].strip() != key.sheet:
            raise EvaluationError(f"{where}: it belongs to sheet {row['sheet']!r}, but the key is of {key.sheet!r}")
        if item not in known:
            raise EvaluationError(f"{where}: the sheet has no item {item!r}")
        if item in found:
            raise EvaluationError(f"{where}: item {item!r} is there twice")
        if set(TEXT_COLUMNS) <= row.keys() and (digest := texts_digest(row)) != known[item].texts:
            if digest in texts:
                raise EvaluationError(
                    f"{where}: item {item!r} has the texts of another item; its columns were sorted apart, so rate "
                    "again in rate.html or a fresh answers.csv"
                )
            rewritten += 1
        found[item] = _rating(row["rating"], where, item)
    if missing := [item for item in known if item not in found]:
        raise EvaluationError(f"{file}: {len(missing)} of {len(known)} items are missing: {', '.join(missing[:5])}")
    return Ratings(file.stem, tuple(found[item] for item in known), rewritten)


def sheet_of(file: Path) -> str:
    """The fingerprint of the sheet that a file rates, by its first row.

    Raises:
        EvaluationError: The file cannot be read or has no row.
    """
    rows = _rows(file)
    if not rows:
        raise EvaluationError(f"{file} holds no ratings")
    return rows[0][1]["sheet"].strip()


def judge_ratings(key: Key, raters: Sequence[Ratings]) -> HumanResult:
    """Turns the ratings of one or more people into wins, ties and losses per pair of arms.

    On every item the rating that more than half of the raters gave counts, and a tie where there is none.

    Raises:
        EvaluationError: There is no rater, two have one name, or one rated another number of items.
    """
    names = [rater.rater for rater in raters]
    if not names or len(set(names)) < len(names):
        raise EvaluationError(f"each rater needs a file with a name of its own, found {', '.join(names) or 'none'}")
    for rater in raters:
        if len(rater.ratings) != len(key.items):
            raise EvaluationError(f"{rater.rater} rated {len(rater.ratings)} items of {len(key.items)}")
    winners = [
        {"A": item.arm_a, "B": item.arm_b}.get(_majority(votes), "")
        for item, votes in zip(key.items, zip(*(rater.ratings for rater in raters), strict=True), strict=True)
    ]
    preferences = tuple(
        _preference(
            pair, [w for item, w in zip(key.items, winners, strict=True) if {item.arm_a, item.arm_b} == {*pair}], same
        )
        for pair, same in zip(key.pairs, key.same, strict=True)
    )
    agreements = tuple(_agreement(*pair) for pair in combinations(raters, 2))
    return HumanResult(tuple(names), preferences, agreements, tuple(rater.rewritten for rater in raters))


def cohen_kappa(one: Sequence[str], other: Sequence[str]) -> float | None:
    """Agreement beyond chance (Cohen 1960), at most 1; None where chance alone makes it certain, or without ratings.

    Raises:
        EvaluationError: The two did not rate equally many items.

    >>> cohen_kappa(["A", "A", "B", "tie"], ["A", "B", "B", "tie"])
    0.6363636363636364
    """
    if len(one) != len(other):
        raise EvaluationError(f"kappa needs two ratings per item, found {len(one)} and {len(other)}")
    n = len(one)
    observed = sum(a == b for a, b in zip(one, other, strict=True))
    counts, others = Counter(one), Counter(other)
    # In whole numbers, so that certainty by chance is told exactly: n² times the expected share of agreement.
    expected = sum(counts[rating] * others[rating] for rating in sorted(counts))
    return (n * observed - expected) / (n * n - expected) if expected < n * n else None


def _preference(pair: tuple[str, str], winners: Sequence[str], same: int) -> Preference:
    from scipy.stats import binomtest

    wins, losses = (sum(winner == arm for winner in winners) for arm in pair)
    n = len(winners) + same
    return Preference(
        first=pair[0],
        second=pair[1],
        n=n,
        wins=wins,
        ties=n - wins - losses,
        losses=losses,
        same=same,
        win_interval=wilson_interval(wins, n),
        loss_interval=wilson_interval(losses, n),
        p=float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0,
    )


def _majority(votes: Sequence[str]) -> str:
    rating, count = Counter(votes).most_common(1)[0]
    return rating if 2 * count > len(votes) else "tie"


def _agreement(one: Ratings, other: Ratings) -> Agreement:
    n = len(one.ratings)
    same = sum(a == b for a, b in zip(one.ratings, other.ratings, strict=True))
    return Agreement((one.rater, other.rater), n, same / n, cohen_kappa(one.ratings, other.ratings))


def _rating(text: str, where: str, item: str) -> str:
    if not text.strip():
        raise EvaluationError(f"{where}: item {item!r} is not rated; write A, B or tie")
    try:
        return _RATINGS[text.strip().lower()]
    except KeyError:
        raise EvaluationError(f"{where}: item {item!r} is rated {text!r}; it can be A, B or tie") from None


def _rows(file: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file by its header, each with its number as a spreadsheet counts."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise EvaluationError(f"there is no file of ratings {file}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{file} cannot be read as UTF-8 ({error}); save it as CSV UTF-8") from error
    header = text.partition("\n")[0]
    try:
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True))
    except csv.Error as error:
        raise EvaluationError(f"{file} is no CSV file: {error}") from error
    names = [name.strip() for name in table[0]] if table else []
    if lacking := [name for name in ("item", "rating", "sheet") if names.count(name) != 1]:
        raise EvaluationError(f"{file}: the header must have the column {lacking[0]!r} once, found {', '.join(names)}")
    rows = []
    for number, cells in enumerate(table[1:], 2):
        if any(cell.strip() for cell in cells):
            if len(cells) != len(names):
                raise EvaluationError(f"{file}, row {number}: {len(cells)} cells for {len(names)} columns")
            rows.append((number, dict(zip(names, cells, strict=True))))
    return rows
