"""What the paper reports, to stand beside what is measured here."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from sa2sr.config import Recipe, read_yaml

_ALIASES = {"scratch": "none"}


@cache
def _reported() -> dict[str, Any]:
    values: dict[str, Any] = read_yaml(Path(__file__).with_name("paper.yaml"))
    return values


def note() -> str:
    """Where the paper's figures come from, in a sentence."""
    return f"The columns '{title()}' are not ours but those of {_reported()['source']}: {_reported()['measured']}."


def title() -> str:
    """The mark of the paper's figures."""
    return str(_reported()["short"])


def reported_ccc(names: Iterable[str]) -> tuple[float, float, float] | None:
    """The CCC of activation, valence and dominance that the paper reports of a system; none where it names no such.

    Args:
        names: of the system and of its recipe: the first that the paper has counts, ``-small`` and ``demo-`` aside
    """
    for name in names:
        plain = name.lower().removeprefix("demo-").replace("-small", "")
        if (found := _reported()["systems"].get(_ALIASES.get(plain, plain))) is not None:
            return found[0], found[1], found[2]
    return None


def recipe_name(recipe: Recipe) -> str:
    """``asr-frozen`` for the recipe ``asr-small`` with a frozen encoder."""
    frozen = recipe.finetuning is not None and recipe.finetuning.freeze_encoder
    return recipe.name.replace("-frozen", "") + ("-frozen" if frozen else "")
