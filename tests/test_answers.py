"""Styles of answers: what is trained can be read again, numbers follow the prompt, and only what holds is cited."""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hybrid.answers import Parsed, parse_reply, render_target, reply_tokens, target_text
from hybrid.arms import PromptChoice, Runner, read_answer
from hybrid.config import PromptConfig, config_from_dict
from hybrid.generate import Continuation
from hybrid.models import load_tokenizer
from hybrid.pairs.align import align
from hybrid.pairs.formats.export import as_alpaca, as_messages, as_prompt_completion, as_row, as_sharegpt
from hybrid.project import Project
from hybrid.prompt import render_messages, to_text
from hybrid.rag_prompt import worked_example
from hybrid.stages.tune import training_examples
from hybrid.types import Chunk, Citation, Hit, Pair, PairKind, Question, Quote

SHORT, CITED, QUOTED = (PromptConfig(answers=style) for style in ("short", "cited", "quoted"))

TEXT = (
    "ABC makes pumps. ABC is headquartered in Manhattan. It has six plants.\n"
    "XYZ is based in Ohio and sells valves. Its pumps are replaced every 4,000 hours."
)


def _chunk(document: str, text: str, start: int = 0) -> Chunk:
    return Chunk(f"{document}#{start}-{start + len(text)}", document, start, start + len(text), text)


def _quote(chunk: Chunk, text: str) -> Quote:
    start = chunk.start + chunk.text.index(text)
    return Quote(chunk.document, start, start + len(text), text)


ABC, XYZ = _chunk("abc", TEXT.split("\n")[0], 100), _chunk("xyz", TEXT.split("\n")[1])
OTHERS = [_chunk(f"other{n}", f"Fact {n} is about the sea.") for n in range(3)]
SENTENCE = "ABC is headquartered in Manhattan."
GROUNDED = Pair("1", "Where is ABC?", "Manhattan", (), (ABC.id,), (_quote(ABC, SENTENCE),))
MULTI = Pair(
    "2",
    "Where are ABC and XYZ?",
    "Manhattan; Ohio",
    (),
    (XYZ.id, ABC.id),
    (_quote(ABC, SENTENCE), _quote(XYZ, "XYZ is based in Ohio")),
    "multi",
)


def _hits(*chunks: Chunk) -> list[Hit]:
    return [Hit(chunk, 1.0, rank) for rank, chunk in enumerate(chunks, 1)]


# --- what is trained --------------------------------------------------------------------------------------------------


def test_what_a_target_looks_like() -> None:
    shown = [OTHERS[0], ABC]
    assert target_text(GROUNDED, shown, SHORT) == "Manhattan"
    assert target_text(GROUNDED, shown, CITED) == "Manhattan [2]"
    assert target_text(GROUNDED, shown, QUOTED) == f'[2] "{SENTENCE}"\nAnswer: Manhattan'


def test_several_oracles_are_all_cited() -> None:
    shown = [ABC, OTHERS[0], XYZ]
    assert target_text(MULTI, shown, CITED) == "Manhattan; Ohio [1][3]"
    assert target_text(MULTI, shown, QUOTED) == f'[1] "{SENTENCE}"\n[3] "XYZ is based in Ohio"\nAnswer: Manhattan; Ohio'
    assert target_text(replace(MULTI, kind="conflict"), shown[:1], CITED) == "Manhattan; Ohio [1]"


def test_an_oracle_without_a_quote_is_still_cited() -> None:
    one_quote = replace(MULTI, quotes=MULTI.quotes[:1])
    assert target_text(one_quote, [XYZ, ABC], QUOTED) == f'[2] "{SENTENCE}"\nAnswer: Manhattan; Ohio [1]'


