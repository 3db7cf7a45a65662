"""Says a drafted question in other words, so that a reader trained on it learns to match meaning and not only letters.

The lexicon holds words that mean the same wherever they stand; a word that is noun and verb, or that belongs to many
phrases ("hold", "way"), is not in it, as a wrong word makes a question wrong. The choice depends on the text alone: the
same question is always put the same way.
"""

from __future__ import annotations

import hashlib
import re

_LEXICON = {
    "approximately": ("about", "roughly"),
    "purchased": ("bought",),
    "largest": ("biggest",),
    "annually": ("every year",),
    "requires": ("needs",),
    "required": ("needed",),
    "permitted": ("allowed",),
    "forbidden": ("prohibited", "not allowed"),
    "prohibited": ("forbidden", "not allowed"),
    "repaired": ("mended", "fixed"),
    "inspected": ("examined", "checked"),
    "constructed": ("built",),
    "built": ("constructed",),
    "commenced": ("began", "started"),
    "began": ("started",),
    "displayed": ("shown",),
    "obtained": ("got",),
    "utilised": ("used",),
    "utilized": ("used",),
    "frequently": ("often",),
    "immediately": ("at once", "straight away"),
    "rapidly": ("quickly",),
    "located": ("found", "situated"),
    "employees": ("staff",),
    "regulations": ("rules",),
    "near": ("close to",),
    "manufactured": ("made", "produced"),
    "disconnected": ("unplugged",),
    "additional": ("extra",),
    "assistance": ("help",),
    "sufficient": ("enough",),
}
_OPENINGS = (
    (r"How do I (?=\w)", ("How can I ", "What do I have to do to ")),
    (r"How can I (?=\w)", ("How do I ", "In what way can I ")),
    (r"Why (?=\w)", ("For what reason ",)),
    (r"What happens (if|when) ", (r"What is the effect \1 ", r"What will happen \1 ")),
    (r"What should I do (if|when) ", (r"What do I do \1 ", r"What am I supposed to do \1 ")),
    (r"How often (?=is|are|do|does|must|should)", ("At what intervals ",)),
)
_WORD = re.compile(r"\b[a-z]+\b")


def paraphrase(question: str) -> str:
    """Puts another opening and replaces the words of a question that the lexicon knows.

    >>> paraphrase("Where are the valves inspected?") in {f"Where are the valves {v}?" for v in ("examined", "checked")}
    True
    >>> paraphrase("Who was Ada?")
    'Who was Ada?'
    """
    seed = hashlib.sha256(question.encode()).digest()

    def other(match: re.Match[str]) -> str:
        choices = _LEXICON.get(match.group())
        return choices[seed[match.start() % len(seed)] % len(choices)] if choices and match.start() else match.group()

    said = _WORD.sub(other, question)
    for opening, choices in _OPENINGS:
        if match := re.match(opening, said):
            return match.expand(choices[seed[0] % len(choices)]) + said[match.end() :]
    return said
