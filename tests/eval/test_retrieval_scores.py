import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.eval.retrieval import ndcg_at_k, recall_at_k, reciprocal_rank

ids = st.sampled_from("abcdefgh")


@settings(deadline=None)
@given(st.lists(ids), st.sets(ids), st.integers(1, 10))
def test_bounds(retrieved: list[str], gold: set[str], k: int) -> None:
    for value in (
        recall_at_k(retrieved, gold, k),
        reciprocal_rank(retrieved, gold),
        ndcg_at_k(retrieved, gold, k),
    ):
        assert 0.0 <= value <= 1.0


@settings(deadline=None)
@given(st.lists(ids, unique=True, min_size=1), st.sets(ids, min_size=1), st.integers(1, 10))
def test_gold_first_is_perfect_and_more_is_never_worse(retrieved: list[str], gold: set[str], k: int) -> None:
    perfect = [*sorted(gold), *retrieved]
    assert ndcg_at_k(perfect, gold, k) == pytest.approx(1.0)
    assert reciprocal_rank(perfect, gold) == 1.0
    assert recall_at_k(retrieved, gold, k + 1) >= recall_at_k(retrieved, gold, k)


def test_several_chunks_of_one_document_count_once() -> None:
    assert recall_at_k(["a", "a", "b"], ["b"], k=2) == 1.0
    assert reciprocal_rank(["a", "a", "b"], ["b"]) == 0.5
    assert ndcg_at_k(["a", "a", "a"], ["a"], k=3) == 1.0
    assert recall_at_k(["a"], ["a", "a", "b"], k=3) == 0.5


def test_nothing_to_find_or_nothing_found() -> None:
    assert recall_at_k(["a"], [], k=1) == ndcg_at_k(["a"], [], k=1) == reciprocal_rank(["a"], []) == 0.0
    assert recall_at_k([], ["a"], k=1) == ndcg_at_k([], ["a"], k=1) == reciprocal_rank([], ["a"]) == 0.0


def test_k_must_be_positive() -> None:
    with pytest.raises(ValueError, match="got 0"):
        recall_at_k(["a"], ["a"], k=0)
    with pytest.raises(ValueError, match="got -1"):
        ndcg_at_k(["a"], ["a"], k=-1)


@settings(max_examples=50, deadline=None)
@given(st.permutations("abcdefgh"), st.sets(ids, min_size=1), st.integers(1, 8))
def test_ndcg_against_scikit_learn(retrieved: list[str], gold: set[str], k: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    relevance, scores = [[float(id_ in gold) for id_ in retrieved]], [list(range(8, 0, -1))]
    assert ndcg_at_k(retrieved, gold, k) == pytest.approx(metrics.ndcg_score(relevance, scores, k=k))


@settings(deadline=None)
@given(st.lists(ids, unique=True, min_size=1), st.sets(ids, min_size=1), st.integers(1, 10))
def test_against_trec_eval(retrieved: list[str], gold: set[str], k: int) -> None:
    trec = pytest.importorskip("pytrec_eval")
    run = {id_: 1.0 - rank / 100 for rank, id_ in enumerate(retrieved)}
    names = {f"recall.{k}", f"ndcg_cut.{k}", "recip_rank"}
    theirs = trec.RelevanceEvaluator({"q": dict.fromkeys(gold, 1)}, names).evaluate({"q": run})["q"]
    assert recall_at_k(retrieved, gold, k) == pytest.approx(theirs[f"recall_{k}"])
    assert ndcg_at_k(retrieved, gold, k) == pytest.approx(theirs[f"ndcg_cut_{k}"])
    assert reciprocal_rank(retrieved, gold) == pytest.approx(theirs["recip_rank"])


@pytest.mark.slow  # numba compiles ranx for a minute or two
@settings(max_examples=25, deadline=None)
@given(st.lists(ids, unique=True, min_size=1), st.sets(ids, min_size=1), st.sampled_from([1, 3, 5]))
def test_against_ranx(retrieved: list[str], gold: set[str], k: int) -> None:
    ranx = pytest.importorskip("ranx")
    qrels = ranx.Qrels({"q": dict.fromkeys(gold, 1)})
    run = ranx.Run({"q": {id_: 1.0 - rank / 100 for rank, id_ in enumerate(retrieved)}})
    assert recall_at_k(retrieved, gold, k) == pytest.approx(ranx.evaluate(qrels, run, f"recall@{k}"))
    assert ndcg_at_k(retrieved, gold, k) == pytest.approx(ranx.evaluate(qrels, run, f"ndcg@{k}"))
    assert reciprocal_rank(retrieved, gold) == pytest.approx(ranx.evaluate(qrels, run, "mrr"))