@settings(max_examples=30, deadline=None)
@given(order=st.permutations([ABC, XYZ, *OTHERS]), shown=st.integers(1, 5))
def test_numbers_follow_the_shown_order(order: Sequence[Chunk], shown: int) -> None:
    order = order[:shown]
    target = render_target(MULTI, order, CITED)
    places = [place for place, chunk in enumerate(order, 1) if chunk in (ABC, XYZ)]
    assert target.text == "Manhattan; Ohio" + " " * bool(places) + "".join(f"[{place}]" for place in places)
    assert target.supported == bool(places)


@pytest.mark.parametrize("prompt", [SHORT, CITED, QUOTED])
def test_a_refusal_stands_alone(prompt: PromptConfig) -> None:
    refusal = replace(GROUNDED, answer=prompt.refusal, kind="absent")
    assert render_target(refusal, OTHERS, prompt) == (prompt.refusal, True)
    assert target_text(refusal, [ABC], prompt) == prompt.refusal, "even if a chunk of the document is shown"


def test_a_quote_that_no_shown_passage_holds_is_left_out_and_counted() -> None:
    half = _chunk("abc", ABC.text[:30], ABC.start)
    assert SENTENCE[:10] in half.text
    cut = replace(GROUNDED, oracles=(half.id,))
    assert render_target(cut, [OTHERS[0], half], QUOTED) == ("Manhattan [2]", False)
    assert render_target(cut, [OTHERS[0], half], CITED) == ("Manhattan [2]", True)
    assert render_target(GROUNDED, OTHERS, QUOTED) == ("Manhattan", False)
    assert render_target(GROUNDED, OTHERS, CITED) == ("Manhattan", False)
    assert render_target(GROUNDED, OTHERS, SHORT) == ("Manhattan", True)


def test_of_overlapping_passages_the_oracle_is_quoted() -> None:
    overlapping = _chunk("abc", ABC.text[10:], ABC.start + 10)
    target = target_text(GROUNDED, [overlapping, ABC], QUOTED)
    assert target.startswith('[2] "')


def test_a_bare_answer_is_quoted_with_its_sentence() -> None:
    bare = replace(GROUNDED, quotes=(_quote(ABC, "Manhattan"),))
    assert target_text(bare, [ABC], QUOTED) == f'[1] "{SENTENCE}"\nAnswer: Manhattan'


def test_a_long_quote_is_cut_to_the_sentence_of_the_answer() -> None:
    whole = replace(GROUNDED, quotes=(_quote(ABC, ABC.text),))
    assert target_text(whole, [ABC], QUOTED) == f'[1] "{ABC.text}"\nAnswer: Manhattan'
    narrow = replace(QUOTED, quote_words=8)
    assert target_text(whole, [ABC], narrow) == f'[1] "{SENTENCE}"\nAnswer: Manhattan'


def test_a_long_quote_is_cut_to_the_sentence_that_says_most_of_the_answer() -> None:
    pair = replace(GROUNDED, answer="the headquarters are in Manhattan, ABC says", quotes=(_quote(ABC, ABC.text),))
    near = replace(pair, answer="ABC has headquartered in Manhattan")
    narrow = replace(QUOTED, quote_words=8)
    assert target_text(near, [ABC], narrow).startswith(f'[1] "{SENTENCE}"\n')
    assert not render_target(pair, [ABC], narrow).supported, "too few of its words"


def test_a_long_sentence_is_cut_to_words_around_the_answer() -> None:
    chunk = _chunk("d", " ".join(f"w{n}" for n in range(100)))
    pair = Pair("1", "Which?", "w50 w51", (), (chunk.id,), (_quote(chunk, chunk.text),))
    narrow = replace(QUOTED, quote_words=8)
    assert target_text(pair, [chunk], narrow) == '[1] "w47 w48 w49 w50 w51 w52 w53 w54"\nAnswer: w50 w51'
    assert target_text(replace(pair, answer="w0"), [chunk], narrow).startswith('[1] "w0 w1 w2 w3 w4 w5 w6 w7"\n')
    assert target_text(replace(pair, answer="w99"), [chunk], narrow).startswith('[1] "w92 w93 w94 w95 w96 w97 w98 w99"')
    longer = " ".join(f"w{n}" for n in range(9))
    assert render_target(replace(pair, answer=longer), [chunk], narrow) == (f"{longer} [1]", False)


