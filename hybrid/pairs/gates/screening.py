"""The gates in their order: what a candidate has to pass before it may become a pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hybrid.config import PairsConfig
from hybrid.pairs import candidates as gates
from hybrid.pairs.candidates import Candidate, Funnel
from hybrid.pairs.combine import conflicting_candidates
from hybrid.pairs.gates.alike import QuestionVectors
from hybrid.pairs.gates.decontaminate import find_contaminated
from hybrid.pairs.gates.near_duplicates import find_repeats
from hybrid.pairs.gates.splits import quotes_apart
from hybrid.pairs.review.marks import Marks
from hybrid.types import Document, Question


def screen(
    found: Sequence[Candidate],
    documents: Mapping[str, Document],
    evaluation: Sequence[Question],
    vectors: QuestionVectors,
    marks: Marks,
    config: PairsConfig,
    funnel: Funnel,
    *,
    own: bool,
) -> list[Candidate]:
    """Passes all candidates through the gates that need no retrieval.

    What a teacher wrote must also make sense alone, and is thinned out where it repeats itself; questions to which two
    documents give different answers become one that names both. The user's own questions are data: they are dropped
    only if they are equal, cannot be proved, or would leak.

    Args:
        found: Candidates with ids of their own; of two that are alike the first is kept.
        documents: The indexed documents by id.
        evaluation: The comparison questions.
        vectors: Gives the vectors of questions.
        marks: What a reader found bad.
        config: Thresholds.
        funnel: Counts what each gate drops.
        own: Whether the candidates are the user's own questions.
    """
    texts = {key: document.text for key, document in documents.items()}
    # First of all, so that every candidate meets the marks and a mark without any is known to be out of date.
    kept = funnel.keep("marked bad", found, marks.unmarked)
    if not own:
        kept = funnel.keep("points at its passage", kept, gates.is_self_contained)
        conflicts = conflicting_candidates(kept)
        kept = funnel.keep("joined as a contradiction", kept, _not_in(conflicts.replaced))
        kept += funnel.keep("marked bad", conflicts.candidates, marks.unmarked)
    kept = funnel.keep("quote not in its document", kept, lambda c: gates.quotes_hold(c, texts))
    kept = funnel.keep("duplicate", kept, gates.without_duplicates())
    if not own:
        repeats = find_repeats(
            [c for c in kept if len(c.oracles) < 2],  # what was carried over of two questions repeats both on purpose
            vectors,
            in_words=config.duplicate_words,
            in_meaning=config.duplicate_meaning,
            paraphrases=config.paraphrases,
        )
        kept = funnel.keep("near-duplicate", kept, _not_in(repeats.reworded))
        kept = funnel.keep("one wording too many", kept, _not_in(repeats.surplus))
    if own:
        # A question file may share documents with the comparison, and facts learnt from it would leak.
        evaluated = {document for question in evaluation for document in question.gold}
        kept = funnel.keep("document of a comparison question", kept, lambda c: not evaluated & set(c.documents))
    return _unlike(kept, evaluation, vectors, config, funnel)


def _unlike(
    found: Sequence[Candidate],
    evaluation: Sequence[Question],
    vectors: QuestionVectors,
    config: PairsConfig,
    funnel: Funnel,
) -> list[Candidate]:
    kept = funnel.keep("like a comparison question", found, gates.unlike_evaluation(evaluation, config.max_similarity))
    asked = [question.question for question in evaluation]
    leaks = find_contaminated(kept, asked, vectors, run=config.shared_run, in_meaning=config.max_meaning)
    kept = funnel.keep("runs of words of a comparison question", kept, _not_in(leaks.in_words))
    return funnel.keep("means a comparison question", kept, _not_in(leaks.in_meaning))


def screen_combined(
    train: Sequence[Candidate],
    joined: Sequence[Sequence[Candidate]],
    is_found: Callable[[Candidate], bool],
    evaluation: Sequence[Question],
    vectors: QuestionVectors,
    marks: Marks,
    config: PairsConfig,
    funnel: Funnel,
) -> list[list[Candidate]]:
    """Passes what was made of two candidates, for training and for dev, through the gates that it has not passed yet.

    `is_found` tells whether retrieval finds the oracles of a candidate.
    """
    sides = [funnel.keep("marked bad", side, marks.unmarked) for side in joined]
    sides = [funnel.keep("oracle not retrieved", side, is_found) for side in sides]
    clean = [_unlike(side, evaluation, vectors, config, funnel) for side in sides]
    return [clean[0], screen_dev([*train, *clean[0]], clean[1], vectors, config, funnel)]


def screen_dev(
    train: Sequence[Candidate],
    dev: Sequence[Candidate],
    vectors: QuestionVectors,
    config: PairsConfig,
    funnel: Funnel,
) -> list[Candidate]:
    """Those of the candidates kept from training that training tells nothing about."""
    kept = funnel.keep("proved by a passage of training", dev, quotes_apart(train))
    trained = [candidate.question for candidate in train]
    leaks = find_contaminated(kept, trained, vectors, run=config.shared_run, in_meaning=config.max_meaning)
    return funnel.keep("like a training question", kept, _not_in(leaks.in_words | leaks.in_meaning))


def _not_in(ids: frozenset[str]) -> Callable[[Candidate], bool]:
    return lambda candidate: candidate.id not in ids
