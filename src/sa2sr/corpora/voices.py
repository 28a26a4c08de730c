"""Voices of espeak-ng that speak clearly, in groups that share none: who tests is heard nowhere in training."""

import json
from collections.abc import Iterable
from difflib import get_close_matches
from hashlib import sha256
from typing import Literal

from sa2sr.errors import CorpusError

Group = Literal["training", "development", "test"]

# Some variants are one voice under several names: those whose normalised frames of one sentence differ by less than
# 0.35 of a standard deviation are kept within one of the groups.
VOICES: dict[Group, tuple[str, ...]] = {
    "training": (
        *("Alex", "Andrea", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Mario", "Michael", "Mike", "Nguyen"),
        *("Reed", "RicishayMax", "RicishayMax2", "adam", "anika", "aunty", "benjamin", "edward", "f2", "f3", "f5"),
        *("gustave", "ian", "iven3", "john", "klatt", "klatt3", "klatt4", "m1", "m5", "m6", "m7", "m8", "max"),
        *("michel", "miguel", "mike2", "rob", "robert", "robosoft2", "robosoft4", "steph", "steph3", "victor"),
    ),
    "development": ("Lee", "belinda", "david", "f1", "linda", "m2", "m3", "pedro"),
    "test": (
        *("Andy", "Annie", "boris", "f4", "grandma", "m4"),
        *("marcelo", "norbert", "pablo", "sandro", "shelby", "travis"),
    ),
}


def choose_voices(wanted: str) -> dict[Group, tuple[str, ...]]:
    """The voices of each group that a user wants.

    Args:
        wanted: ``"all"``, how many of each group at most, or names separated by commas

    Raises:
        CorpusError: if a name is in no group, or no voice is wanted
    """
    wanted = wanted.strip()
    if wanted == "all":
        return dict(VOICES)
    if wanted.isdecimal() and int(wanted) > 0:
        # Neighbours in the alphabet are often one voice in two versions.
        return {group: shuffled(names, "voices")[: int(wanted)] for group, names in VOICES.items()}
    known = [name for names in VOICES.values() for name in names]
    named = {name.strip() for name in wanted.split(",")}
    if unknown := sorted(named - set(known)):
        near = ", ".join(get_close_matches(unknown[0], known, cutoff=0))
        raise CorpusError(f"voices '{wanted}': there is no '{unknown[0]}' among the {len(known)}, but {near}")
    return {group: tuple(name for name in names if name in named) for group, names in VOICES.items()}


def shuffled(items: Iterable[str], *seed: str | int) -> tuple[str, ...]:
    """The items in a random order, which depends on the seed and on each item alone: one more changes no other."""
    return tuple(sorted(items, key=lambda item: draw(*seed, item)))


def draw(*seed: str | int) -> bytes:
    """A random number, as bytes to sort by, that depends on ``seed`` alone."""
    return sha256(json.dumps(seed).encode()).digest()
