"""The assistant: one answer by every way of asking, with citations that hold."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hybrid.arms import read_answer
from hybrid.assistant import Assistant
from hybrid.errors import ArtefactError, ConfigError
from hybrid.generate import Continuation
from hybrid.retrieval.index import Index
from hybrid.types import Answer, Citation

if TYPE_CHECKING:
    from hybrid import Project

QUESTIONS = [
    "Where does the beacon stand?",
    "How many boats are there?",
    "What?",
    "When is the lamp room cleaned? " * 9,
]


@pytest.fixture(scope="module")
def assistant(finished_project: "Project") -> Assistant:
    assistant = finished_project.assistant()
    # In 16 bit a batch rounds otherwise than its parts.
    assistant.runner.model.float()  # type: ignore[no-untyped-call]
    return assistant


def _essence(answer: Answer) -> tuple[object, ...]:
    return answer.text, answer.citations, answer.abstained, [(hit.chunk, hit.rank) for hit in answer.hits]


def test_the_tuned_assistant_is_the_default(assistant: Assistant) -> None:
    assert assistant.arm == "hybrid"


def test_asking_streaming_and_batches_agree(assistant: Assistant) -> None:
    together = assistant.batch(QUESTIONS)
    assert [_essence(assistant.ask(question)) for question in QUESTIONS] == [_essence(answer) for answer in together]
    for question, answer in zip(QUESTIONS, together, strict=True):
        stream = assistant.stream(question)
        pieces = list(stream)
        assert "".join(pieces) == answer.text
        assert all(pieces), "no empty piece"
        assert _essence(stream.answer) == _essence(answer)
        assert (stream.answer.cut_off, stream.answer.seconds > 0) == (answer.cut_off, True)


def test_a_stream_is_read_once_by_whatever_reads_it(assistant: Assistant) -> None:
    whole = assistant.ask(QUESTIONS[0]).text
    stream = assistant.stream(QUESTIONS[0])
    first = next(stream)
    assert first + "".join(stream) == whole
    assert list(stream) == []
    assert stream.answer.text == whole


def test_a_stream_has_no_answer_before_its_last_piece(assistant: Assistant) -> None:
    stream = assistant.stream(QUESTIONS[0])
    next(iter(stream))
    with pytest.raises(ValueError, match="read all pieces of the stream first"):
        _ = stream.answer


def test_an_answer_carries_what_was_shown(assistant: Assistant, finished_project: "Project") -> None:
    answer = assistant.ask(QUESTIONS[0])
    assert len(answer.hits) == finished_project.config.prompt.k
    assert [hit.rank for hit in answer.hits] == [1, 2, 3]
    assert answer.seconds > 0
    documents = Index.load(finished_project.path("index")).documents
    for hit in answer.hits:
        assert documents[hit.chunk.document].text[hit.chunk.start : hit.chunk.end] == hit.chunk.text


def test_what_a_passage_says_is_cited_at_its_span(assistant: Assistant, finished_project: "Project") -> None:
    documents = Index.load(finished_project.path("index")).documents
    shown = assistant.ask(QUESTIONS[0]).hits
    words = " ".join(shown[1].chunk.text.split()[2:6])
    answer = read_answer(words, shown, assistant.runner.prompt)
    assert answer.citations
    for citation in answer.citations:
        assert documents[citation.document].text[citation.start : citation.end] == citation.quote
        assert shown[citation.number - 1].chunk.document == citation.document


def test_a_refusal_cites_nothing(assistant: Assistant) -> None:
    answer = read_answer(assistant.runner.prompt.refusal, assistant.ask(QUESTIONS[0]).hits, assistant.runner.prompt)
    assert answer.abstained
    assert answer.citations == ()


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(question: str, assistant: Assistant) -> None:
    with pytest.raises(ConfigError, match="the question is empty"):
        assistant.ask(question)
    with pytest.raises(ConfigError, match="the question is empty"):
        list(assistant.stream(question))


def test_no_questions_give_no_answers(assistant: Assistant) -> None:
    assert assistant.batch([]) == []


@pytest.mark.parametrize("question", ["¿Cuántos barcos hay?", "一共有几艘船?", "🛥️" * 40, "a\u2028b\0c"])
def test_any_text_can_be_asked(question: str, assistant: Assistant) -> None:
    assert "".join(assistant.stream(question)) == assistant.ask(question).text


def test_a_closed_book_assistant_shows_nothing(finished_project: "Project") -> None:
    for arm in ("base", "tuned"):
        closed = Assistant.load(finished_project.folder, arm)
        answer = closed.ask(QUESTIONS[0])
        assert closed.arm == arm
        assert (answer.hits, answer.citations) == ((), ())


def test_an_unknown_arm_is_named(finished_project: "Project") -> None:
    with pytest.raises(ConfigError, match="unknown arm 'best'; known are base, rag, tuned"):
        finished_project.assistant("best")


def test_without_artefacts_the_command_is_named(toy_project: "Project") -> None:
    with pytest.raises(ArtefactError, match="has no index; run: hybrid index --project"):
        toy_project.assistant()
    with pytest.raises(ArtefactError, match="'tuned' has not been trained; run: hybrid tune --project"):
        toy_project.assistant("tuned")


def test_an_adapter_of_another_model_is_refused(finished_copy: "Project") -> None:
    manifest = finished_copy.path("tune/hybrid") / "manifest.json"
    values = json.loads(manifest.read_text(encoding="utf-8"))
    values["inputs"]["model"] = "another"
    manifest.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ArtefactError, match="'hybrid' was trained on another model"):
        finished_copy.assistant()


def test_a_streamed_quotation_is_read_to_the_plain_answer(
    assistant: Assistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = replace(assistant.runner.prompt, answers="quoted")
    quoting = replace(assistant, runner=replace(assistant.runner, prompt=prompt))
    shown = quoting.ask(QUESTIONS[0]).hits
    quote = " ".join(shown[1].chunk.text.split()[:5])
    raw = f'[2] "{quote}"\n[1] "said nobody"\nAnswer: by the sea'
    ids = assistant.runner.tokenizer(raw, add_special_tokens=False)["input_ids"]
    monkeypatch.setattr("hybrid.generate.stream_tokens", lambda *_, max_new_tokens, **__: iter(ids[:max_new_tokens]))
    monkeypatch.setattr(
        "hybrid.generate.generate_batch", lambda *_, max_new_tokens, **__: [Continuation(ids[:max_new_tokens], [-0.5])]
    )
    stream = quoting.stream(QUESTIONS[0])
    assert "".join(stream) == raw
    answer = stream.answer
    assert (answer.text, answer.invalid_citations, answer.abstained) == ("by the sea", 1, False)
    (citation,) = answer.citations
    chunk = shown[1].chunk
    assert " ".join(chunk.text[citation.start - chunk.start : citation.end - chunk.start].split()) == quote
    assert _essence(quoting.ask(QUESTIONS[0])) == _essence(answer)
    assert quoting.ask(QUESTIONS[0]).invalid_citations == 1


class _Spelling:
    """Decodes tokens as the bytes they are, so that a character can take several tokens."""

    eos_token_id = 0

    def decode(self, tokens: list[int], **_: object) -> str:
        return bytes(tokens).decode("utf-8", errors="replace")


@pytest.mark.parametrize("text", [" a b ", "Größe 三 🛥 ", "", "   ", "a\n\n", "x 三"])
@pytest.mark.parametrize("cut", [0, 1])
def test_a_stream_joins_to_the_stripped_text(
    text: str, cut: int, assistant: Assistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = list(text.encode())[: len(text.encode()) - cut]

    def stream(*_: object, **__: object) -> Iterator[int]:
        yield from tokens

    monkeypatch.setattr("hybrid.generate.stream_tokens", stream)
    runner = replace(assistant.runner, tokenizer=_Spelling())  # type: ignore[arg-type]
    monkeypatch.setattr(type(runner), "encode", lambda *_: ([1], []))
    pieces = list(replace(assistant, runner=runner).stream("Why?"))
    assert "".join(pieces) == bytes(tokens).decode("utf-8", errors="replace").strip()
    assert all(pieces)


def test_streaming_ends_before_a_next_question_of_the_models_own(
    assistant: Assistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Every day.\nAt noon.\n\nQuestion: And then?"
    ids = assistant.runner.tokenizer(text, add_special_tokens=False)["input_ids"]
    monkeypatch.setattr("hybrid.generate.stream_tokens", lambda *_, **__: iter(ids))
    assert "".join(assistant.stream(QUESTIONS[0])) == "Every day.\nAt noon."


def test_an_answer_at_the_limit_is_cut_off(finished_project: "Project") -> None:
    for limit in (1, 200):
        opened = type(finished_project).open(finished_project.folder, [f"compare.max_new_tokens={limit}"])
        base = opened.assistant("base")
        answer, stream = base.ask("Where does the beacon stand?"), base.stream("Where does the beacon stand?")
        assert answer.cut_off is (limit == 1) or answer.text.count(" ") > 30
        assert "".join(stream) == answer.text
        assert stream.answer.cut_off is answer.cut_off


def test_citations_of_documents_with_pages_name_the_page(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    words = " ".join(assistant.ask(QUESTIONS[0]).hits[1].chunk.text.split()[2:6])
    ids = assistant.runner.tokenizer(words, add_special_tokens=False)["input_ids"]
    monkeypatch.setattr("hybrid.generate.stream_tokens", lambda *_, **__: iter(ids))

    def first(page_starts: dict[str, list[int]]) -> Citation:
        stream = replace(assistant, page_starts=page_starts).stream(QUESTIONS[0])
        assert "".join(stream) == words
        return stream.answer.citations[0]

    cited = first({})
    assert cited.page is None
    for starts, page in (([0], 1), ([0, cited.start], 2), ([0, cited.start + 1], 1)):
        assert first({cited.document: starts}) == replace(cited, page=page)
    assert first({"another": [0]}) == cited


def test_pages_of_a_pdf_are_known(finished_copy: "Project") -> None:
    from fpdf import FPDF

    pdf = FPDF()
    pdf.set_font("Helvetica", size=12)
    for text in ("The harbour opens at six.", "The beacon stands on the north pier."):
        pdf.add_page()
        pdf.cell(text=text)
    pdf.output(str(finished_copy.documents / "harbour.pdf"))
    finished_copy.index()
    assistant = finished_copy.assistant("rag")
    assert set(assistant.page_starts) == {"harbour.pdf"}
    text = Index.load(finished_copy.path("index")).documents["harbour.pdf"].text
    assert text[assistant.page_starts["harbour.pdf"][1] :].startswith("The beacon stands")
