"""Transcripts in the alphabet of the recogniser."""

import re
import unicodedata
from collections.abc import Iterable
from itertools import groupby, pairwise

from sa2sr.config import ALPHABET

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u2018\u02bc\u0060\u00b4", "'"))  # curly, modifier, grave, acute
_OTHER = re.compile(r"[^a-z']+")


def normalise_text(text: str) -> str | None:
    """Lower case a-z, apostrophes and single spaces; accents are removed, punctuation separates words.

    Returns:
        None where nothing is left, or where digits stand for words that the text does not spell
    """
    plain = unicodedata.normalize("NFKD", text.translate(_APOSTROPHES)).lower()
    if any(character.isdigit() for character in plain):
        return None
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    return " ".join(word for word in _OTHER.sub(" ", plain).split() if word.strip("'")) or None


def ctc_steps(text: str) -> int:
    """The fewest frames that can carry ``text``: one a character, and a blank between two that are equal."""
    return len(text) + sum(a == b for a, b in pairwise(text))


def read_ctc(classes: Iterable[int]) -> str:
    """The transcript that the best class of each frame spells: repetitions joined, blanks (class 0) removed."""
    return "".join(ALPHABET[each - 1] for each, _ in groupby(classes) if each).strip()
