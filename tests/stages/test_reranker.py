"""A project with a reranker: one search for pairs, comparison and assistant, and artefacts that know of it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid import Project
from hybrid.errors import ModelError
from hybrid.retrieval import CrossEncoderReranker
from hybrid.retrieval.index import passage_text
from hybrid.retrieval.rerank import Read
from hybrid.stages.parts import project_retriever

QUESTION = "Where does the beacon stand?"


@pytest.fixture(scope="module")
def cross_encoder(tiny_cross_encoder: Callable[..., Path]) -> Path:
    return tiny_cross_encoder()


def _states(project: Project) -> dict[str, str]:
    return {status.stage: status.state for status in project.status()}


def test_pairs_and_assistant_search_with_it(finished_copy: Project, cross_encoder: Path) -> None:
    project = Project.open(finished_copy.folder, [f"reranker={cross_encoder}", "index.rerank=8"])
    assert _states(project) == {
        name: "fresh" if name == "index" else "stale" for name in ("index", "pairs", *_states(project))
    }
    assert "reranker" in project.status()[1].reason
    hits = project_retriever(project).search([QUESTION], 50)[0]
    plain = {hit.chunk.id: hit.rank for hit in project_retriever(finished_copy).search([QUESTION], 50)[0]}
    pairs = [Read(QUESTION, passage_text(hit.chunk)) for hit in hits[:8]]
    scores = CrossEncoderReranker(cross_encoder).score(pairs).tolist()
    assert scores == sorted(scores, reverse=True)
    assert {plain[hit.chunk.id] for hit in hits[:8]} == set(range(1, 9))
    assert [plain[hit.chunk.id] for hit in hits[8:]] == list(range(9, len(plain) + 1))
    shown = project.assistant("hybrid").ask(QUESTION).hits
    assert [hit.chunk.id for hit in shown] == [hit.chunk.id for hit in hits[:3]]

    before = (finished_copy.path("pairs") / "train.jsonl").read_text(encoding="utf-8")
    project.pairs()
    assert (project.path("pairs") / "train.jsonl").read_text(encoding="utf-8") != before
    assert _states(project)["pairs"] == "fresh"


def test_a_comparison_says_how_it_searched(finished_copy: Project, cross_encoder: Path) -> None:
    settings = [f"reranker={cross_encoder}", "index.rerank=5", "compare.arms=[rag]"]
    project = Project.open(finished_copy.folder, settings)
    project.compare()
    assert project.report().data["facts"]["Search"] == f"fused, the best 5 reordered by {cross_encoder.name}"


def test_other_weights_or_another_depth_make_it_stale(
    finished_copy: Project, cross_encoder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(cross_encoder, tmp_path / "cross"))
    inputs = [
        Project.open(finished_copy.folder, overrides).stage_inputs("pairs")
        for overrides in (
            [f"reranker={copy}"],
            [f"reranker={cross_encoder}"],
            [f"reranker={copy}", "index.rerank=9"],
            [],
        )
    ]
    assert inputs[0] == inputs[1]
    assert inputs[0] != inputs[2]
    assert "reranker" not in inputs[3]
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert Project.open(finished_copy.folder, [f"reranker={copy}"]).stage_inputs("pairs") != inputs[0]


def test_a_reranker_that_is_missing_is_named(finished_copy: Project) -> None:
    with pytest.raises(ModelError, match="'no-such' not found"):
        Project.open(finished_copy.folder, ["reranker=no-such"]).assistant("rag")
