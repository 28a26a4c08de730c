"""Metrics of predictions and their bootstrap intervals."""

from sa2sr.metrics.resampling import (
    Difference,
    Estimate,
    bootstrap,
    bootstrap_counts,
    crossed_bootstrap,
    difference,
    estimate,
    resampled,
)
from sa2sr.metrics.values import (
    METRIC_LABELS,
    auc,
    ccc,
    confusion,
    edits,
    error_rate,
    f1,
    pearson,
    recall,
    rmse,
    spearman,
)
from sa2sr.metrics.weighted import MetricName

__all__ = [
    "METRIC_LABELS",
    "Difference",
    "Estimate",
    "MetricName",
    "auc",
    "bootstrap",
    "bootstrap_counts",
    "ccc",
    "confusion",
    "crossed_bootstrap",
    "difference",
    "edits",
    "error_rate",
    "estimate",
    "f1",
    "pearson",
    "recall",
    "resampled",
    "rmse",
    "spearman",
]
