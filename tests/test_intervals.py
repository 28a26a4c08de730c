import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sa2sr.config import DIMENSIONS, Scale
from sa2sr.intervals import (
    MOST_RESIDUALS,
    REPORTED_LEVELS,
    Calibration,
    Residuals,
    bounds,
    calibration,
    coverage,
    pooled,
    thinned,
)

SCALE = Scale(name="1-7", low=1, high=7)
sizes = st.lists(st.floats(0, 6).map(lambda x: round(x, 3)), min_size=1, max_size=60)
levels = st.one_of(st.floats(0.001, 0.999), st.integers(1, 99).map(lambda x: x / 100))


def kept(residuals: Any) -> Residuals:
    return Residuals(utterances=len(residuals), speakers=0, sizes=tuple(thinned(residuals)))


@given(sizes, levels)
def test_half_width_is_the_smallest_that_holds_enough_residuals_and_the_next_one(
    residuals: list[float], level: float
) -> None:
    """By counting, and as numpy's quantile of the residuals and of one more that may be anything."""
    enough = level * (len(residuals) + 1) - 1e-6
    fitting = [
        size for size in [*residuals, math.inf] if sum(r <= size for r in residuals) + math.isinf(size) >= enough
    ]
    found = kept(residuals).half_width(level)
    assert found == min(fitting)
    exact = level * (len(residuals) + 1)
    if abs(exact - round(exact)) > 1e-6:  # where numpy's rounding does not decide
        assert found == np.quantile([*residuals, math.inf], level, method="inverted_cdf")
    assert math.isfinite(found) == (level <= kept(residuals).highest_level + 1e-9)


@given(sizes, levels)
def test_it_is_within_one_rank_of_the_usual_recipe(residuals: list[float], level: float) -> None:
    """Papers' code takes numpy's quantile "higher" at ceil((n + 1) level) / n, which may skip a residual."""
    count = len(residuals)
    rank = math.ceil(round((count + 1) * level, 9))
    if rank > count:
        return
    usual = np.quantile(residuals, rank / count, method="higher")
    below = np.quantile(residuals, max(0, rank - 1) / count, method="lower")
    assert below <= kept(residuals).half_width(level) <= usual


@given(sizes, st.integers(1, 10), st.integers(1, 99))
def test_thinned_residuals_promise_no_less_and_the_same_at_their_own_levels(
    residuals: list[float], most: int, per_cent: int
) -> None:
    few = thinned(residuals, most)
    assert len(few) == min(most, len(residuals))
    assert set(few) <= set(residuals)

    def half_width(of: Any, level: float) -> float:
        return Residuals(utterances=len(of), speakers=0, sizes=tuple(sorted(of))).half_width(level)

    assert half_width(few, per_cent / 100) >= half_width(residuals, per_cent / 100)
    if len(residuals) >= most:
        for own in range(1, most + 1):
            assert half_width(few, own / (most + 1)) == half_width(residuals, own / (most + 1))


def test_a_million_residuals_are_kept_in_a_thousand() -> None:
    residuals = np.abs(np.random.default_rng(0).standard_normal(1_000_000))
    few = kept(residuals)
    assert len(few.sizes) == MOST_RESIDUALS
    ordered = np.sort(residuals)
    for level in (0.5, 0.8, 0.9, 0.95, 0.99):
        assert few.half_width(level) == ordered[math.ceil(level * 1_000_001 - 1e-6) - 1]


@given(st.lists(sizes, min_size=1, max_size=4), levels)
def test_pooled_residuals_are_those_of_all_trainings(trainings: list[list[float]], level: float) -> None:
    parts = [Calibration(cuts=(f"{n % 2}/dev.jsonl",), valence=kept(each)) for n, each in enumerate(trainings)]
    found = pooled(parts)
    assert found.valence == kept([size for each in trainings for size in each])
    assert found.activation is None
    assert found.trainings == len(trainings)
    assert pooled([found, found]).trainings == 2 * len(trainings)
    assert found.cuts == ("0/dev.jsonl", "1/dev.jsonl")[: len(trainings)]


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=4), st.integers(0, 2**32 - 1), st.integers(1, 99))
@settings(max_examples=100, deadline=None)
def test_thinned_residuals_are_pooled_by_what_they_stand_for(counts: list[int], seed: int, per_cent: int) -> None:
    """As near to all of them as two thousandths, and a rank of each training."""
    random = np.random.default_rng(seed)
    trainings = [np.abs(random.normal(random.uniform(0, 3), 1, count)) for count in counts]
    everything = np.sort(np.concatenate(trainings))
    found = pooled([Calibration(valence=kept(each)) for each in trainings]).valence
    assert found is not None
    assert found.utterances == len(everything)
    half_width = found.half_width(per_cent / 100)
    if math.isfinite(half_width):
        share = np.mean(everything <= half_width)
        slack = 2 / (MOST_RESIDUALS + 1) + (len(trainings) + 2) / len(everything)
        assert per_cent / 100 - slack <= share <= per_cent / 100 + slack


def test_speakers_of_pooled_residuals_are_unknown_where_some_are() -> None:
    ratings = np.array([[4.0, 4.0, np.nan]] * 3)
    known, unknown = (calibration(np.ones((3, 3)), ratings, names) for names in (("a", "b", "b"), ()))
    for parts, speakers in (((known, known), 4), ((known, unknown), 0)):
        found = pooled(parts).valence
        assert found is not None
        assert (found.utterances, found.speakers) == (6, speakers)


