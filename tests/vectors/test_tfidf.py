"""TF-IDF against scikit-learn's."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from sa2sr.config import TfIdfFeatures
from sa2sr.vectors.tfidf import fit_vocabulary, tfidf

TEXTS = [
    "The sun is out, the sun!",
    "He didn't like the rain.",
    "Rain, rain and no sun\N{EM DASH}alas",
    "the sun came out; he didn\N{RIGHT SINGLE QUOTATION MARK}t go out",
    "Über 20 Grad in the sun",
    "",
]
NEW = ["the sun and the rain", "nothing known here at all", "", "DIDN'T LIKE THE RAIN"]


@pytest.mark.parametrize(("unit", "longest", "fewest"), [("word", 1, 1), ("word", 2, 2), ("character", 3, 2)])
def test_scikit_learn_gives_the_same(unit: str, longest: int, fewest: int) -> None:
    settings = TfIdfFeatures(unit=unit, longest=longest, fewest=fewest)  # type: ignore[arg-type]
    reference = TfidfVectorizer(
        preprocessor=lambda text: text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"),
        token_pattern=r"[^\W_]+(?:'[^\W_]+)*",
        analyzer="word" if unit == "word" else "char_wb",
        ngram_range=(1, longest),
        min_df=fewest,
    )
    if unit == "character":  # theirs cuts words at spaces alone
        texts, new = ([" ".join(_words(text)) for text in each] for each in (TEXTS, NEW))
    else:
        texts, new = TEXTS, NEW
    expected = reference.fit_transform(texts).toarray()
    vocabulary = fit_vocabulary(texts, settings)
    columns = [reference.vocabulary_[ngram] for ngram in vocabulary.ngrams]
    assert len(vocabulary.ngrams) == len(reference.vocabulary_) > 5
    np.testing.assert_allclose(tfidf(texts, vocabulary, settings).toarray(), expected[:, columns], atol=1e-12)
    of_new = reference.transform(new).toarray()[:, columns]
    np.testing.assert_allclose(tfidf(new, vocabulary, settings).toarray(), of_new, atol=1e-12)


def _words(text: str) -> list[str]:
    kept = "".join(c if c.isalnum() or c == "'" else " " for c in text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    return kept.lower().split()


def test_the_most_frequent_are_kept() -> None:
    vocabulary = fit_vocabulary(TEXTS, TfIdfFeatures(longest=1, fewest=1, most=3))
    assert vocabulary.ngrams == ("didn't", "sun", "the")  # of "didn't", "out" and "rain", in two texts each, the first
    assert len(set(vocabulary.weights)) == 2
