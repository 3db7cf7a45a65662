"""From an index and a teacher, or the user's own questions, to training pairs with contexts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol

from tqdm import tqdm

from hybrid.config import PairsConfig, PromptConfig
from hybrid.errors import TrainingError
from hybrid.pairs import candidates as gates
from hybrid.pairs.candidates import Candidate, Funnel
from hybrid.pairs.contexts import ContextFigures, context_figures, plan_contexts
from hybrid.pairs.teacher import Draft, Teacher
from hybrid.types import Chunk, Document, Hit, Pair, Question

_POOL = 3  # candidates per pair wanted: contexts fill up better from a larger pool
_OWN_DROPPED = (
    "; questions of pairs.file about documents that the comparison asks about are left out: "
    "name other questions there, or unset pairs.file and let the teacher write them"
)
_MIN_RETRIEVED = 12  # of these the distractors are chosen


class Searcher(Protocol):
    """What pairs need of a retriever."""

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns the best `k` hits of every question."""
        ...


class PairSet(NamedTuple):
    """Pairs for training, pairs kept from training, and what happened on the way.

    Attributes:
        train: Pairs to train on.
        dev: Pairs about documents that `train` does not touch.
        counts: How many candidates there were, each gate dropped, and were kept; and `ContextFigures` of `train`.
    """

    train: list[Pair]
    dev: list[Pair]
    counts: dict[str, float]


def build_pairs(
    *,
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    searcher: Searcher,
    evaluation: Sequence[Question],
    teacher: Teacher,
    own: Sequence[Question],
    journal: Path,
    config: PairsConfig,
    prompt: PromptConfig,
    seed: int,
) -> PairSet:
    """Builds the pair set.

    Args:
        documents: The indexed documents.
        chunks: The indexed chunks.
        searcher: The project's retriever: contexts come from what it returns.
        evaluation: Comparison questions, which no pair may resemble.
        teacher: Drafts the questions where `own` is empty.
        own: The user's own questions, used instead of a teacher if there are any.
        journal: File that records finished drafts, so that an interrupted run goes on.
        config: Settings of this stage.
        prompt: The number of chunks and the refusal.
        seed: Seed of every random choice.

    Raises:
        TrainingError: No pair is left.
    """
    rng, funnel = Random(seed), Funnel()
    if own:
        found, hits = _from_questions(own, chunks, searcher, config, prompt, funnel)
    else:
        found, hits = _from_teacher(teacher, chunks, journal, config, rng), {}
        funnel.counts.update(teacher.figures().dropped)
    counts: dict[str, float] = {"candidates": len(found) + sum(funnel.counts.values())}
    kept = _gate(found, documents, evaluation, config, funnel, own=bool(own))
    if not own:
        kept = balanced_sample(kept, _POOL * config.total, rng)
        hits = _search(kept, searcher, _depth(config, prompt))
        kept = funnel.keep("oracle not retrieved", kept, lambda c: _rank_holds(c, hits[c.id], config.oracle_in_top))
    if not kept:
        raise TrainingError(
            f"no training pair is left of {counts['candidates']:.0f} candidates; dropped: {_listed(funnel.counts)}"
            + (_OWN_DROPPED if own else "")
        )
    train, dev = split_by_document(kept, config.dev_share, rng)
    by_id = {chunk.id: chunk for chunk in chunks}
    plan = partial(
        plan_contexts,
        retrieved=hits,
        chunks=by_id,
        k=prompt.k,
        budget=max(prompt.k, config.context_chunks),
        per_context=config.questions_per_context,
        p_absent=config.p_absent,
        refusal=prompt.refusal,
        rng=rng,
    )
    plans = [plan(train, total=config.total), plan(dev, total=max(1, round(config.dev_share * config.total)))]
    funnel.counts["no context"] = sum(plan.unplaced for plan in plans)
    funnel.counts["over the total"] = len(kept) - sum(len(plan.pairs) + plan.unplaced for plan in plans)
    counts |= {f"dropped: {name}": count for name, count in funnel.counts.items()}
    figures = context_figures(plans[0].pairs, hits, by_id, k=prompt.k)
    counts |= _found_by_retrieval(own, found) if own else teacher.figures().usage
    return PairSet(plans[0].pairs, plans[1].pairs, counts | _summary(plans[0].pairs, plans[1].pairs, figures))


