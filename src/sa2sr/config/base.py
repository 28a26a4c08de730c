"""What all settings share: their base class, the types of their values, and the names of what is predicted."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

DIMENSIONS = ("activation", "valence", "dominance")
SENTIMENTS = ("negative", "neutral", "positive")
ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"  # with the CTC blank in front: the paper's 29 characters

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=1, le=1000)]  # frames
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
# In lower case, as the categories of cuts are read.
Category = Annotated[str, Field(pattern=r"^[^\p{Cc}\p{Lu}]+$", max_length=100)]
# One path need not be written as a list.
Paths = Annotated[tuple[Path, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str | Path) else v)]


class Settings(BaseModel):
    """Base of all settings: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _booleans_are_not_numbers(cls, value: Any, info: Any) -> Any:
        """YAML reads yes, no, on and off as booleans, which would pass for 1 and 0."""
        parts = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(part, bool) for part in parts) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("must not be true or false (YAML reads yes, no, on and off as these)")
        return value
