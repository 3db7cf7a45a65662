"""The gates as a table: what each dropped, and what was left behind it."""

from __future__ import annotations

from collections.abc import Mapping

# The order of the gates. What is not named here was lost while the teacher's replies were read, before all of these.
GATES = (
    "no answer",
    "oracle not found",
    "more yes or no than wanted",
    "marked bad",
    "points at its passage",
    "joined as a contradiction",
    "quote not in its document",
    "duplicate",
    "near-duplicate",
    "one wording too many",
    "document of a comparison question",
    "like a comparison question",
    "runs of words of a comparison question",
    "means a comparison question",
    "not drawn",
    "oracle not retrieved",
    "not answered from its oracle",
    "proved by a passage of training",
    "like a training question",
    "no context",
    "over the total",
)
_PREFIX = "dropped: "


def funnel_table(counts: Mapping[str, float]) -> str:
    """Shows the counts of a pair set, gate by gate.

    Args:
        counts: `candidates`; `dropped: NAME` of every gate; `train` and `dev`, the pairs that are left.

    Returns:
        Lines with the gate, what it dropped and what was left, and the share of all candidates. A gate that dropped
        nothing shows that it was there.

    >>> counts = {"candidates": 200, "dropped: duplicate": 50, "dropped: no JSON object": 10, "train": 130, "dev": 10}
    >>> print(funnel_table(counts))
    gate               dropped  left
    written                      200  100 %
    - no JSON object        10   190   95 %
    - duplicate             50   140   70 %
    kept for training            130   65 %
    kept for choosing             10    5 %
    """
    dropped = {name.removeprefix(_PREFIX): int(n) for name, n in counts.items() if name.startswith(_PREFIX)}
    order = {gate: place for place, gate in enumerate(GATES)}
    total = left = int(counts.get("candidates", 0))
    rows: list[tuple[str, str, int]] = [("written", "", total)]
    for gate in sorted(dropped, key=lambda gate: order.get(gate, -1)):
        left -= dropped[gate]
        rows.append((f"- {gate}", str(dropped[gate]), left))
    rows += [
        ("kept for training", "", int(counts.get("train", 0))),
        ("kept for choosing", "", int(counts.get("dev", 0))),
    ]
    width = max(len(gate) for gate, _, _ in rows)
    number = max(4, len(str(total)))
    lines = [f"{'gate':<{width}}  dropped  {'left':>{number}}"]
    for gate, lost, remaining in rows:
        share = f"{round(100 * remaining / total) if total else 0:>3} %"
        lines.append(f"{gate:<{width}}  {lost:>7}  {remaining:>{number}}  {share}")
    return "\n".join(lines)
