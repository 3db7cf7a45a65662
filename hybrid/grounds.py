"""How far the answers of a comparison are supported: by the passages shown, and by citations of what proves them.

method = make_method("facts", passages)
values = groundedness(method, questions, replies, passages)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hybrid.config import Grounding
from hybrid.errors import ConfigError
from hybrid.eval import grounding
from hybrid.eval.answers import LABELS
from hybrid.eval.citation_scores import score_citations, verbatim_share
from hybrid.eval.comparison import Reply
from hybrid.eval.text_metrics import Embed
from hybrid.pairs.align import align
from hybrid.types import Document, Question, Quote

# How well each method tells supported claims from others, by benchmarks/results/groundedness.json: the two sets on
# which the claim alone gives little away.
AUROC: Mapping[str, Mapping[str, float]] = {
    "lexical": {"fever_symmetric_dev": 0.6741, "scifact_train": 0.7333},
    "facts": {"fever_symmetric_dev": 0.6841, "scifact_train": 0.7513},
    "embedding": {"fever_symmetric_dev": 0.6458, "scifact_train": 0.6852},
}
# Methods that read sentences: a short answer is a claim only together with its question.
_READERS = frozenset({"entailment", "judge"})


def make_method(
    name: Grounding, passages: Mapping[str, str], embed: Embed, reader: grounding.Grounding | None = None
) -> grounding.Grounding:
    """The method that `compare.grounding` names.

    Args:
        name: Its name, not `off`.
        passages: Texts of all chunks, by which rare words weigh more.
        embed: The project's embedder.
        reader: For `entailment` and `judge`: the model that reads.

    Raises:
        ConfigError: The method has no model to read with.
    """
    if name in _READERS:
        if reader is None:
            raise ConfigError(
                f"compare.grounding is {name}, but there is no model for it: see compare.entailment_model"
            )
        return reader
    if name == "embedding":
        return grounding.Similarity(embed, by_sentence=False)
    weights = grounding.inverse_document_frequency(passages.values())
    return grounding.Facts(weights) if name == "facts" else grounding.Lexical(weights)


def groundedness(
    name: Grounding,
    method: grounding.Grounding,
    questions: Sequence[Question],
    replies: Mapping[str, Sequence[Reply]],
    passages: Mapping[str, str],
) -> dict[str, list[float | None]]:
    """How far the passages that each reply was shown support it; all arms are scored together, equal claims once.

    None for what claims nothing: a refusal, a failure, an answer without a context, and where words are counted, a bare
    yes, no or maybe.

    Args:
        name: Name of the method.
        method: The method.
        questions: The questions.
        replies: Per arm one reply per question, in their order.
        passages: Texts of chunks by id.
    """
    claims = {
        arm: [_claim(name, question, reply, passages) for question, reply in zip(questions, own, strict=True)]
        for arm, own in replies.items()
    }
    distinct = list(dict.fromkeys(claim for own in claims.values() for claim in own if claim))
    scores = dict(zip(distinct, method.score(distinct), strict=True)) if distinct else {}
    return {arm: [scores[claim] if claim else None for claim in own] for arm, own in claims.items()}


def _claim(name: str, question: Question, reply: Reply, passages: Mapping[str, str]) -> tuple[str, str] | None:
    """Source and claim."""
    text = reply.text.strip()
    if reply.error or reply.abstained or not reply.contexts or not text:
        return None
    source = "\n\n".join(passages[chunk] for chunk in reply.contexts)
    if name in _READERS:
        return source, f"{question.question} {text}"
    return None if set(grounding.words(text)) <= set(LABELS) else (source, text)


def gold_spans(question: Question, documents: Mapping[str, Document]) -> tuple[Quote, ...]:
    """Where the gold documents say the question's quotes; one that none of them says is left out.

    >>> found = gold_spans(Question("1", "?", gold=("a",), quotes=("a  pump",)), {"a": Document("a", "It is a pump.")})
    >>> found[0].start, found[0].text
    (6, 'a pump')
    """
    found = []
    for quote in question.quotes:
        for document in question.gold:
            text = documents[document].text if document in documents else ""
            if span := align(quote, text):
                found.append(Quote(document, *span, text[slice(*span)]))
                break
    return tuple(found)


def citation_values(
    questions: Sequence[Question],
    replies: Mapping[str, Sequence[Reply]],
    documents: Mapping[str, Document],
    passages: Mapping[str, str],
) -> dict[str, dict[str, list[float | None]]]:
    """Precision, recall and F1 of citations against gold quotes, and the share of them that stand in their passages.

    The first three are about the questions with a quote that was found, and about arms with a context; a refusal or a
    failure cites nothing and scores 0. The last is about all replies that cite; what the model cited and no passage
    stands for (`Reply.invalid_citations`) is not verbatim.

    Returns:
        Per measure and arm one value per question.
    """
    gold = [gold_spans(question, documents) for question in questions]
    values: dict[str, dict[str, list[float | None]]] = {
        name: {} for name in ("citation_precision", "citation_recall", "citation_f1", "quotes_verbatim")
    }
    for arm, own in replies.items():
        cites = any(reply.contexts for reply in own)
        scores = [
            score_citations(reply.citations, spans if cites else ()) for reply, spans in zip(own, gold, strict=True)
        ]
        values["citation_precision"][arm] = [score.precision for score in scores]
        values["citation_recall"][arm] = [score.recall for score in scores]
        values["citation_f1"][arm] = [score.f1 for score in scores]
        values["quotes_verbatim"][arm] = [_verbatim(reply, passages) for reply in own]
    return values


def _verbatim(reply: Reply, passages: Mapping[str, str]) -> float | None:
    cited = len(reply.citations) + reply.invalid_citations
    share = verbatim_share(reply.citations, [passages[chunk] for chunk in reply.contexts]) or 0.0
    return share * len(reply.citations) / cited if cited else None
