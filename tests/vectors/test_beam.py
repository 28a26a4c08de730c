"""Beam search against all paths, and with a language model that a file spells out."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from sa2sr.config import ALPHABET, Transcripts
from sa2sr.errors import UserError
from sa2sr.speech.text import read_ctc
from sa2sr.vectors.beam import make_decoder

pytest.importorskip("flashlight.lib.text", reason="beams are an extra, for Python up to 3.12")

ARPA = """\\data\\
ngram 1=6
ngram 2=3

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.3
-1.0\t</s>
-0.8\tbad\t-0.3
-0.8\tbed\t-0.3
-0.8\ta\t-0.3

\\2-grams:
-0.1\ta bed
-2.5\ta bad
-0.2\t<s> a

\\end\\
"""


def spell(text: str, *, doubtful: dict[int, str] | None = None, strength: float = 6.0) -> np.ndarray:  # type: ignore[type-arg]
    """Log probabilities that spell a text, a frame a character; at some positions another is a little likelier."""
    logits = np.zeros((len(text), 1 + len(ALPHABET)), np.float32)
    for row, character in enumerate(text):
        logits[row, 1 + ALPHABET.index(character)] = strength
        if row in (doubtful or {}):
            logits[row, 1 + ALPHABET.index((doubtful or {})[row])] = strength + 0.2
    return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)))


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_the_likeliest_transcript(seed: int) -> None:
    kept = (0, 2, 3, 4)  # the blank and some letters; the others are as good as impossible
    steps = 5
    probabilities = np.full((steps, 1 + len(ALPHABET)), -100.0, np.float32)
    drawn = np.random.default_rng(seed).dirichlet(np.ones(len(kept)), steps)
    probabilities[:, kept] = np.log(drawn)
    sums: dict[str, float] = {}
    for path in product(kept, repeat=steps):
        text = read_ctc(path)
        sums[text] = sums.get(text, 0) + float(np.exp(sum(probabilities[t, c] for t, c in enumerate(path))))
    found = make_decoder(Transcripts(source="ctc", beam=500))(probabilities)
    assert sums[found] == pytest.approx(max(sums.values()), rel=0.02)


def test_without_a_beam_it_is_the_best_class_of_each_frame() -> None:
    assert make_decoder(Transcripts(source="ctc"))(spell("a bed ")) == "a bed"


def test_a_language_model_decides_what_is_doubtful(tmp_path: Path) -> None:
    (tmp_path / "words.arpa").write_text(ARPA)
    heard = spell("a bed", doubtful={3: "a"})  # sounds more like "a bad"
    settings = Transcripts(source="ctc", beam=50)
    assert make_decoder(settings)(heard) == "a bad"
    with_model = settings.model_copy(update={"language_model": tmp_path / "words.arpa"})
    assert make_decoder(with_model)(heard) == "a bed"
    assert make_decoder(with_model.model_copy(update={"language_weight": 0.0}))(heard) == "a bad"
    blank = np.full((3, 1 + len(ALPHABET)), -20.0, np.float32)
    blank[:, 0] = 0
    assert make_decoder(with_model)(blank) == ""


def test_words_come_from_the_lexicon(tmp_path: Path) -> None:
    (tmp_path / "words.arpa").write_text(ARPA)
    (tmp_path / "lexicon.txt").write_text("a\nbid\nBad\n42\n")
    settings = Transcripts(source="ctc", beam=50, language_model=tmp_path / "words.arpa")
    heard = spell("a bod", strength=4.0)
    assert make_decoder(settings, words=["bod"])(heard) == "a bod"
    assert make_decoder(settings)(heard) in ("a bad", "a bed")
    of_file = settings.model_copy(update={"lexicon": tmp_path / "lexicon.txt"})
    assert make_decoder(of_file, words=["bod"])(heard) in ("a bad", "a bid")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no such format", "no words of a-z and apostrophes"),
        (b"mmap lm http://kheafield.com/code format version 5\n", "no words of a-z"),
        (b"\\1-grams:\n-1 word\n", "is no language model"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_language_model(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        make_decoder(Transcripts(source="ctc", beam=2, language_model=path))
    assert str(path) in str(caught.value)