@pytest.mark.parametrize("answer", ["yes", "No.", "a whale"])
def test_a_long_quote_is_not_cut_where_nobody_knows(answer: str) -> None:
    chunk = _chunk("d", "No, said he. " * 30)
    pair = Pair("1", "Is it?", answer, (), (chunk.id,), (_quote(chunk, chunk.text),))
    assert render_target(pair, [chunk], QUOTED) == (f"{answer} [1]", False)


def test_scripts_without_spaces_are_counted_by_characters() -> None:
    chunk = _chunk("d", "水" * 50 + "泵在北京" + "火" * 50)
    pair = Pair("1", "哪里?", "北京", (), (chunk.id,), (_quote(chunk, chunk.text),))
    line = target_text(pair, [chunk], replace(QUOTED, quote_words=8)).split("\n")[0]
    assert line == '[1] "水泵在北京火火火"'


def test_several_quotes_share_the_limit() -> None:
    chunks = [_chunk(f"d{n}", " ".join(f"{name}{i}" for i in range(40))) for n, name in enumerate("ab")]
    quotes = tuple(_quote(chunk, chunk.text) for chunk in chunks)
    pair = Pair("1", "?", "a5", (), tuple(c.id for c in chunks), quotes, "multi")
    target = target_text(replace(pair, answer="a5"), chunks, replace(QUOTED, quote_words=20))
    assert len(target.split("\n")[0].split()) == 11, "10 words after the number"


def test_a_quote_over_lines_is_written_on_one_line_and_found_again() -> None:
    chunk = _chunk("d", "Take a water-\nproof coat,\n\nQuestion: or two\u2028of them.")
    pair = Pair("1", "What?", "coat", (), (chunk.id,), (_quote(chunk, chunk.text),))
    target = target_text(pair, [chunk], QUOTED)
    assert target == '[1] "Take a water- proof coat, Question: or two of them."\nAnswer: coat'
    (citation,) = parse_reply(target, [chunk], QUOTED).citations
    assert citation.quote == chunk.text


# --- from target to reply and back ------------------------------------------------------------------------------------

_WORDS = st.sampled_from(
    [
        "pump",
        "water-",
        "\nproof",
        "Öl",
        "é",
        "e\u0301",
        "“six”",
        '"',
        "3.5",
        "1,000",
        "[x]",
        "**b**",
        ".",
        "!",
        "三",
        "\u2028",
    ]
)
_TEXTS = st.lists(_WORDS, min_size=1, max_size=20).map(" ".join).filter(str.strip)
_KINDS: Sequence[PairKind] = ("grounded", "multi", "conflict")


@st.composite
def _cases(draw: st.DrawFn) -> tuple[Pair, list[Chunk]]:
    """A pair about a document cut into chunks, some of which are shown in some order among others."""
    text = draw(_TEXTS)
    cuts = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=3))})
    chunks = [_chunk("d", text[a:b], a) for a, b in pairwise(cuts) if text[a:b].strip()]
    spans = draw(st.lists(st.tuples(st.integers(0, len(text)), st.integers(1, 40)), max_size=3))
    quotes = tuple(
        Quote("d", a, a + len(text[a : a + n]), text[a : a + n]) for a, n in spans if text[a : a + n].strip()
    )
    oracles = tuple(chunk.id for chunk in draw(st.lists(st.sampled_from(chunks), max_size=3)))
    answer = draw(st.one_of(_TEXTS.map(str.strip), st.sampled_from(["yes", "three\nlines\nAnswer: two", "0", "A; B"])))
    shown = draw(st.permutations([*chunks, *OTHERS]))[: draw(st.integers(0, 6))]
    return Pair("1", "Q?", answer, (), oracles, quotes, draw(st.sampled_from(_KINDS))), list(shown)


