"""VADER, a lexicon and rules (Hutto and Gilbert, 2014): quick, offline, the default teacher."""

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from sa2sr.sentiment.teachers import natural_case

_LONGEST = 5_000  # characters that are read: VADER's time grows with the square of the number of words
_GAIN = 4.0
_THRESHOLD = 0.04995  # compounds are multiples of 0.0001, so this tells 0.0499 from 0.05 without a tie


class VaderTeacher:
    """VADER's compound score, turned into three probabilities by :func:`probabilities_from_compound`."""

    def __init__(self) -> None:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self._analyser = SentimentIntensityAnalyzer()
        self._name = f"vader-{version('vaderSentiment')}"

    @property
    def name(self) -> str:
        """Such as ``vader-3.3.2``."""
        return self._name

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See :meth:`sa2sr.sentiment.Teacher.probabilities`."""
        scores = (self._analyser.polarity_scores(_prepared(text)) for text in texts)
        return probabilities_from_compound(np.array([score["compound"] for score in scores], dtype=np.float64))


def _prepared(text: str) -> str:
    """VADER knows contractions, and so negations, with the straight apostrophe only."""
    return natural_case(text[:_LONGEST]).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def probabilities_from_compound(compound: NDArray[np.float64]) -> NDArray[np.float32]:
    """Probabilities of negative, neutral and positive, shape (N, 3), from compound scores in -1..1, shape (N,).

    They are ``softmax(-4 z, 4 z0, 4 z)`` with ``z`` the cube root of the compound and ``z0`` that of VADER's customary
    threshold, 0.05. So the most probable class is positive from 0.05 on, negative from -0.05 down, and neutral between;
    positive and negative mirror each other; and stronger words give surer labels: a compound of 0 is 69 % neutral, and
    0.2, 0.5 and 0.9 are 70, 84 and 92 % positive. On sentences labelled by people (TweetEval, EmoBank) the cube root
    is likelier than the compound itself, since weak and strong words differ less than their compounds do.
    """
    logits = np.zeros((len(compound), 3))
    logits[:, 2] = _GAIN * np.cbrt(compound)
    logits[:, 0] = -logits[:, 2]
    logits[:, 1] = _GAIN * np.cbrt(_THRESHOLD)
    powers = np.exp(logits)
    probabilities: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities
