"""Evaluation: scores, statistics, the comparison of arms, and its report."""

from hybrid.eval.answers import AnswerScore, contains, exact_match, rouge_l, score_answer, token_f1
from hybrid.eval.comparison import ArmRun, Comparison, Reply, compare
from hybrid.eval.report import write_report
from hybrid.eval.retrieval import ndcg_at_k, recall_at_k, reciprocal_rank
from hybrid.eval.statistics import Difference, Interval, mean_interval, paired_bootstrap
from hybrid.eval.summary import ArmSummary, Estimate, Versus

__all__ = [
    "AnswerScore",
    "ArmRun",
    "ArmSummary",
    "Comparison",
    "Difference",
    "Estimate",
    "Interval",
    "Reply",
    "Versus",
    "compare",
    "contains",
    "exact_match",
    "mean_interval",
    "ndcg_at_k",
    "paired_bootstrap",
    "recall_at_k",
    "reciprocal_rank",
    "rouge_l",
    "score_answer",
    "token_f1",
    "write_report",
]
