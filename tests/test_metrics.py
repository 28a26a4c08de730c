import math
import time
import warnings
from collections.abc import Iterator
from typing import Any

import jiwer
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
import torchmetrics.functional
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sa2sr.metrics import (
    Difference,
    Estimate,
    MetricName,
    auc,
    bootstrap,
    bootstrap_counts,
    ccc,
    confusion,
    difference,
    edits,
    error_rate,
    f1,
    pearson,
    recall,
    resampled,
    rmse,
    spearman,
)

ratings = st.floats(-7, 7, width=32).map(lambda value: round(value, 2))
pairs = st.integers(2, 40).flatmap(
    lambda n: st.tuples(arrays.arrays(np.float64, n, elements=ratings), arrays.arrays(np.float64, n, elements=ratings))
)
TEXTS = st.text("ab c'", max_size=12)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """No metric warns, whatever it is given; the libraries beside it may."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="sa2sr")
        yield


def varies(values: np.ndarray) -> bool:
    return bool(np.ptp(values) > 0)


# --- Ratings ----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(pairs)
def test_ccc_follows_its_definition(pair: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = pair
    if varies(p) or varies(y):
        covariance = np.cov(p, y, bias=True)
        expected = 2 * covariance[0, 1] / (covariance.trace() + (p.mean() - y.mean()) ** 2)
        assert ccc(p, y) == pytest.approx(expected, abs=1e-10)


@settings(deadline=None)
@given(pairs)
def test_ccc_is_symmetric_bounded_and_below_pearson(pair: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = pair
    if varies(p) and varies(y):
        assert ccc(p, y) == pytest.approx(ccc(y, p), abs=1e-12)
        assert abs(ccc(p, y)) <= abs(pearson(p, y)) + 1e-9
        assert ccc(2 * p + 3, 2 * y + 3) == pytest.approx(ccc(p, y), abs=1e-9)  # one scale as good as another
        assert ccc(y, y) == pytest.approx(1)


def test_ccc_beside_torchmetrics() -> None:
    """torchmetrics divides variances and covariance by N - 1, we by N: the same as weighing d^2 by N / (N - 1).

    So both agree where the means do (d = 0), and ours is the smaller elsewhere.
    """
    generator = np.random.default_rng(0)
    y = generator.normal(4, 1, 25)
    p = 0.6 * y + generator.normal(2, 0.5, 25)

    def theirs(prediction: np.ndarray) -> float:
        function = torchmetrics.functional.concordance_corrcoef
        return float(function(torch.tensor(prediction), torch.tensor(y)))

    covariance, d = np.cov(p, y), p.mean() - y.mean()  # by N - 1
    assert theirs(p) == pytest.approx(2 * covariance[0, 1] / (covariance.trace() + d**2), abs=1e-9)
    assert ccc(p, y) == pytest.approx(2 * covariance[0, 1] / (covariance.trace() + d**2 * 25 / 24), abs=1e-12)
    assert theirs(p) - ccc(p, y) > 1e-4
    centred = p - d
    assert ccc(centred, y) == pytest.approx(theirs(centred), abs=1e-9)


def test_ccc_of_constants() -> None:
    assert ccc([0.1] * 3, [1.0, 2.0, 4.0]) == 0
    assert ccc([1.0, 2.0, 4.0], [0.1] * 3) == 0
    assert ccc([0.1] * 7, [0.3] * 7) == 0
    assert math.isnan(ccc([0.1] * 7, [0.1] * 7))
    assert math.isnan(ccc([], []))
    assert math.isnan(ccc([1.0, math.nan], [1.0, 2.0]))


def test_ccc_keeps_its_digits_far_from_zero() -> None:
    generator = np.random.default_rng(1)
    p, y = generator.normal(size=(2, 50))
    assert ccc(p + 1e7, y + 1e7) == pytest.approx(ccc(p, y), abs=1e-7)
    assert ccc(p.astype(np.float32) + np.float32(100), y.astype(np.float32) + np.float32(100)) == pytest.approx(
        ccc(p, y), abs=1e-4
    )


@settings(deadline=None)
@given(pairs)
def test_correlations_equal_scipys(pair: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = pair
    if varies(p) and varies(y):
        assert pearson(p, y) == pytest.approx(scipy.stats.pearsonr(p, y).statistic, abs=1e-7)
        assert spearman(p, y) == pytest.approx(scipy.stats.spearmanr(p, y).statistic, abs=1e-9)
    else:
        assert math.isnan(pearson(p, y))
        assert math.isnan(spearman(p, y))
    assert rmse(p, y) == pytest.approx(math.sqrt(sklearn.metrics.mean_squared_error(y, p)), abs=1e-12)


# --- Classes ----------------------------------------------------------------------------------------------------------

classes = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        arrays.arrays(np.float64, (n, 3), elements=st.integers(0, 9).map(lambda tenth: tenth / 10)),  # many ties
        arrays.arrays(np.int64, n, elements=st.integers(0, 2)),
    )
)


@settings(deadline=None)
@given(classes)
def test_auc_equals_scikit_learns(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    scores, truth = drawn
    present = [label for label in range(3) if 0 < (truth == label).sum() < len(truth)]
    if not present:
        assert math.isnan(auc(scores, truth))
        return
    each = [sklearn.metrics.roc_auc_score(truth == label, scores[:, label]) for label in present]
    assert auc(scores, truth) == pytest.approx(np.mean(each), abs=1e-12)
    if 1 in present:
        assert auc(scores[:, 1], truth == 1) == pytest.approx(each[present.index(1)], abs=1e-12)


@settings(deadline=None)
@given(classes)
def test_recall_f1_and_confusion_equal_scikit_learns(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    scores, truth = drawn
    prediction = scores.argmax(axis=1)
    theirs = sklearn.metrics.recall_score
    assert recall(prediction, truth, weighted=True) == pytest.approx(sklearn.metrics.accuracy_score(truth, prediction))
    expected = theirs(truth, prediction, labels=np.unique(truth), average="macro")
    assert recall(prediction, truth, weighted=False) == pytest.approx(expected)
    assert f1(prediction, truth) == pytest.approx(sklearn.metrics.f1_score(truth, prediction, average="macro"))
    table = confusion(prediction, truth, 3)
    np.testing.assert_array_equal(table, sklearn.metrics.confusion_matrix(truth, prediction, labels=[0, 1, 2]))


def test_nothing_to_measure() -> None:
    assert math.isnan(auc(np.zeros((0, 3)), []))
    assert math.isnan(recall([], [], weighted=True))
    assert math.isnan(recall([], [], weighted=False))
    assert math.isnan(f1([], []))
    assert math.isnan(rmse([], []))
    assert math.isnan(auc([0.1, math.nan, 0.3], [0, 1, 1]))
    assert confusion([], [], 2).tolist() == [[0, 0], [0, 0]]


def test_sides_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        ccc([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="do not fit"):
        ccc([[1.0], [2.0]], [[1.0], [2.0]])
    with pytest.raises(ValueError, match="classes must be 0 to 1"):
        confusion([2], [0], 2)
    with pytest.raises(ValueError, match="3 speakers for 2 utterances"):
        bootstrap([1.0, 2.0], [1.0, 3.0], speakers=["a", "b", "c"])


# --- Transcripts ------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS.filter(str.strip)), min_size=1, max_size=6))
def test_error_rates_equal_jiwers(pairs: list[tuple[str, str]]) -> None:
    hypotheses, references = (list(side) for side in zip(*pairs, strict=True))
    words = jiwer.wer([" ".join(r.split()) for r in references], [" ".join(h.split()) for h in hypotheses])
    assert error_rate(hypotheses, references, unit="word") == pytest.approx(words)
    as_they_are = jiwer.Compose([jiwer.ReduceToListOfListOfChars()])
    characters = jiwer.cer(references, hypotheses, as_they_are, as_they_are)
    assert error_rate(hypotheses, references, unit="character") == pytest.approx(characters)


def test_error_rate_is_of_the_corpus_not_the_mean_of_utterances() -> None:
    assert error_rate(["x", "abcdefghi"], ["a", "abcdefghi"], unit="character") == pytest.approx(0.1)
    assert error_rate(["a b", ""], ["", "a b c d"], unit="word") == pytest.approx(1.5)  # insertions count
    assert math.isnan(error_rate([], [], unit="word"))
    with pytest.raises(ValueError, match="zip"):
        error_rate(["a"], [], unit="word")


# --- Intervals --------------------------------------------------------------------------------------------------------


def correlated(generator: np.random.Generator, count: int, correlation: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    x, noise = generator.normal(size=(2, count))
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise


def by_hand(p: np.ndarray, y: np.ndarray, weights: np.ndarray, metric: MetricName) -> float:
    """A metric of the utterances themselves, as often as they were drawn."""
    rows = np.repeat(np.arange(len(y)), weights.astype(int))
    functions = {
        "ccc": ccc,
        "pearson": lambda a, b: scipy.stats.pearsonr(a, b).statistic,
        "spearman": lambda a, b: scipy.stats.spearmanr(a, b).statistic,
        "rmse": lambda a, b: math.sqrt(np.mean((a - b) ** 2)),
        "auc": lambda a, b: sklearn.metrics.roc_auc_score(b, a, multi_class="ovr") if a.ndim == 1 else auc(a, b),
        "weighted_recall": sklearn.metrics.accuracy_score,
        "unweighted_recall": lambda a, b: sklearn.metrics.balanced_accuracy_score(b, a),
        "macro_f1": lambda a, b: sklearn.metrics.f1_score(b, a, average="macro"),
        "ratio": lambda a, b: a.sum() / b.sum(),
    }
    return float(functions[metric](p[rows], y[rows]))


@pytest.mark.parametrize("speakers", [None, [f"s{index % 7}" for index in range(60)]])
@pytest.mark.parametrize(
    "metric",
    ["ccc", "pearson", "spearman", "rmse", "auc", "weighted_recall", "unweighted_recall", "macro_f1", "ratio"],
)
def test_resamples_equal_drawing_the_utterances(metric: MetricName, speakers: list[str] | None) -> None:
    """The percentiles are those of a loop that repeats each drawn utterance and measures anew."""
    generator = np.random.default_rng(3)
    x, noise = correlated(generator, 60)
    p, y = (x.round(1), noise.round(1)) if metric != "ratio" else (np.abs(x), 1 + np.abs(noise))
    if metric == "auc":
        y = (y > 0).astype(int)
    if "recall" in metric or "f1" in metric:
        p, y = (p > 0).astype(int), (y > 0).astype(int)
    from sa2sr.metrics.resampling import _resamples

    drawn = np.concatenate(list(_resamples(60, speakers, 200, 5)))
    assert drawn.shape == (200, 60)
    values = [by_hand(p, y, weights, metric) for weights in drawn]
    estimate = bootstrap(p, y, metric=metric, speakers=speakers, resamples=200, level=0.9, seed=5)
    assert estimate.low == pytest.approx(np.quantile(values, 0.05), abs=1e-9)
    assert estimate.high == pytest.approx(np.quantile(values, 0.95), abs=1e-9)
    assert estimate.value == pytest.approx(by_hand(p, y, np.ones(60), metric), abs=1e-9)


def test_draws_are_of_whole_utterances_or_speakers() -> None:
    from sa2sr.metrics.resampling import _resamples

    (utterances,) = _resamples(50, None, 400, 0)
    assert (utterances.sum(axis=1) == 50).all()
    assert utterances.var() == pytest.approx(1 - 1 / 50, abs=0.05)  # binomial
    speakers = ["a"] * 10 + ["b"] * 20 + ["c"] * 5 + [None] * 2
    (whole,) = _resamples(37, speakers, 400, 0)
    assert (whole[:, :10] == whole[:, :1]).all()
    assert (whole[:, 10:30] == whole[:, 10:11]).all()
    assert (whole[:, 35] != whole[:, 36]).any()  # unknown speakers are not one speaker
    assert (whole[:, [0, 10, 30, 35, 36]].sum(axis=1) == 5).all()


@pytest.mark.parametrize("metric", ["ccc", "pearson", "spearman"])
def test_intervals_cover_the_truth(metric: MetricName) -> None:
    generator = np.random.default_rng(8)
    truth = {"ccc": 0.6, "pearson": 0.6, "spearman": 6 / math.pi * math.asin(0.3)}[metric]
    trials = [bootstrap(*correlated(generator, 80), metric=metric, resamples=300, seed=i) for i in range(250)]
    assert 0.90 <= np.mean([trial.low <= truth <= trial.high for trial in trials]) <= 0.985
    assert 0.005 < np.mean([trial.low > truth for trial in trials]) < 0.08


def test_only_draws_of_speakers_cover_the_truth_where_speakers_differ() -> None:
    """Ratings of a speaker share an offset, and so do predictions, independently: the true correlation is 0.3."""
    generator = np.random.default_rng(9)
    speakers = list(np.repeat(np.arange(60), 10))

    def covered(whole_speakers: bool) -> bool:
        own = generator.normal(size=(2, 60)).repeat(10, axis=1)
        p, y = own + np.stack(correlated(generator, 600))  # variance 2, covariance 0.6
        estimate = bootstrap(p, y, metric="pearson", speakers=speakers if whole_speakers else None, resamples=200)
        return estimate.low <= 0.3 <= estimate.high

    assert np.mean([covered(True) for _ in range(200)]) >= 0.88
    assert np.mean([covered(False) for _ in range(200)]) <= 0.75


@pytest.mark.parametrize("metric", ["spearman", "pearson", "ccc", "rmse"])
def test_counts_stand_for_utterances(metric: MetricName) -> None:
    x, y = np.array([0.0, 1, 2, 0, 1, 2]), np.array([0.0, 0, 0, 1, 1, 1])
    counts = np.array([40, 20, 10, 15, 0, 60])
    table = bootstrap_counts(x, y, counts, metric=metric, resamples=4000)
    utterances = bootstrap(np.repeat(x, counts), np.repeat(y, counts), metric=metric, resamples=4000, seed=1)
    assert table.value == pytest.approx(utterances.value, abs=1e-12)
    assert [table.low, table.high] == pytest.approx([utterances.low, utterances.high], abs=0.015)
    assert math.isnan(bootstrap_counts(x, y, np.zeros(6), metric=metric).value)


def test_level_and_seed() -> None:
    p, y = correlated(np.random.default_rng(2), 100)
    wide, narrow = bootstrap(p, y, level=0.99), bootstrap(p, y, level=0.5)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert bootstrap(p, y) == bootstrap(list(p), list(y))
    assert bootstrap(p, y, seed=1) != bootstrap(p, y, seed=2)


@pytest.mark.parametrize("speakers", [None, ["a"]])
def test_one_of_a_kind_has_no_interval(speakers: list[str] | None) -> None:
    estimate = bootstrap([1.0], [2.0], metric="rmse", speakers=speakers)
    assert estimate.value == 1
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)
    one_speaker = bootstrap([1.0, 2.0], [2.0, 2.5], speakers=["a", "a"])
    assert math.isnan(one_speaker.low)
    assert math.isnan(bootstrap([], []).value)


def test_resamples_without_a_value_are_left_out() -> None:
    estimate = bootstrap([1.0, 2.0, 2.0], [1.0, 2.0, 2.5], metric="pearson")  # often constant
    assert -1 <= estimate.low <= estimate.high <= 1


def test_error_rates_have_intervals() -> None:
    hypotheses, references = ["a b", "a", "x y z"] * 20, ["a b", "b", "x y"] * 20
    estimate = bootstrap(*edits(hypotheses, references, unit="word"), metric="ratio")
    assert estimate.value == error_rate(hypotheses, references, unit="word") == pytest.approx(0.4)
    assert estimate.low < 0.4 < estimate.high


def apart(a: np.ndarray, b: np.ndarray, truth: np.ndarray, **options: Any) -> Difference:
    """By how much CCC, or another metric, of one is above that of another; the same utterances are drawn for both."""
    value = bootstrap(a, truth, **options).value - bootstrap(b, truth, **options).value
    return difference(value, resampled(a, truth, **options) - resampled(b, truth, **options))


def test_a_better_system_is_told_from_a_worse_one() -> None:
    generator = np.random.default_rng(4)
    y = generator.normal(size=400)
    good, bad = y + generator.normal(0, 0.8, 400), y + generator.normal(0, 1.2, 400)
    found = apart(good, bad, y)
    assert found.value == pytest.approx(ccc(good, y) - ccc(bad, y))
    assert 0 < found.low < found.value < found.high
    assert found.p_value == pytest.approx(2 / 1001)  # the smallest that 1000 resamples can show
    mirrored = apart(bad, good, y)
    assert mirrored.p_value == found.p_value
    assert (mirrored.value, mirrored.low) == pytest.approx((-found.value, -found.high))


def test_pairing_sharpens_the_comparison() -> None:
    generator = np.random.default_rng(6)
    y = generator.normal(size=200)
    shared = y + generator.normal(size=200)
    a, b = shared + generator.normal(0, 0.05, (2, 200))
    alone, together = bootstrap(a, y), apart(a, b, y)
    assert together.high - together.low < 0.3 * (alone.high - alone.low)


def test_p_values_of_equal_systems_are_uniform() -> None:
    generator = np.random.default_rng(7)

    def p_value(seed: int) -> float:
        y = generator.normal(size=100)
        a, b = y + generator.normal(size=(2, 100))
        return apart(a, b, y, metric="pearson", resamples=300, seed=seed).p_value

    p_values = [p_value(seed) for seed in range(300)]
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.09
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01


def test_the_same_system_twice_has_a_p_value_of_one() -> None:
    p, y = correlated(np.random.default_rng(2), 50)
    found = apart(p, p, y)
    assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_many_utterances_and_resamples_take_little_time() -> None:
    p, y = correlated(np.random.default_rng(2), 10_000)
    begin = time.process_time()
    assert isinstance(bootstrap(p, y, resamples=1000), Estimate)
    assert time.process_time() - begin < 3