@pytest.mark.parametrize("style", ["short", "cited", "quoted"])
@settings(max_examples=60, deadline=None)
@given(case=_cases(), words=st.integers(8, 40))
def test_what_is_trained_is_read_again(style: str, case: tuple[Pair, list[Chunk]], words: int) -> None:
    pair, shown = case
    prompt = PromptConfig(answers=style, quote_words=words)  # type: ignore[arg-type]
    target = render_target(pair, shown, prompt)
    # An answer of its own that looks like the last line is told apart only by what stands before it.
    assume("\nAnswer:" not in pair.answer or "\n" not in target.text or style != "quoted" or target.text[0] == "[")
    assume(pair.answer.strip() == pair.answer and pair.answer)
    parsed = parse_reply(target.text, shown, prompt)
    assert (parsed.text, parsed.invalid, parsed.malformed) == (pair.answer, 0, False)
    numbers = {number for number, chunk in enumerate(shown, 1) if chunk.id in pair.oracles}
    cited = {citation.number for citation in parsed.citations}
    if style == "short":
        assert cited == set()
    else:
        assert numbers <= cited
        assert style == "quoted" or numbers == cited
    for citation in parsed.citations:
        chunk = shown[citation.number - 1]
        assert citation.document == chunk.document
        assert chunk.start <= citation.start < citation.end <= chunk.end
        assert chunk.text[citation.start - chunk.start : citation.end - chunk.start] == citation.quote


@settings(max_examples=60, deadline=None)
@given(case=_cases(), words=st.integers(8, 40))
def test_a_trained_quote_is_verbatim_and_no_longer_than_the_limit(case: tuple[Pair, list[Chunk]], words: int) -> None:
    pair, shown = case
    lines = target_text(pair, shown, replace(QUOTED, quote_words=words)).split("\n")
    quoted = [match for line in lines if (match := re.fullmatch(r'\[(\d)\] "(.*)"', line))]
    total = 0
    for match in quoted:
        text = " ".join(shown[int(match[1]) - 1].text.split())
        assert match[2] in text, "verbatim but for line breaks"
        total += len(match[2].replace("三", " 三 ").split())
    assert total <= words


@settings(deadline=None)
@given(
    reply=st.text(st.sampled_from('[]1234 ",.;\nAnswer:“”abc三'), max_size=80), style=st.sampled_from([CITED, QUOTED])
)
def test_any_reply_is_read_and_every_citation_holds(reply: str, style: PromptConfig) -> None:
    shown = [_chunk("d", "abc 三. A1 [2] bc", 7), OTHERS[0]]
    parsed = parse_reply(reply, shown, style)
    assert parsed.text or not reply.strip()
    assert parsed.malformed <= (parsed.text == reply)
    for citation in parsed.citations:
        chunk = shown[citation.number - 1]
        assert chunk.text[citation.start - chunk.start : citation.end - chunk.start] == citation.quote != ""
    read_answer(reply, _hits(*shown), style)


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "text", "numbers", "invalid"),
    [
        ("Manhattan [2]", "Manhattan", [2], 0),
        ("Manhattan[2].", "Manhattan.", [2], 0),
        ("Manhattan [1], [2]", "Manhattan", [1, 2], 0),
        ("Manhattan [1, 2]", "Manhattan", [1, 2], 0),
        ("Manhattan [1]; Ohio [2]", "Manhattan; Ohio", [1, 2], 0),
        ("Manhattan [2][2]", "Manhattan", [2], 0),
        ("Manhattan [3]", "Manhattan", [], 1),
        ("Manhattan [0][2][17]", "Manhattan", [2], 2),
        ("Manhattan", "Manhattan", [], 0),
        ("a[1] is Ohio [2]", "a is Ohio", [1, 2], 0),
        ("the list x[0] and note [12] [1]", "the list x[0] and note [12]", [1], 0),
        ("note [12]", "note", [], 1),
        ("[sic] six", "[sic] six", [], 0),
    ],
)
@pytest.mark.parametrize("prompt", [CITED, QUOTED])
def test_numbers_leave_the_answer(
    reply: str, text: str, numbers: list[int], invalid: int, prompt: PromptConfig
) -> None:
    shown = [_chunk("d", "Take the list x[0] and see note [12] for Ohio."), ABC]
    parsed = parse_reply(reply, shown, prompt)
    assert (parsed.text, [c.number for c in parsed.citations], parsed.invalid) == (text, numbers, invalid)


