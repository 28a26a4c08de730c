"""What only people know of a model, and its card should say: ``card.yaml`` in the model folder or its run folder."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from sa2sr.config import Settings, read_yaml, validate
from sa2sr.errors import ModelError, RecipeError

FACTS_FILE = "card.yaml"
_LIMITS = (
    "A prediction is an estimate of how listeners would rate a voice, not of what somebody feels, and no measure of "
    "truthfulness, health or intent. Do not decide about people by it. Other languages, children, singing, telephone "
    "lines and strong noise are outside of what it has been measured on, unless the figures above say otherwise. "
    "Predictions pull towards the middle of the scale, and differences between speakers are partly differences between "
    "microphones and rooms."
)
_USE = "Research on speech, and tables of recordings that a person reads with the intervals and the limits in mind."

Text = Annotated[str, Field(max_length=20_000)]
Line = Annotated[str, Field(pattern=r"^[^\p{Cc}]+$", max_length=500)]


def _licence(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,99}", text):
        raise ValueError("must be as the hub spells licences, such as mit, cc-by-nc-sa-4.0, or other")
    return text


Licence = Annotated[str, AfterValidator(_licence)]


class Source(Settings):
    """Data that a model learnt from."""

    name: Line
    licence: Line
    use: Line | None = None  # such as: fine-tuning, valence in words
    address: Line | None = None


class CardFacts(Settings):
    """What ``card.yaml`` holds; texts are Markdown."""

    licence: Licence | None = None
    licence_name: Line | None = None  # where the licence is "other"
    licence_link: Line | None = None  # likewise
    title: Line | None = None
    summary: Text | None = None
    languages: tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...] = ()  # ISO 639
    data: tuple[Source, ...] = ()
    training: Text | None = None  # how it was made, and by which commands
    intended_use: Text = _USE
    limits: Text = _LIMITS


def read_facts(path: Path | None, licence: str | None = None) -> CardFacts:
    """Read a ``card.yaml``, if there is one; a licence takes the place of the one in it.

    Raises:
        ModelError: naming the key and what is allowed
    """
    try:
        facts = validate(CardFacts, read_yaml(path) or {}, str(path)) if path is not None else CardFacts()
        if licence is None:
            return facts
        return validate(CardFacts, facts.model_dump() | {"licence": licence}, "--licence")
    except RecipeError as error:
        raise ModelError(str(error)) from None