def _summary(train: Sequence[Pair], dev: Sequence[Pair], figures: ContextFigures) -> dict[str, float]:
    kinds = {f"train {kind}": sum(pair.kind == kind for pair in train) for kind in ("grounded", "multi", "absent")}
    places = {f"oracle at place {place}": count for place, count in enumerate(figures.oracle_places, 1)}
    return {
        "train": len(train),
        **kinds,
        "dev": len(dev),
        "contexts": figures.contexts,
        "questions per context": round(figures.questions, 2),
        "most questions of a context": figures.largest,
        "chunks per context": round(figures.chunks, 2),
        "work saved (words)": round(figures.work_saved, 2),
        "own distractors kept": round(figures.own_kept, 3),
        "distractors that are own": round(figures.own_share, 3),
        "mean oracle rank": round(figures.oracle_rank, 2),
        **places,
    }


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "nothing"


def _from_questions(
    own: Sequence[Question],
    chunks: Sequence[Chunk],
    searcher: Searcher,
    config: PairsConfig,
    prompt: PromptConfig,
    funnel: Funnel,
) -> tuple[list[Candidate], dict[str, list[str]]]:
    chunks_of: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        chunks_of.setdefault(chunk.document, []).append(chunk)
    results = searcher.search([q.question for q in own], _depth(config, prompt))
    found, hits = [], {}
    for question, result in zip(own, results, strict=True):
        candidate = gates.candidates_from_question(
            question, chunks_of, [h.chunk for h in result], prompt.refusal, Path(config.file or "questions").name
        )
        if candidate:
            found.append(candidate)
            hits[candidate.id] = [hit.chunk.id for hit in result]
    funnel.counts["no answer"] = sum(question.answerable and not question.answers for question in own)
    funnel.counts["oracle not found"] = len(own) - len(found) - funnel.counts["no answer"]
    return found, hits


def _found_by_retrieval(own: Sequence[Question], found: Sequence[Candidate]) -> dict[str, int]:
    """How many candidates have an oracle in a document that their question does not name."""
    gold = {question.id: question.gold for question in own}
    elsewhere = sum(bool(c.oracles) and c.documents[0] not in gold[c.id] for c in found)
    return {"oracles found by retrieval": elsewhere}


def _from_teacher(
    teacher: Teacher, chunks: Sequence[Chunk], journal: Path, config: PairsConfig, rng: Random
) -> list[Candidate]:
    found = []
    for chunk, drafts in zip(chunks, journalled_drafts(teacher, chunks, journal), strict=True):
        found += [gates.candidate_from_draft(draft, chunk, teacher.name, rng) for draft in drafts]
    polar = [c for c in found if c.answer in {"yes", "no"}]
    allowed = {c.id for c in rng.sample(polar, min(len(polar), round(2 * config.p_yes_no * config.total)))}
    return [c for c in found if c.answer not in {"yes", "no"} or c.id in allowed]


def journalled_drafts(teacher: Teacher, chunks: Sequence[Chunk], journal: Path) -> Iterable[list[Draft]]:
    """Drafts every chunk, recording each in `journal`; what an interrupted run recorded is not drafted again."""
    done: dict[str, list[Draft]] = {}
    if journal.is_file():
        for line in journal.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                record = json.loads(line)
                done[record["chunk"]] = [Draft(*draft) for draft in record["drafts"]]
            except (ValueError, KeyError, TypeError):
                continue  # the line that was being written when the run was killed
    missing = [chunk for chunk in chunks if chunk.id not in done]
    with journal.open("w", encoding="utf-8") as file:
        file.writelines(_journal_line(chunk_id, drafts) for chunk_id, drafts in done.items())
        file.flush()
        for chunk, drafts in zip(
            missing,
            tqdm(teacher.draft(missing), "writing questions", len(missing), unit="chunk", leave=False),
            strict=True,
        ):
            file.write(_journal_line(chunk.id, drafts))
            file.flush()
            done[chunk.id] = drafts
    return [done[chunk.id] for chunk in chunks]


