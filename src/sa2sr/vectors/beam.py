"""Beam search over CTC probabilities, with a language model of words if there is one, by flashlight-text."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import ALPHABET, Transcripts
from sa2sr.errors import UserError
from sa2sr.speech.text import read_ctc

Decoder = Callable[[NDArray[np.float32]], str]  # log probabilities (T', 29) -> a transcript

_SPACE = 1 + ALPHABET.index(" ")
_CLASSES = {character: number for number, character in enumerate(ALPHABET, start=1)}
_THRESHOLD = 50.0  # hypotheses this far behind the best are dropped, in natural logarithms
_MOST_WORDS = 2_000_000
_WORD = re.compile(r"[a-z']+")
_UNKNOWN = "<unk>"


def make_decoder(settings: Transcripts, words: Iterable[str] = ()) -> Decoder:
    """The decoder that settings ask for.

    Without a language model any characters may come out; with one, only words of the lexicon: those of its own file, or
    else those of an ARPA file and ``words``.

    Raises:
        UserError: if the extra is missing, or the language model or the lexicon cannot be read
    """
    if settings.beam == 1:
        return lambda probabilities: read_ctc(probabilities.argmax(-1).tolist())
    library = _flashlight()
    if settings.language_model is None:
        options = library.LexiconFreeDecoderOptions(
            settings.beam, 1 + len(ALPHABET), _THRESHOLD, 0.0, 0.0, True, library.CriterionType.CTC
        )
        search = library.LexiconFreeDecoder(options, library.ZeroLM(), _SPACE, 0, [])
        return lambda probabilities: read_ctc(_best(search, probabilities).tokens)
    return _with_words(library, settings, settings.language_model, words)


def _with_words(library: Any, settings: Transcripts, model: Path, words: Iterable[str]) -> Decoder:
    lexicon = sorted({*_read_lexicon(settings, model, words)})
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    numbers = Dictionary(lexicon)
    unknown = numbers.add_entry(_UNKNOWN) or numbers.get_index(_UNKNOWN)
    numbers.set_default_index(unknown)
    try:
        language = KenLM(str(model), numbers)
    except Exception as error:  # what a broken file raises is the library's own
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{model}: is no language model in ARPA's or KenLM's format ({reason})") from None
    trie, start = library.Trie(1 + len(ALPHABET), _SPACE), language.start(False)
    for number, word in enumerate(lexicon):
        _, score = language.score(start, number)
        trie.insert([*(_CLASSES[character] for character in word), _SPACE], number, score)
    trie.smear(library.SmearingMode.MAX)
    options = library.LexiconDecoderOptions(
        settings.beam,
        1 + len(ALPHABET),
        _THRESHOLD,
        settings.language_weight,
        settings.word_score,
        float("-inf"),
        0.0,
        False,
        library.CriterionType.CTC,
    )
    search = library.LexiconDecoder(options, trie, language, _SPACE, 0, unknown, [], False)
    # Words end with a space: one frame more, so that the last does too.
    end = np.full((1, 1 + len(ALPHABET)), -1e4, np.float32)
    end[0, _SPACE] = 0

    def decode(probabilities: NDArray[np.float32]) -> str:
        best = _best(search, np.concatenate([probabilities, end]))
        return " ".join(lexicon[number] for number in best.words if 0 <= number < len(lexicon))

    return decode


def _best(search: Any, probabilities: NDArray[np.float32]) -> Any:
    emissions = np.ascontiguousarray(probabilities, np.float32)
    return search.decode(emissions.ctypes.data, *emissions.shape)[0]


def _read_lexicon(settings: Transcripts, model: Path, words: Iterable[str]) -> Iterator[str]:
    """Words in the alphabet, at most some millions."""
    path = settings.lexicon or model
    count = 0
    try:
        with path.open("rb") as file:
            own = _lines(file) if settings.lexicon is not None else _unigrams(file)
            for word in own:
                if _WORD.fullmatch(word):
                    count += 1
                    yield word
                if count > _MOST_WORDS:
                    raise UserError(f"{path}: has more than {_MOST_WORDS:,} words; give a smaller lexicon")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    others = [] if settings.lexicon is not None else [word for word in words if _WORD.fullmatch(word)]
    if not count and not others:
        raise UserError(f"{path}: no words of a-z and apostrophes in it; text.lexicon names a file of words")
    yield from others


def _lines(file: Iterable[bytes]) -> Iterator[str]:
    return (line.decode("utf-8", "replace").strip().lower() for line in file)


def _unigrams(file: Iterable[bytes]) -> Iterator[str]:
    """The words of an ARPA file; none of a binary one."""
    inside = False
    for number, line in enumerate(file):
        if number == 0 and line[:4] == b"mmap":  # KenLM's binary formats begin like this
            return
        if line.startswith(b"\\"):
            if inside:
                return
            inside = line.strip() == b"\\1-grams:"
        elif inside and len(parts := line.decode("utf-8", "replace").split()) > 1:
            yield parts[1]


def _flashlight() -> Any:
    try:
        from flashlight.lib.text import decoder
    except ImportError:
        raise UserError(
            "a beam needs the extra of that name: pip install 'sa2sr[beam]'; for Python 3.13 and newer there is no "
            "ready flashlight-text, so that it needs a compiler and CMake: pip install flashlight-text"
        ) from None
    return decoder
