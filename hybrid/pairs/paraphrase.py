"""Says a drafted question in other words, so that a reader trained on it learns to match meaning and not only letters.

The lexicon holds everyday words that can stand for each other in most technical and factual prose. Whole words are
replaced, form by form, so no grammar is needed. The choice depends on the text alone: the same question is always put
the same way.
"""

from __future__ import annotations

import hashlib
import re

# Groups are parted by "/", words by blanks; "|" joins words that stand together.
_GROUPS = """
replaced changed renewed swapped / replace change renew swap / replaces changes /
checked inspected examined tested / check inspect examine test / checks inspects examines / stored kept held /
store keep hold / stores keeps holds / started begun launched / start begin / starts begins / stopped halted /
stop halt / stops halts ends / repaired fixed mended / repair fix mend / cleaned washed / clean wash /
removed taken|away / remove take|away / removes takes|away / carried transported moved / carry transport /
carries transports moves / made produced built created / makes produces / make produce build create /
shown displayed indicated / show display indicate / shows displays indicates / given provided /
give provide supply / gives provides supplies / needs requires / need require / needed required /
told informed notified / tell inform notify / tells informs / sent dispatched / allowed permitted / allow permit /
allows permits lets / forbidden banned prohibited / opened unlocked / measured gauged / measure gauge /
measures gauges / recorded noted logged written|down / record note log|down / records notes writes|down /
found located / find locate / happens occurs / happen occur / happened occurred / placed put positioned /
place put position / fitted installed mounted / fit install mount / holds contains / contain hold /
covers includes / wears has|on / buys purchases / bought purchased / called named / received got / receive get /
leaves departs / arrives comes|in / arrived came / died passed|away / won gained / said stated / says states /
wrote authored / began started / ended finished / becomes turns|into / became turned|into / large big /
largest biggest / larger bigger / small little / smallest tiniest / quick fast / quickly fast /
main chief principal / approximately about roughly / immediately at|once straight|away /
annually every|year yearly / daily every|day / weekly every|week / monthly every|month /
staff personnel employees / vehicle car / ship vessel / fault defect failure / danger hazard risk / injury wound /
doctor physician / room chamber / device unit apparatus / purpose aim / reason cause / near close|to /
permission consent authorisation / rule regulation / limit maximum / amount quantity / way method /
kind type sort / part piece component / beginning start / task job duty
"""


def _lexicon() -> dict[str, list[str]]:
    words: dict[str, list[str]] = {}
    for group in _GROUPS.split("/"):
        members = [member.replace("|", " ") for member in group.split()]
        for member in members:
            words.setdefault(member, []).extend(other for other in members if other != member)
    return {word: others for word, others in words.items() if " " not in word}


_LEXICON = _lexicon()
_WORD = re.compile(r"\b[a-z']+\b")


def paraphrase(question: str) -> str:
    """Replaces the words of a question that the lexicon knows; the first word stays.

    >>> paraphrase("How often is the impeller replaced?") in {
    ...     f"How often is the impeller {verb}?" for verb in ("changed", "renewed", "swapped")
    ... }
    True
    >>> paraphrase("Who was Ada?")
    'Who was Ada?'
    """
    seed = hashlib.sha256(question.encode()).digest()

    def other(match: re.Match[str]) -> str:
        choices = _LEXICON.get(match.group())
        return choices[seed[match.start() % len(seed)] % len(choices)] if choices and match.start() else match.group()

    return _WORD.sub(other, question)