def _journal_line(chunk_id: str, drafts: Sequence[Draft]) -> str:
    return json.dumps({"chunk": chunk_id, "drafts": drafts}, ensure_ascii=False) + "\n"


def _gate(
    found: Sequence[Candidate],
    documents: Sequence[Document],
    evaluation: Sequence[Question],
    config: PairsConfig,
    funnel: Funnel,
    *,
    own: bool,
) -> list[Candidate]:
    texts = {document.id: document.text for document in documents}
    kept = funnel.keep("points at its passage", found, lambda c: own or gates.is_self_contained(c))
    kept = funnel.keep("quote not in its document", kept, lambda c: gates.quotes_hold(c, texts))
    kept = funnel.keep("duplicate", kept, gates.without_duplicates())
    kept = funnel.keep("like a comparison question", kept, gates.unlike_evaluation(evaluation, config.max_similarity))
    if own:
        # A question file may share documents with the comparison, and facts learnt from it would leak.
        evaluated = {document for question in evaluation for document in question.gold}
        kept = funnel.keep("document of a comparison question", kept, lambda c: not evaluated & set(c.documents))
    return kept


def _depth(config: PairsConfig, prompt: PromptConfig) -> int:
    return max(_MIN_RETRIEVED, 3 * prompt.k, config.context_chunks, config.oracle_in_top)


def _search(kept: Sequence[Candidate], searcher: Searcher, k: int) -> dict[str, list[str]]:
    results = searcher.search([candidate.question for candidate in kept], k)
    return {c.id: [hit.chunk.id for hit in result] for c, result in zip(kept, results, strict=True)}


def _rank_holds(candidate: Candidate, retrieved: Sequence[str], top: int) -> bool:
    return not top or not candidate.oracles or bool(set(candidate.oracles) & set(retrieved[:top]))


def balanced_sample(found: Sequence[Candidate], total: int, rng: Random) -> list[Candidate]:
    """Draws up to `total` candidates in turns over the chunks, so that no part of the documents dominates."""
    by_chunk: dict[str, list[Candidate]] = {}
    for candidate in rng.sample(list(found), len(found)):
        by_chunk.setdefault(candidate.oracles[0] if candidate.oracles else candidate.id, []).append(candidate)
    queues = list(by_chunk.values())
    drawn: list[Candidate] = []
    while queues and len(drawn) < total:
        drawn += [queue.pop() for queue in queues]
        queues = [queue for queue in queues if queue]
    return drawn[:total]


def split_by_document(found: Sequence[Candidate], share: float, rng: Random) -> tuple[list[Candidate], list[Candidate]]:
    """Sets about `share` of the candidates aside, by whole documents; the training part keeps at least one document.

    Documents that a candidate is about together stay together.
    """
    joined: dict[str, str] = {}

    def first(document: str) -> str:
        while joined.setdefault(document, document) != document:
            document = joined[document]
        return document

    for candidate in found:
        for document in candidate.documents[1:]:
            joined[first(document)] = first(candidate.documents[0])
    sizes = Counter(first(candidate.documents[0]) for candidate in found if candidate.documents)
    groups = sorted(sizes)
    rng.shuffle(groups)
    aside: set[str] = set()
    for group in groups[:-1]:
        if sum(map(sizes.__getitem__, aside)) >= share * len(found):
            break
        aside.add(group)
    dev = [c for c in found if c.documents and first(c.documents[0]) in aside]
    train = [c for c in found if not c.documents or first(c.documents[0]) not in aside]
    return train, dev
