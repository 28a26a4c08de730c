"""Texts to weighted counts of n-grams (TF-IDF), by a vocabulary that is plain data."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sa2sr.config import TfIdfFeatures

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_LONGEST = 20_000  # characters that are read of a text


@dataclass(frozen=True)
class Vocabulary:
    """The n-grams that count, in their order, and the weight of each."""

    ngrams: tuple[str, ...]
    weights: NDArray[np.float64]  # (V,) inverse document frequencies


def fit_vocabulary(texts: Sequence[str], settings: TfIdfFeatures) -> Vocabulary:
    """The n-grams of training texts, with the weight ``ln((1 + N) / (1 + n)) + 1`` for one in n of N texts.

    Of n-grams in equally many texts the first in the alphabet are kept.
    """
    counts = Counter(ngram for text in texts for ngram in {*_ngrams(text, settings)})
    known = [(count, ngram) for ngram, count in counts.items() if count >= settings.fewest]
    kept = sorted(sorted(known, key=lambda each: (-each[0], each[1]))[: settings.most], key=lambda each: each[1])
    documents = np.array([count for count, _ in kept], np.float64)
    return Vocabulary(tuple(ngram for _, ngram in kept), np.log((1 + len(texts)) / (1 + documents)) + 1)


def tfidf(texts: Sequence[str], vocabulary: Vocabulary, settings: TfIdfFeatures) -> Any:
    """Counts times weights, each text scaled to the length 1: a sparse array (N, V)."""
    numbers = {ngram: number for number, ngram in enumerate(vocabulary.ngrams)}
    rows, columns, values = [], [], []
    for row, text in enumerate(texts):
        for ngram, count in Counter(_ngrams(text, settings)).items():
            if (column := numbers.get(ngram)) is not None:
                rows.append(row)
                columns.append(column)
                values.append(count * vocabulary.weights[column])
    places = np.array(rows, np.int32), np.array(columns, np.int32)  # support vector regression takes no others
    found = sparse.csr_array((np.array(values, np.float64), places), shape=(len(texts), len(numbers)))
    lengths = np.sqrt(found.multiply(found).sum(axis=1))
    return sparse.csr_array(found.multiply(1 / np.where(lengths > 0, lengths, 1)[:, None]))


def _ngrams(text: str, settings: TfIdfFeatures) -> Iterator[str]:
    """N-grams of words, or of characters within words that a space surrounds."""
    plain = unicodedata.normalize("NFKC", text[:_LONGEST]).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    words: list[str] = _WORD.findall(plain)
    sequences = [words] if settings.unit == "word" else [list(f" {word} ") for word in words]
    join = (" " if settings.unit == "word" else "").join
    for units in sequences:
        for length in range(1, settings.longest + 1):
            bounds = range(len(units) - length + 1)
            yield from (join(units[start : start + length]) for start in bounds)