def test_a_number_cites_the_sentence_of_its_passage() -> None:
    (citation,) = parse_reply("manhattan [2]", [XYZ, ABC], CITED).citations
    start = ABC.start + ABC.text.index(SENTENCE)
    assert citation == Citation(2, "abc", start, start + len(SENTENCE), SENTENCE)
    (whole,) = parse_reply("yes [1]", [XYZ, ABC], CITED).citations
    assert whole == Citation(1, "xyz", 0, len(XYZ.text), XYZ.text), "nothing says where in the passage"


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (f'[2] "{SENTENCE}"', 2),
        ("[2]: “abc is head\u00adquartered in\u00a0Manhattan”", 2),
        (f"[2] {SENTENCE}", 2),
        (f'[1] "{SENTENCE}"', 2),
        (f'[9] "{SENTENCE}"', 2),
        ('[2] "ABC is headquartered in Ohio."', None),
        ('[2] "ABC ... Manhattan"', None),
        ('[2] "anhattan"', None),
        ('[2] ""', None),
    ],
)
def test_a_quote_is_verified(line: str, number: int | None) -> None:
    parsed = parse_reply(f"{line}\nAnswer: Manhattan", [XYZ, ABC], QUOTED)
    assert (parsed.text, parsed.malformed) == ("Manhattan", False)
    assert [citation.number for citation in parsed.citations] == ([number] if number else [])
    assert parsed.invalid == (number is None)
    for citation in parsed.citations:
        assert TEXT[citation.start - ABC.start : citation.end - ABC.start] == citation.quote
        assert "Manhattan" in citation.quote


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_quote_that_several_passages_hold_is_of_the_one_it_names(number: int) -> None:
    shown = [_chunk(f"d{n}", ABC.text) for n in range(3)]
    parsed = parse_reply(f'[{number}] "{SENTENCE}"\nAnswer: Manhattan', shown, QUOTED)
    assert [(c.number, c.document) for c in parsed.citations] == [(number, f"d{number - 1}")]


@pytest.mark.parametrize(
    ("reply", "text", "malformed"),
    [
        (f'[1] "{SENTENCE}"', f'[1] "{SENTENCE}"', True),
        (f'[1] "{SENTENCE}"\nAnswer:', f'[1] "{SENTENCE}"\nAnswer:', True),
        (f'[1] "{SENTENCE}"\nManhattan', "Manhattan", False),
        (f'It says:\n[1] "{SENTENCE}"\n\nAnswer: Manhattan', "Manhattan", False),
        ("Manhattan [1]", "Manhattan", False),
        ("[1]", "[1]", True),
        ("", "", False),
    ],
)
def test_a_reply_without_an_answer_is_malformed(reply: str, text: str, malformed: bool) -> None:
    parsed = parse_reply(reply, [ABC], QUOTED)
    assert (parsed.text, parsed.malformed) == (text, malformed)
    assert read_answer(reply, _hits(ABC), QUOTED).abstained is (reply == ""), "no answer is no refusal"


def test_without_passages_or_style_a_reply_is_taken_as_it_is() -> None:
    reply = 'See [1]\nAnswer: "x" [7]'
    assert parse_reply(reply, [ABC], SHORT) == Parsed(reply)
    assert parse_reply(reply, [], QUOTED) == Parsed(reply)


@pytest.mark.parametrize("reply", [CITED.refusal, f"{CITED.refusal} [1]", f'[1] "{SENTENCE}"\nAnswer: {CITED.refusal}'])
def test_a_refusal_cites_nothing(reply: str) -> None:
    answer = read_answer(reply, _hits(ABC), QUOTED)
    assert (answer.text, answer.abstained, answer.citations) == (CITED.refusal, True, ())


def test_a_reply_that_cites_nothing_gets_the_citations_that_are_found() -> None:
    for prompt in (SHORT, CITED, QUOTED):
        answer = read_answer("Manhattan", _hits(XYZ, ABC), prompt)
        assert [(c.number, c.quote) for c in answer.citations] == [(2, SENTENCE)]
    wrong = read_answer("Manhattan [7]", _hits(XYZ, ABC), CITED)
    assert (wrong.text, wrong.citations, wrong.invalid_citations) == ("Manhattan", (), 1)


# --- prompts and examples ---------------------------------------------------------------------------------------------


def test_the_instructions_ask_for_the_style() -> None:
    systems = [render_messages("Why?", [ABC], prompt)[0]["content"] for prompt in (SHORT, CITED, QUOTED)]
    assert systems[0] == (
        "Answer the question from the passages in as few words as possible. If they do not answer it, reply: "
        "The documents do not answer this question."
    )
    assert all(system.startswith(systems[0] + "\n") for system in systems[1:])
    assert "numbers of the passages" in systems[1]
    assert "word for word" in systems[2]
    assert "Answer:" in systems[2]
    for prompt in (SHORT, CITED, QUOTED):
        assert render_messages("Why?", [], prompt) == render_messages("Why?", [], SHORT), "closed book is always short"


def test_the_short_prompt_has_not_changed(tiny_model: Path) -> None:
    text = to_text(render_messages("Where?", [ABC, OTHERS[0]], PromptConfig()), load_tokenizer(tiny_model))
    assert text == (
        "<|system|>Answer the question from the passages in as few words as possible. If they do not answer it, "
        "reply: The documents do not answer this question.<|end|><|user|>[1]\nABC makes pumps. ABC is headquartered in "
        "Manhattan. It has six plants.\n\n[2]\nFact 0 is about the sea.\n\nQuestion: Where?<|end|><|assistant|>"
    )


def test_worked_examples_show_the_style() -> None:
    for prompt in (SHORT, CITED, QUOTED):
        shot = worked_example(GROUNDED, [OTHERS[0], ABC], prompt)
        messages = render_messages("Why?", [ABC], prompt, [shot])
        assert messages[2] == {"role": "assistant", "content": target_text(GROUNDED, [OTHERS[0], ABC], prompt)}


def _project(folder: Path, style: str, **prompt: object) -> Project:
    return Project(folder, config_from_dict({"prompt": {"answers": style, **prompt}}))


