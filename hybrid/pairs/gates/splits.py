"""Sets pairs aside so that what is kept from training shares no document with it, nor a copy of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from random import Random

from hybrid.pairs.candidates import Candidate, words
from hybrid.pairs.gates.minhash import Runs, shingles, similar_sets
from hybrid.types import Document, Quote

_RUN = 5  # words
_QUOTE = 4  # words; shorter quotes are equal by chance


class _Groups:
    """Names in groups that can be joined; each group goes by one of its names."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        while self._above.setdefault(name, name) != name:
            self._above[name] = self._above[self._above[name]]
            name = self._above[name]
        return name

    def join(self, one: str, other: str) -> None:
        self._above[self[other]] = self[one]


def similar_documents(documents: Sequence[Document], threshold: float) -> dict[str, str]:
    """Groups documents whose texts are near-duplicates, such as versions of one file.

    Args:
        documents: The documents.
        threshold: Jaccard similarity of the runs of five words from which on two texts are near-duplicates. Documents
            that are joined by a chain of others belong together.

    Returns:
        The group of each document, by document id: the id of one of them.

    >>> texts = {"a": "Fill the tank to the mark.", "b": "Fill the tank to the mark!", "c": "Check the pump daily."}
    >>> similar_documents([Document(name, text) for name, text in texts.items()], 0.5)
    {'a': 'a', 'b': 'a', 'c': 'c'}
    """
    first: dict[bytes, str] = {}
    names: list[str] = []
    sets: list[Runs] = []
    groups = _Groups()
    for document in documents:
        runs = shingles(document.text, _RUN)
        # Equal texts are joined at once: thousands of copies would otherwise be compared with each other.
        name = first.setdefault(sha256(runs.tobytes()).digest(), document.id) if len(runs) else document.id
        if name != document.id:
            groups.join(name, document.id)
            continue
        names.append(document.id)
        sets.append(runs)
    for one, other, _ in similar_sets(
        sets, threshold, wanted=lambda one, other: groups[names[one]] != groups[names[other]]
    ):
        groups.join(names[one], names[other])
    return {document.id: groups[document.id] for document in documents}


def split_by_document(
    found: Sequence[Candidate], share: float, rng: Random, together: Mapping[str, str] | None = None
) -> tuple[list[Candidate], list[Candidate]]:
    """Sets about `share` of the candidates aside, by whole documents; the training part keeps at least one document.

    Documents that a candidate is about together stay together, and so do those of one group.

    Args:
        found: The candidates; those about no document are trained on.
        share: Share of them to set aside.
        rng: Source of randomness.
        together: The group of each document, from `similar_documents`.

    Returns:
        The candidates to train on, and those set aside, each in their order.
    """
    groups = _Groups()
    for candidate in found:
        for document in candidate.documents:
            groups.join(candidate.documents[0], document)
            if together and document in together:
                # Group names are document ids themselves, so a prefix keeps the two kinds of name apart.
                groups.join(candidate.documents[0], f"group {together[document]}")
    sizes = Counter(groups[candidate.documents[0]] for candidate in found if candidate.documents)
    names = _first_documents(found, groups)
    order = sorted(sizes, key=names.__getitem__)
    rng.shuffle(order)
    aside: set[str] = set()
    held = 0
    for group in order:
        if held >= share * len(found):
            break
        if held + sizes[group] <= max(share, 0.5) * len(found):  # one large document shall not leave training without
            aside.add(group)
            held += sizes[group]
    dev = [c for c in found if c.documents and groups[c.documents[0]] in aside]
    train = [c for c in found if not c.documents or groups[c.documents[0]] not in aside]
    return train, dev


def _first_documents(found: Iterable[Candidate], groups: _Groups) -> dict[str, str]:
    """The least document id of each group, which does not depend on the order of joining."""
    names: dict[str, str] = {}
    for candidate in found:
        for document in candidate.documents:
            group = groups[document]
            names[group] = min(document, names.get(group, document))
    return names


def quotes_apart(train: Sequence[Candidate]) -> Callable[[Candidate], bool]:
    """A gate for candidates kept from training: drops those with an oracle or a quote that training shows too.

    Passages are repeated in documents that differ otherwise; quotes of fewer than four words are not looked at.
    """
    oracles = {oracle for candidate in train for oracle in candidate.oracles}
    quoted = {text for candidate in train for text in _quoted(candidate.quotes)}

    def passes(candidate: Candidate) -> bool:
        return oracles.isdisjoint(candidate.oracles) and quoted.isdisjoint(_quoted(candidate.quotes))

    return passes


def _quoted(quotes: Iterable[Quote]) -> Iterable[tuple[str, ...]]:
    said = (tuple(words(quote.text)) for quote in quotes)
    return (quote for quote in said if len(quote) >= _QUOTE)
