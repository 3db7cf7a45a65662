"""Whether a question can be put to an assistant by someone who has not seen its passage.

"How long is the part thawed?" cannot: which part? Nor can "What did he say?". The checks look at the tokens that a
question takes over from its sentence, with the grammar they have there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from spacy.tokens import Token

# Words that point at something outside the question.
_POINTERS = frozenset(
    """it its itself he him his himself she her hers herself they them their theirs themselves we us our ours i me my
    this these those such another other others former latter respectively same here there then thus hence now today
    currently recently above below following previous earlier later afterwards beforehand both either neither also
    instead otherwise however therefore likewise again too ones none so else aforementioned whom whose several
    certain various some many most few any elsewhere meanwhile nevertheless similarly soon ago accordingly""".split()
)
_ALLOWED_BEFORE_NOUN = {"some", "many", "most", "few", "any", "several", "various", "certain"}
# Adjectives that do not say which one is meant.
_UNSPECIFIC = frozenset(
    """first second third fourth last next previous following other same new old main only own larger smaller lower
    upper higher bigger such certain various several many few different further additional more most less least whole
    entire overall similar particular respective current present former latter original final early late recent total
    initial actual latest subsequent remaining principal major minor desired selected corresponding specified listed
    correct right wrong appropriate relevant two three four five""".split()
)
_POINTING = {"selected", "desired", "corresponding", "specified", "listed", "attached", "resulting", "chosen", "given"}
# There is only one of these, or everybody knows which.
_UNIQUE = frozenset(
    """sun moon earth sea ocean sky world ground air weather universe internet public user human population government
    north south east west left right morning afternoon evening night day week month year summer winter spring autumn
    weekend end beginning start middle top bottom rest case way use time past future public law bible pope church
    century 1st cold dark open station tv""".split()
)
_SPECIFYING = {"amod", "compound", "nmod", "poss", "relcl", "acl", "appos", "prep"}
_LONGEST_TITLE = 6
_LONG_NAME = 4  # letters; shorter ones are abbreviations that many things have, such as TV
_LEAST = 0.75  # what a question has to say even with its title in front
_NO_TOPIC = re.compile(
    r"^(?:read|before|after|other|about|if|how|what|why|when|notes?|introduction|overview|general|appendix|chapter|"
    r"section|part|page|contents|summary|index)\b|\b(?:i|my|me|you|your|we|our)\b|n[’']t\b|[:?!|#\[\]]",
    re.I,
)
_CONTENT = {"NOUN", "PROPN", "NUM", "VERB", "ADJ"}
_CALENDAR = {"DATE", "TIME", "CARDINAL", "ORDINAL", "PERCENT", "QUANTITY", "MONEY"}


class Topic(NamedTuple):
    """What a document is about, by its title.

    Attributes:
        title: The title.
        words: Its words: of "Fuel transfers", fuel, transfers and transfer.
        own: Whether no other document has the title, so that "the hose" is clear where the title is named.
    """

    title: str
    words: frozenset[str]
    own: bool


def topic_of(title: str, *, own: bool) -> Topic:
    """Reads a title.

    >>> sorted(topic_of("Fuel transfers", own=True).words)
    ['fuel', 'transfer', 'transfers']
    """
    found = re.findall(r"[a-z]{3,}", title.lower())
    return Topic(title.strip(), frozenset(found) | frozenset(word.removesuffix("s") for word in found), own)


def put(
    question: str, used: Sequence[Token], topic: Topic, needed: float, *, with_topic: float | None = None
) -> str | None:
    """Returns the question as it can be asked: alone, or with the title in front of it; None if neither will do.

    Args:
        question: The question.
        used: The tokens that it takes over from its sentence.
        topic: The title.
        needed: How much it has to say, see `stands_alone`.
        with_topic: How much it has to say with the title in front; by default 1 less, and at least 0.75.
    """
    if stands_alone(used, topic.words, needed) and not _open_definites(used, ()):
        return question
    if any(map(points_outside, used)) or not can_lead(topic.title):
        return None
    unclear = [token for token in used if is_open_definite(token, used, topic.words)]
    clear = not unclear or (topic.own and all(map(_may_be_of_topic, unclear)))
    least = max(_LEAST, needed - 1.0) if with_topic is None else with_topic
    enough = _weight(used, topic.words) >= least
    return with_title(question, topic.title) if clear and enough else None


def _may_be_of_topic(token: Token) -> bool:
    return token.pos_ == "NOUN" and not any(child.lower_ in _POINTING for child in token.lefts)


def can_lead(title: str) -> bool:
    """True for a title that names a topic; "Before you begin" and "Other issues" name none.

    >>> can_lead("Fuel transfer"), can_lead("My computer won't connect")
    (True, False)
    """
    return 1 <= len(title.split()) <= _LONGEST_TITLE and not _NO_TOPIC.search(title)


def with_title(question: str, title: str) -> str:
    """Names the topic in front of a question.

    >>> with_title("How often is the hose tested?", "Fuel transfer")
    'About Fuel transfer: how often is the hose tested?'
    """
    return f"About {title}: {question[0].lower()}{question[1:]}"


def stands_alone(used: Sequence[Token], topic: Collection[str], needed: float) -> bool:
    """True if the words of a question say what it is about.

    Args:
        used: The tokens that the question takes over from its sentence.
        topic: Words of the title.
        needed: How much the question has to say; a name counts 2, a noun with a modifier 1 (0.5 more for each other),
            a noun without article 0.5, with one 0.25.
    """
    return not any(map(points_outside, used)) and not _open_definites(used, topic) and _weight(used, topic) >= needed


def points_outside(token: Token) -> bool:
    """True for pronouns and other words that need what was said before.

    "That" is none where it opens a clause, nor "one" where it counts.
    """
    word, tag, dep = str(token.lower_), str(token.tag_), str(token.dep_)
    if word == "that":
        return tag == "DT"
    if word == "one":
        return tag != "CD" or dep != "nummod"
    if word in _ALLOWED_BEFORE_NOUN and dep in {"amod", "advmod"}:
        return False
    return word in _POINTERS


def _open_definites(used: Sequence[Token], topic: Collection[str]) -> bool:
    return any(is_open_definite(token, used, topic) for token in used)


def is_open_definite(token: Token, used: Sequence[Token], topic: Collection[str]) -> bool:
    """True for "the part" if nothing says which part: no modifier, no title, no name."""
    if token.pos_ not in {"NOUN", "ADJ", "NUM"} or not any(c.lower_ == "the" and c.dep_ == "det" for c in token.lefts):
        return False
    if any(child.lower_ in _POINTING for child in token.lefts):
        return True
    if token.lower_ in topic or token.lemma_.lower() in topic or token.lemma_.lower() in _UNIQUE:
        return False
    return not (token.pos_ == "NOUN" and _is_specified(token, used))


def _is_specified(token: Token, used: Collection[Token]) -> bool:
    return any(_specifies(child, used) for child in token.children)


def _specifies(child: Token, used: Collection[Token]) -> bool:
    return child in used and child.dep_ in _SPECIFYING and child.lower_ not in _UNSPECIFIC and child.tag_ != "JJS"


def _weight(used: Sequence[Token], topic: Collection[str]) -> float:
    """How much the tokens say about what is meant."""
    total = 0.0
    previous: Token | None = None
    for token in used:
        continues = previous is not None and previous.pos_ == "PROPN" and previous.i + 1 == token.i
        previous = token
        if token.ent_type_ in _CALENDAR and token.pos_ != "PROPN":
            continue
        if is_name(token):
            total += 0.0 if continues else 1.0 if len(token) < _LONG_NAME or _is_office(token) else 2.0
        elif token.pos_ == "NOUN" and token.dep_ != "compound":
            total += _noun_weight(token, used, topic)
    return total


def _is_office(name: Token) -> bool:
    """True for "the Mechanic" and "TV" in "the TV": a name that many things share."""
    last = name
    while last.i + 1 < len(last.doc) and last.nbor(1).pos_ == "PROPN":
        last = last.nbor(1)
    return any(child.lower_ == "the" for child in last.lefts) and last.ent_type_ not in {
        "GPE",
        "LOC",
        "ORG",
        "FAC",
        "EVENT",
    }


def _noun_weight(token: Token, used: Collection[Token], topic: Collection[str]) -> float:
    said = sum(_specifies(child, used) for child in token.children)
    if said:
        return 0.5 + 0.5 * min(said, 3)
    known = token.lower_ in topic or token.lemma_.lower() in topic
    definite = any(child.dep_ == "det" and child.lower_ not in {"a", "an"} for child in token.lefts)
    return 0.5 if known or not definite else 0.25


def is_name(token: Token) -> bool:
    """True for proper nouns, dates left out."""
    return token.pos_ == "PROPN" and token.ent_type_ not in _CALENDAR and token.text[:1].isupper()


def answers_well(tokens: Sequence[Token]) -> bool:
    """True if an answer says something by itself: it holds no pronoun and is more than "the time" or "both boards"."""
    if (
        not tokens
        or tokens[0].lower_ in {"no", "nothing", "nobody", "following"}
        or any(points_outside(token) for token in tokens)
    ):
        return False
    content = [t for t in tokens if t.pos_ in _CONTENT and t.lower_ not in _UNSPECIFIC and t.tag_ != "JJS"]
    if any(t.dep_ in {"ROOT", "ccomp", "conj"} and t.tag_ in {"VBZ", "VBD", "VBP"} for t in tokens):
        return False  # the parser took a clause for a phrase
    bare = len(content) == 1 and content[0].pos_ == "NOUN" and tokens[0].dep_ in {"det", "predet"}
    return bool(content) and not bare