@pytest.mark.parametrize("style", ["short", "cited", "quoted"])
def test_examples_are_trained_in_the_style(style: str, tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    chunks = {chunk.id: chunk for chunk in (ABC, XYZ, *OTHERS)}
    context = (OTHERS[0].id, XYZ.id, ABC.id)
    lost = replace(GROUNDED, id="3", quotes=(), oracles=("gone",), context=(OTHERS[1].id,))
    refusal = replace(GROUNDED, id="4", kind="absent", answer=SHORT.refusal, context=(OTHERS[2].id,))
    pairs = [replace(GROUNDED, context=context), replace(MULTI, context=context), lost, refusal]
    project = _project(tmp_path, style)
    rendered = training_examples(pairs, chunks, project, tokenizer, closed_book=False)
    prompt = project.config.prompt
    for pair, example in zip(pairs, rendered.examples, strict=True):
        shown = [chunks[chunk] for chunk in pair.context]
        assert tokenizer.decode(list(example.answer_ids[:-1])) == target_text(pair, shown, prompt)
        assert tokenizer.decode(list(example.prompt_ids)) == to_text(
            render_messages(pair.question, shown, prompt), tokenizer
        )
    assert rendered.unsupported == (style != "short")
    closed = training_examples(pairs, chunks, project, tokenizer, closed_book=True)
    answers = [tokenizer.decode(list(example.answer_ids[:-1])) for example in closed.examples]
    assert answers == ["Manhattan", "Manhattan; Ohio", "Manhattan"]
    assert closed.unsupported == 0


def test_later_epochs_show_contexts_in_other_orders(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    chunks = {chunk.id: chunk for chunk in (ABC, XYZ, *OTHERS)}
    pairs = [replace(GROUNDED, context=tuple(chunks)), replace(MULTI, id="2", context=tuple(chunks))]
    project = _project(tmp_path, "cited")
    passes = [
        training_examples(pairs, chunks, project, tokenizer, closed_book=False, epoch=epoch).examples
        for epoch in range(6)
    ]
    orders = []
    for examples in passes:
        texts = [str(tokenizer.decode(list(example.prompt_ids))) for example in examples]
        shown = [sorted(chunks.values(), key=lambda chunk: text.index(chunk.text)) for text in texts]
        assert shown[0] == shown[1], "pairs of a context keep sharing it"
        for pair, example in zip(pairs, examples, strict=True):
            answer = str(tokenizer.decode(list(example.answer_ids[:-1])))
            assert answer == target_text(pair, shown[0], project.config.prompt), "the numbers follow the order"
        orders.append(tuple(chunk.id for chunk in shown[0]))
    assert orders[0] == tuple(chunks)
    assert len(set(orders)) > 2
    again = training_examples(pairs, chunks, project, tokenizer, closed_book=False, epoch=3).examples
    assert again == passes[3]
    limit = max(len(example.prompt_ids) + len(example.answer_ids) for example in passes[0])
    narrow = _project(tmp_path, "cited", max_tokens=limit)
    for example in training_examples(pairs, chunks, narrow, tokenizer, closed_book=False, epoch=3).examples:
        assert len(example.prompt_ids) + len(example.answer_ids) <= limit


def test_numbers_follow_the_context_that_fitted(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    chunks = [*OTHERS, ABC]
    pair = replace(GROUNDED, context=tuple(chunk.id for chunk in chunks))
    by_id = {chunk.id: chunk for chunk in chunks}
    (whole,), *_ = training_examples([pair], by_id, _project(tmp_path, "quoted"), tokenizer, closed_book=False)
    assert str(tokenizer.decode(list(whole.answer_ids))).startswith("[4]")
    limit = len(whole.prompt_ids) + len(whole.answer_ids) - 1
    narrow = _project(tmp_path, "quoted", max_tokens=limit)
    (example,), shortened, _ = training_examples([pair], by_id, narrow, tokenizer, closed_book=False)
    assert shortened == 1
    assert len(example.prompt_ids) + len(example.answer_ids) <= limit
    assert str(tokenizer.decode(list(example.answer_ids))).startswith(f'[3] "{SENTENCE}"')
    assert f"[3]\n{ABC.text}" in tokenizer.decode(list(example.prompt_ids))


@pytest.mark.parametrize("prompt", [SHORT, CITED, QUOTED])
def test_exports_have_the_style_where_they_have_the_prompt(prompt: PromptConfig) -> None:
    pair = replace(GROUNDED, context=(OTHERS[0].id, ABC.id))
    chunks = {chunk.id: chunk for chunk in (OTHERS[0], ABC)}
    target = target_text(pair, list(chunks.values()), prompt)
    assert as_messages(pair, chunks, prompt)["messages"][-1]["content"] == target
    assert as_prompt_completion(pair, chunks, prompt)["completion"] == f" {target}"
    assert as_sharegpt(pair, chunks, prompt)["conversations"][-1]["value"] == target
    assert as_alpaca(pair, chunks, prompt)["output"] == target
    assert as_row(pair)["answer"] == "Manhattan"


# --- serving ----------------------------------------------------------------------------------------------------------


def _says(runner: Runner, reply: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the model write the reply, as far as it may."""
    ids = runner.tokenizer(reply, add_special_tokens=False)["input_ids"]

    def generate(
        _: object, prompts: Sequence[object], *__: object, max_new_tokens: int, **___: object
    ) -> list[Continuation]:
        return [Continuation(list(ids)[:max_new_tokens], [-0.5]) for _ in prompts]

    monkeypatch.setattr("hybrid.generate.generate_batch", generate)


def test_the_runner_gives_the_plain_answer_and_the_models_own_citations(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    quoting = replace(runner, prompt=QUOTED)
    raw = f'[2] "{SENTENCE}"\n[1] "ABC is in Ohio"\nAnswer: Manhattan'
    _says(runner, raw, monkeypatch)
    choice = PromptChoice("zero-shot", 2, ())
    question = Question("q", "Where is ABC?", ("Manhattan",))
    (reply,) = quoting.answer([question], [_hits(XYZ, ABC)], choice, label="t", done={}, record=lambda _: None)
    assert (reply.text, reply.abstained, reply.invalid_citations, reply.raw) == ("Manhattan", False, 1, raw)
    assert [(citation.number, citation.quote) for citation in reply.citations] == [(2, SENTENCE)]
    (short,) = runner.answer([question], [_hits(XYZ, ABC)], choice, label="t", done={}, record=lambda _: None)
    assert (short.raw, short.invalid_citations) == ("", 0)
    assert len(short.text) < len(raw), "short answers end earlier"


def test_the_runner_answers_in_every_style(runner: Runner) -> None:
    question = Question("q", "Where is ABC?", ("Manhattan",))
    for prompt in (SHORT, CITED, QUOTED):
        (reply,) = replace(runner, prompt=prompt).answer(
            [question], [_hits(XYZ, ABC)], PromptChoice("zero-shot", 2, ()), label="t", done={}, record=lambda _: None
        )
        assert reply.contexts == (XYZ.id, ABC.id)
        again = read_answer(reply.raw or reply.text, _hits(XYZ, ABC), prompt)
        assert (again.text, again.citations) == (reply.text, reply.citations)


def test_the_longest_reply_has_room_for_the_style(runner: Runner) -> None:
    for prompt in (SHORT, CITED, QUOTED):
        styled = replace(runner, prompt=prompt)
        assert styled.longest_reply(True) == reply_tokens(runner.max_new_tokens, prompt)
        assert styled.longest_reply(False) == runner.max_new_tokens
    assert reply_tokens(8, SHORT) == 8 < reply_tokens(8, CITED) < reply_tokens(8, QUOTED)
    assert reply_tokens(8, replace(QUOTED, quote_words=61)) == reply_tokens(8, QUOTED) + 2


def test_nfd_quotes_are_found() -> None:
    chunk = _chunk("d", unicodedata.normalize("NFD", "Der Löwe schläft."))
    assert align("Der Löwe schläft", chunk.text)
    assert parse_reply('[1] "Der Löwe schläft"\nAnswer: Löwe', [chunk], QUOTED).invalid == 0


def test_confidence_ends_where_the_answer_ends(runner: Runner) -> None:
    ids = list(runner.tokenizer("Manhattan\nQuestion: and then?", add_special_tokens=False)["input_ids"])
    cut = next(n for n in range(len(ids) + 1) if "\nQuestion:" in runner.tokenizer.decode(ids[:n]))
    assert cut < len(ids)
    log_probs = [-0.1] * cut + [-9.0] * (len(ids) + 1 - cut)
    assert runner._confidence(Continuation(ids, log_probs)) == pytest.approx(math.exp(-0.1))
    assert runner._confidence(Continuation(ids[:2], [-0.2, -0.4, -0.6])) == pytest.approx(math.exp(-0.4))
    assert runner._confidence(Continuation(ids[:2], [-0.2, math.nan])) is None
