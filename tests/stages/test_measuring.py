"""A comparison with everything that can be measured: each figure against its own computation from the report."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hybrid.arms import ARMS, Arm, PromptChoice, Runner
from hybrid.artefacts import open_work
from hybrid.config import ArmConfig
from hybrid.errors import ConfigError, EndpointError
from hybrid.eval.entailment import Entailment
from hybrid.eval.forgetting import general_texts
from hybrid.eval.grounding import Facts, inverse_document_frequency
from hybrid.eval.text_metrics import corpus_bleu, embedding_similarity
from hybrid.forgetting import perplexity
from hybrid.pairs.prompting.generator import Messages, Reply
from hybrid.pairs.prompting.local_model import LocalModel
from hybrid.project import Project
from hybrid.retrieval.index import Index
from hybrid.stages import compare
from hybrid.stages.answering import load_groups
from hybrid.stages.measuring import reading_models
from hybrid.stages.parts import project_embedder
from hybrid.stages.probes import weights_of
from hybrid.stages.serve import load_runner
from hybrid.types import Question

LIMIT = 4


def _open(project: Project, *overrides: str) -> Project:
    return Project.open(project.folder, [f"compare.limit={LIMIT}", "compare.arms=[rag, hybrid, tuned]", *overrides])


def _compare(project: Project) -> dict[str, Any]:
    work = open_work(project.store / "work" / "compare", "test")
    (work / "result").mkdir(exist_ok=True)
    compare.compare_arms(project, work)
    report: dict[str, Any] = json.loads((work / "result" / "report.json").read_text(encoding="utf-8"))
    return report


def _scores(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {arm["name"]: arm["scores"] for arm in report["arms"]}


def _forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("nobody asked for this")


def test_what_costs_nothing_is_always_there(finished_copy: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gold_log_probs", "general_log_probs", "make_judge"):
        module = {"gold_log_probs": "answering", "general_log_probs": "compare", "make_judge": "measuring"}[name]
        monkeypatch.setattr(f"hybrid.stages.{module}.{name}", _forbidden)
    project = _open(finished_copy)
    report = _compare(project)
    index = Index.load(project.path("index"))
    texts = {chunk.id: chunk.text for chunk in index.chunks}
    facts = Facts(inverse_document_frequency(texts.values()))
    seen = 0
    for question in report["questions"]:
        for arm, reply in question["replies"].items():
            grounded = reply["further"].get("grounded")
            if arm == "tuned" or reply["abstained"] or not reply["text"]:
                assert grounded is None
            elif grounded is not None:
                source = "\n\n".join(texts[chunk] for chunk in reply["contexts"])
                assert grounded == pytest.approx(facts.score([(source, reply["text"])])[0])
                seen += 1
    assert seen == sum(scores["grounded"]["n"] for scores in _scores(report).values() if "grounded" in scores) > 0
    assert report["grounding"]["auroc"]["scifact_train"] == 0.7513
    assert any("AUROC of 0.68 on fever_symmetric_dev, 0.75 on scifact_train" in note for note in report["notes"])
    assert report["perplexity"] == {}
    assert report["judge_cost"] is None
    assert not {"forgetting", "judge"} & report.keys()
    _check_likeness(project, report)


def _check_likeness(project: Project, report: dict[str, Any]) -> None:
    answerable = [question for question in report["questions"] if question["answerable"]]
    golds = [question["answers"] for question in answerable]
    for arm, scores in _scores(report).items():
        replies = [question["replies"][arm] for question in answerable]
        said = ["" if reply["abstained"] else reply["text"] for reply in replies]
        cosines = embedding_similarity(said, golds, project_embedder(project).inner.embed_passages)
        assert scores["similarity"]["value"] == pytest.approx(math.fsum(cosines) / len(cosines), abs=1e-5)
        assert report["corpus"][arm]["bleu"] == pytest.approx(corpus_bleu(said, golds))


def test_models_are_asked_for_gold_answers_and_general_text(finished_copy: Project) -> None:
    project = _open(finished_copy, "compare.perplexity=true", "compare.forgetting=true", "compare.grounding=off")
    report = _compare(project)
    assert set(report["perplexity"]) == {"rag", "hybrid", "tuned"}
    assert "grounding" not in report
    runner = load_runner(project, "tuned")
    questions = [Question(q["id"], q["question"], tuple(q["answers"])) for q in report["questions"] if q["answerable"]]
    alone = [_nats(runner, question) for question in questions]
    value = math.exp(math.fsum(nats for nats, _ in alone) / sum(count for _, count in alone))
    found = report["perplexity"]["tuned"]
    assert math.log(found["value"]) == pytest.approx(math.log(value), rel=1e-3)
    assert found["low"] <= found["value"] <= found["high"]
    assert found["n"] == len(questions)
    assert [row["arms"] for row in report["forgetting"]] == [["hybrid"], ["tuned"]]
    for row in report["forgetting"]:
        before, after = (load_runner(project, adapter) for adapter in (None, row["arms"][0]))
        assert row["before"] == pytest.approx(perplexity(before.model, before.tokenizer, general_texts()), rel=1e-3)
        assert row["after"] == pytest.approx(perplexity(after.model, after.tokenizer, general_texts()), rel=1e-3)
        assert row["low"] <= row["change"] <= row["high"]


def _nats(runner: Runner, question: Question) -> tuple[float, int]:
    import torch

    prompt, _ = runner.encode(question.question, [], PromptChoice("zero-shot", 3, ()))
    target = runner.tokenizer(question.answers[0], add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = runner.model(input_ids=torch.tensor([[*prompt, *target]])).logits[0].float().log_softmax(-1)
    picked = [float(logits[len(prompt) + i - 1, token]) for i, token in enumerate(target)]
    return -math.fsum(picked), len(target)


def test_the_base_is_loaded_where_no_arm_did(finished_copy: Project) -> None:
    report = _compare(_open(finished_copy, "compare.arms=[tuned]", "compare.forgetting=true"))
    (row,) = report["forgetting"]
    assert row["before"] > 1
    assert row["before"] != row["after"]


class Grader:
    """In place of a local model: grades by turns, and breaks after some."""

    calls = 0
    breaks_after = 10**6

    def generate(self, prompts: list[Messages]) -> Any:
        for place, _ in enumerate(prompts):
            if Grader.calls == Grader.breaks_after:
                raise EndpointError("the server went away")
            Grader.calls += 1
            yield Reply(place, json.dumps({"score": 1 + Grader.calls % 5, "better": "A"}), 100, 10)


@pytest.fixture
def grader(monkeypatch: pytest.MonkeyPatch) -> type[Grader]:
    monkeypatch.setattr(Grader, "calls", 0)
    monkeypatch.setattr(LocalModel, "generate", lambda self, prompts: Grader().generate(prompts))
    return Grader


def test_a_judge_grades_and_grounds_and_goes_on(
    finished_copy: Project, grader: type[Grader], monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = ["compare.judge={mode: rubric, sample: 2, price_in: 1.0}", "compare.grounding=judge"]
    project = _open(finished_copy, *judged)
    monkeypatch.setattr(grader, "breaks_after", 3)
    with pytest.raises(EndpointError):
        _compare(project)
    monkeypatch.setattr(grader, "breaks_after", 10**6)
    report = _compare(project)
    assert report["judge_cost"]["calls"] == grader.calls, "what arrived before the interruption is not asked again"
    assert report["judge_cost"]["price"] == pytest.approx(grader.calls * 100 / 1e6)
    assert report["judge"]["questions"] == 2
    assert report["judge"]["mode"] == "rubric"
    assert report["judge"]["failures"] == 0
    assert report["grounding"] == {"method": "judge", "auroc": {}, "cut": 0, "failures": 0}
    for scores in _scores(report).values():
        assert scores["judge_grade"]["n"] == 2
        assert 1 <= scores["judge_grade"]["value"] <= 5
    asked, same = report["judge"]["asked"], report["judge"]["identical"]
    assert asked + same + report["judge"]["failed_replies"] == 2 * len(report["arms"])
    assert any(f"asked about {asked} answers to 2 questions; {same} that equal" in note for note in report["notes"])
    assert any("rank correlation with f1 is not known: too few" in note for note in report["notes"])
    assert any("was not measured here" in note for note in report["notes"])
    calls = grader.calls
    work = open_work(project.store / "work" / "compare", "another")
    assert not (work / "result").exists()
    again = _compare(_open(project, *judged, "compare.weights.latency=1"))
    assert grader.calls == calls, "another comparison asks the judge nothing again"
    assert again["judge_cost"] == report["judge_cost"]


def test_pairs_are_judged_against_rag(finished_copy: Project, grader: type[Grader]) -> None:
    report = _compare(_open(finished_copy, "compare.judge.mode=pairwise"))
    assert set(report["judge"]["arms"]) == {"hybrid", "tuned"}
    assert "judge_preference" not in _scores(report)["rag"]
    # This judge always prefers what stands first.
    assert _scores(report)["hybrid"]["judge_preference"]["value"] == 0.5
    asked = sum(counts["inconsistent"] for counts in report["judge"]["arms"].values())
    assert report["judge_cost"]["calls"] == 2 * asked == grader.calls
    assert report["judge"]["asked"] == asked
    assert any(f"asked about {asked} pairs of answers" in note for note in report["notes"])


def test_a_judge_that_cannot_be_asked_is_refused_before_anything_is_answered(
    finished_copy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.stages.compare.load_answerer", None)
    far = "compare.judge={mode: rubric, base_url: 'http://127.0.0.1:9/v1', model: m, key_env: NO_SUCH_KEY}"
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        _compare(_open(finished_copy, far))
    nameless = "compare.judge={mode: rubric, base_url: 'http://127.0.0.1:9/v1'}"
    with pytest.raises(ConfigError, match=r"set compare\.judge\.model"):
        reading_models(_open(finished_copy, nameless))


def test_a_classifier_reads_question_and_answer(
    finished_copy: Project, tiny_embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(tiny_embedder)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    config.id2label = {0: "not_entailment", 1: "entailment"}
    folder = finished_copy.folder / "nli"
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    asked: list[tuple[str, str]] = []
    score = Entailment.score

    def recorded(self: Entailment, pairs: list[tuple[str, str]]) -> list[float]:
        asked.extend(pairs)
        return score(self, pairs)

    monkeypatch.setattr(Entailment, "score", recorded)
    report = _compare(_open(finished_copy, "compare.grounding=entailment", "compare.entailment_model=nli"))
    assert report["grounding"]["method"] == "entailment"
    assert 0 < _scores(report)["rag"]["grounded"]["value"] < 1
    questions = [question["question"] for question in report["questions"]]
    assert asked
    assert all(any(claim.startswith(question) for question in questions) for _, claim in asked)


def test_fingerprints_know_who_judges(finished_copy: Project, tmp_path: Path) -> None:
    def inputs(*overrides: str) -> dict[str, Any]:
        found: dict[str, Any] = _open(finished_copy, *overrides).stage_inputs("compare")
        return found

    assert "models that judge" not in inputs()
    assert set(inputs("compare.judge.mode=rubric")["models that judge"]) == {"judge"}
    model = str(finished_copy.model)
    assert set(inputs("compare.grounding=entailment", f"compare.entailment_model={model}")["models that judge"]) == {
        "entailment_model"
    }
    here, there = (
        inputs(f"compare.judge={{mode: rubric, model: m, base_url: 'http://{host}/v1', concurrency: {n}}}")
        for host, n in (("here", 1), ("there", 2))
    )
    assert here == there
    assert here != inputs("compare.judge={mode: rubric, model: other, base_url: 'http://here/v1'}")


def test_nobody_asks_a_function_for_likelihoods(finished_copy: Project) -> None:
    project = _open(finished_copy, "compare.perplexity=true", "compare.forgetting=true", "compare.arms=[rag]")
    project.compare(extra_arms={"mine": lambda question, hits: "no idea"})
    assert set(project.report().data["perplexity"]) == {"rag"}


@pytest.mark.parametrize("setting", ["limit=3", "weights.latency=2"])
def test_likelihoods_are_asked_for_once(finished_copy: Project, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    asked = ("compare.perplexity=true", "compare.forgetting=true", "compare.arms=[base, rag, hybrid]")
    first, again = _open(finished_copy, *asked), _open(finished_copy, *asked, f"compare.{setting}")
    first.compare()
    before = first.report().data
    monkeypatch.setattr("hybrid.stages.compare.load_answerer", _forbidden)
    assert not again.compare().skipped
    after = again.report().data
    assert after["forgetting"] == before["forgetting"]
    known = {question["id"]: question["replies"] for question in before["questions"]}
    for question in after["questions"]:
        for arm, reply in question["replies"].items():
            assert reply["further"].get("gold_nll") == known[question["id"]][arm]["further"].get("gold_nll")


def test_a_question_that_is_not_answerable_any_more_has_no_likelihood(finished_copy: Project) -> None:
    project = _open(finished_copy, "compare.perplexity=true", "compare.arms=[rag]")
    project.compare()
    before = project.report().data
    changed = next(question for question in before["questions"] if question["answerable"])["question"]
    assert project.questions is not None
    records = [json.loads(line) for line in project.questions.read_text(encoding="utf-8").splitlines()]
    for record in records:
        record.setdefault("answerable", True)
        if record["question"] == changed:
            record["answerable"] = False
    project.questions.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    project.compare()
    assert project.report().data["perplexity"]["rag"]["n"] == before["perplexity"]["rag"]["n"] - 1


def test_another_gold_answer_is_asked_for(finished_copy: Project) -> None:
    project = _open(finished_copy, "compare.perplexity=true", "compare.arms=[rag]")
    project.compare()
    before = project.report().data["perplexity"]["rag"]["value"]
    assert project.questions is not None
    text = project.questions.read_text(encoding="utf-8")
    gold = project.report().data["questions"][0]["answers"][0]
    assert gold in text
    project.questions.write_text(text.replace(gold, f"{gold} of course"), encoding="utf-8")
    project.compare()
    assert project.report().data["perplexity"]["rag"]["value"] != before


def test_a_folder_is_not_taken_for_an_adapter_of_the_project() -> None:
    elsewhere = Arm("x", "", other=ArmConfig("x", adapter="hybrid"))
    assert weights_of(elsewhere) != weights_of(ARMS["hybrid"])
    assert [len(group) for group in load_groups([ARMS["hybrid"], elsewhere])] == [1, 1]