def people(random: np.random.Generator, count: int) -> tuple[Any, Any]:
    """Predictions and ratings of utterances, within the scale; dimensions differ in how hard they are, and so do
    utterances."""
    truth = random.uniform(1, 7, (count, 3))
    error = random.standard_t(4, (count, 3)) * np.array([0.4, 1.0, 0.7]) * (0.5 + truth / 7)
    return np.clip(truth + error, 1, 7), truth


def test_coverage_is_what_is_promised_and_is_not_when_calibrated_on_other_data() -> None:
    """On average over calibration sets of 200 the share of new ratings within is k / (n + 1), to within 1 %."""
    random = np.random.default_rng(1)
    shares: dict[float, list[Any]] = {level: [] for level in REPORTED_LEVELS}
    wrong: dict[float, list[Any]] = {level: [] for level in REPORTED_LEVELS}
    for _ in range(150):
        predictions, ratings = people(random, 200)
        predictions[random.random(predictions.shape) < 0.1] = 4.0
        honest = calibration(predictions, ratings)
        easier = calibration(predictions, predictions + 0.7 * (ratings - predictions))  # residuals 30 % too small
        new_predictions, new_ratings = people(random, 500)
        new_predictions[random.random(new_predictions.shape) < 0.1] = 4.0
        for level in REPORTED_LEVELS:
            for calibrated, into in ((honest, shares), (easier, wrong)):
                low, high = bounds(new_predictions, calibrated.half_widths(level), SCALE)
                into[level].append(((low - 1e-9 <= new_ratings) & (new_ratings <= high + 1e-9)).mean(0))
    for level in REPORTED_LEVELS:
        assert np.mean(shares[level], 0) == pytest.approx(math.ceil(level * 201 - 1e-6) / 201, abs=0.01)
        assert (np.mean(wrong[level], 0) < level - 0.03).all()


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_reported_coverage_is_that_of_the_intervals(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    predictions, ratings = people(random, count)
    ratings[random.random(ratings.shape) < 0.2] = np.nan
    halves = np.array([*random.uniform(0, 3, 2), math.inf])
    found = coverage(predictions, ratings, halves, SCALE)
    assert found[2] == {}
    for column in (0, 1):
        pairs = [(p, r) for p, r in zip(predictions[:, column], ratings[:, column], strict=True) if not math.isnan(r)]
        if not pairs:
            assert found[column] == {}
            continue
        ends = [(max(1.0, p - halves[column]), min(7.0, p + halves[column])) for p, _ in pairs]
        inside = [low <= rating <= high for (low, high), (_, rating) in zip(ends, pairs, strict=True)]
        assert found[column]["utterances"] == len(pairs)
        assert found[column]["half_width"] == halves[column]
        assert found[column]["coverage"] == pytest.approx(np.mean(inside))
        assert found[column]["mean_width"] == pytest.approx(np.mean([high - low for low, high in ends]))


def test_a_calibration_covers_itself() -> None:
    """Rounding must not put the utterance at the edge outside."""
    predictions, ratings = people(np.random.default_rng(2), 19)
    found = calibration(predictions, ratings)
    for level, inside in ((0.8, 16), (0.9, 18), (0.95, 19)):
        shares = [each["coverage"] for each in coverage(predictions, ratings, found.half_widths(level), SCALE)]
        assert shares == pytest.approx([inside / 19] * 3)


def test_dimensions_without_ratings_and_speakers_without_names() -> None:
    ratings = [[1.0, math.nan, 3.0], [2.0, math.nan, math.nan], [4.0, math.nan, 4.0]]
    found = calibration(np.full((3, 3), 2.0), ratings, ["a", "b", None], ["corpora/msp/dev.jsonl.gz"])
    assert found.cuts == ("msp/dev.jsonl.gz",)
    assert found.valence is None
    assert found.activation == Residuals(utterances=3, speakers=2, sizes=(0.0, 1.0, 2.0))
    assert found.dominance == Residuals(utterances=2, speakers=1, sizes=(1.0, 2.0))
    assert found.half_widths(0.6).tolist() == [2.0, math.inf, 2.0]
    assert found.half_widths(0.7).tolist() == [2.0, math.inf, math.inf]  # 0.7 * 3 is more than there are
    low, high = bounds([6.0, 3.0, 2.0], found.half_widths(0.6), SCALE)
    assert np.array_equal(low, [4.0, np.nan, 1.0], equal_nan=True)  # not 0, below the scale
    assert np.array_equal(high, [7.0, np.nan, 4.0], equal_nan=True)
    assert calibration(np.zeros((0, 3)), np.zeros((0, 3))) == Calibration()


@pytest.mark.parametrize(
    "values",
    [
        {"utterances": 2, "speakers": 0, "sizes": [1.0]},
        {"utterances": 2, "speakers": 0, "sizes": [2.0, 1.0]},
        {"utterances": 2, "speakers": 0, "sizes": [-1.0, 1.0]},
        {"utterances": 1, "speakers": 0, "sizes": [math.inf]},
        {"utterances": 0, "speakers": 0, "sizes": []},
        {"utterances": 5000, "speakers": 0, "sizes": [1.0] * 5000},
        {"utterances": 1, "speakers": 0, "sizes": [1.0], "more": 1},
    ],
)
def test_what_is_no_calibration_is_refused(values: dict[str, Any]) -> None:
    for dimension in DIMENSIONS:
        with pytest.raises(ValidationError):
            Calibration.model_validate({dimension: values})
