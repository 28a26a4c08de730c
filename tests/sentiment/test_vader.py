import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from sa2sr.config import SENTIMENTS
from sa2sr.errors import UserError
from sa2sr.sentiment import teacher_from_name
from sa2sr.sentiment.vader import probabilities_from_compound

ANALYSER = SentimentIntensityAnalyzer()
TEACHER = teacher_from_name("vader")
WORDS = ("good", "wonderful", "bad", "terrible", "not", "very", "the", "table", "but", "hardly", "!", "never")


def test_most_probable_class_follows_the_customary_thresholds() -> None:
    compound = np.arange(-10_000, 10_001) / 10_000  # every score that VADER can give
    customary = np.where(compound >= 0.05, 2, np.where(compound <= -0.05, 0, 1))
    probabilities = probabilities_from_compound(compound)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), customary)
    np.testing.assert_array_equal(probabilities.astype(float).round(6).argmax(axis=1), customary)  # as it is written


def test_probabilities_are_graded_and_mirrored() -> None:
    compound = np.arange(-10_000, 10_001) / 10_000
    probabilities = probabilities_from_compound(compound).astype(float)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(probabilities[::-1, ::-1], probabilities, atol=1e-6)
    assert (np.diff(probabilities[:, 2]) > -1e-7).all()
    assert probabilities[[0, 2_500, 5_000, 9_000]].argmax(axis=1).tolist() == [0, 0, 0, 0]
    assert (np.diff(probabilities[[10_000, 12_000, 15_000, 19_000, 20_000], 2]) > 0.005).all()


def test_documented_examples() -> None:
    probabilities = probabilities_from_compound(np.array([0, 0.2, 0.5, 0.9]))
    assert round(float(probabilities[0, 1]), 2) == 0.69
    assert probabilities[1:, 2].round(2).tolist() == pytest.approx([0.70, 0.84, 0.92])


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join))
def test_agrees_with_vader_on_sentences(sentence: str) -> None:
    compound = ANALYSER.polarity_scores(sentence)["compound"]
    expected = "positive" if compound >= 0.05 else "negative" if compound <= -0.05 else "neutral"
    assert SENTIMENTS[int(TEACHER.probabilities([sentence]).argmax())] == expected


def test_capitals_are_no_emphasis_in_a_transcript_in_capitals() -> None:
    sentence = "IT WAS A GOOD DAY, BUT 2 DOGS WERE SAD"
    lower, upper = TEACHER.probabilities([sentence.lower(), sentence])
    np.testing.assert_array_equal(lower, upper)


def test_capitals_are_emphasis_beside_lower_case() -> None:
    calm, loud = TEACHER.probabilities(["the day was good", "the day was GOOD"])
    assert loud[2] > calm[2]


def test_curly_apostrophes_negate_too() -> None:
    straight, curly = TEACHER.probabilities(["it wasn't good", "it wasn\u2019t good"])
    np.testing.assert_array_equal(curly, straight)
    assert curly.argmax() == SENTIMENTS.index("negative")


@settings(deadline=None)
@given(st.lists(st.text(max_size=40), max_size=5))
def test_any_text_gets_probabilities(texts: list[str]) -> None:
    probabilities = TEACHER.probabilities(texts)
    assert probabilities.shape == (len(texts), 3)
    assert probabilities.dtype == np.float32
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_a_book_takes_no_longer_than_a_page() -> None:
    page = "not very good but bad " * 300
    one, many = TEACHER.probabilities([page, page * 200])
    np.testing.assert_array_equal(one, many)


def test_name_tells_the_version() -> None:
    assert TEACHER.name.startswith("vader-")
    assert TEACHER.name[-1] in string.digits


@pytest.mark.parametrize("spec", ["vade", "", "transformers:", "transformers", "vader:3", "TRANSFORMERS:x"])
def test_unknown_teachers_are_refused(spec: str) -> None:
    with pytest.raises(UserError, match="use vader, or transformers:<folder or hub id>"):
        teacher_from_name(spec)
