"""Which questions are taken for dependent, so that they are resampled together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybrid.controls import by_document
from hybrid.eval.clusters import clusters, count_clusters
from hybrid.eval.comparison import GroupedBy
from hybrid.eval.statistics import can_show
from hybrid.pairs.oracles import find_support
from hybrid.types import Chunk, Question


def passage_groups(questions: Sequence[Question], chunks: Sequence[Chunk], tests: int = 1) -> dict[str, str] | None:
    """Groups questions by the passage that supports them, where by documents nothing could ever be shown.

    Args:
        questions: The questions that are compared on.
        chunks: All chunks of the index.
        tests: How many arms are tested.

    Returns:
        The label of the group by question id, for questions that name gold documents; None where these form enough
        groups of common documents.
    """
    with_gold = [question for question in questions if question.gold]
    if not with_gold or can_show(count_clusters(clusters(with_gold)).clusters, tests):
        return None
    chunks_of = by_document(chunks)
    labels = {}
    for question in with_gold:
        support = find_support(question, [c for document in question.gold for c in chunks_of.get(document, ())], [])
        labels[question.id] = support.chunk.id if support else question.gold[0]
    return labels


def grouped_by(groups: Mapping[str, str] | None) -> GroupedBy:
    """What the questions of a group have in common, where `passage_groups` says this of them."""
    return "document" if groups is None else "passage"


def dependence_notes(questions: Sequence[Question], groups: Mapping[str, str] | None) -> list[str]:
    """Says so where questions are not grouped by their gold documents."""
    notes = []
    if groups is not None:
        notes.append(
            "The questions are about so few documents that no difference could show by whole documents; those about "
            "one passage are taken together instead. Where passages of a document have more in common, intervals and "
            "p-values are too small."
        )
    answerable = [question for question in questions if question.answerable]
    without = sum(not question.gold for question in answerable)
    if without:
        notes.append(
            f"{without} of {len(answerable)} answerable questions name no gold document and are taken for independent "
            "of each other."
        )
    return notes
