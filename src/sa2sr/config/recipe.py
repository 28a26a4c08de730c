"""Recipes: short YAML files that may extend one another.

:func:`load_recipe` merges the chain, applies ``key.sub=value`` overrides and validates the result.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from sa2sr.config.base import Name, Settings
from sa2sr.config.encoder import EncoderSettings, frames_of
from sa2sr.config.model import FrontEnd, check_inputs
from sa2sr.config.objectives import FEELINGS
from sa2sr.config.reading import parse_yaml, read_yaml, validate
from sa2sr.config.regression import Regression
from sa2sr.config.training import Stage
from sa2sr.errors import RecipeError

_PACKAGE = Path(__file__).resolve().parents[1]
RECIPE_FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parents[1] / "recipes")  # installed, or in a checkout


class Recipe(Settings):
    """A system: what it is and how it is trained."""

    name: Name = "sa2sr"
    seed: int = Field(default=0, ge=0, lt=2**32)
    frontend: FrontEnd = FrontEnd()
    encoder: EncoderSettings = EncoderSettings()
    pretraining: Stage | None = None  # none: the encoder starts from random weights
    finetuning: Stage | None = None
    regression: Regression | None = None  # in place of a fine-tuning

    @model_validator(mode="after")
    def _stages_fit(self) -> "Recipe":
        if self.pretraining is None and self.finetuning is None and self.regression is None:
            raise ValueError("needs a pretraining or a finetuning stage, or a regression")
        if self.finetuning is not None and self.regression is not None:
            raise ValueError("has a finetuning and a regression: one must be null, or left out")
        if self.finetuning is not None:
            tasks = self.finetuning.objectives.active()
            if not any(name in FEELINGS and task.weight for name, task in tasks.items()):
                raise ValueError(f"finetuning.objectives needs {' or '.join(FEELINGS)}, with a weight above 0")
            is_new = self.pretraining is None and self.encoder.kind != "transformers"
            if self.finetuning.freeze_encoder and is_new:
                raise ValueError(
                    "finetuning.freeze_encoder needs a pretraining stage: frozen random weights learn nothing"
                )
        if self.pretraining is not None and self.pretraining.freeze_encoder:
            raise ValueError("pretraining.freeze_encoder is true, which leaves nothing to pre-train")
        return self

    @model_validator(mode="after")
    def _encoder_has_keys_of_its_kind(self) -> "Recipe":
        if foreign := self.encoder.foreign_keys():
            named = ", ".join(f"encoder.{name} ({getattr(self.encoder, name)})" for name in foreign)
            raise ValueError(
                f"{named}: an encoder of the kind {self.encoder.kind} has no such key, and would be the same without; "
                "leave it out, or at its default"
            )
        return self

    @model_validator(mode="after")
    def _encoder_reads_frames(self) -> "Recipe":
        if self.frontend.kind == "waveform" and frames_of(self.encoder) != "waveform":
            raise ValueError(f"frontend.kind: encoder.kind {self.encoder.kind} reads lfbe, not a waveform")
        for stage in (self.pretraining, self.finetuning):
            if stage is not None:
                check_inputs(self.encoder, stage.objectives)
        return self

    @model_validator(mode="after")
    def _what_is_predicted_is_not_known(self) -> "Recipe":
        for name in ("pretraining", "finetuning"):
            stage: Stage | None = getattr(self, name)
            tasks = stage.objectives.predicting_frames() if stage is not None else []
            if tasks and self.encoder.direction != "forward":
                raise ValueError(
                    f"{name}.objectives.{tasks[0]} predicts frames from the past alone: encoder.direction must be "
                    f"forward, not {self.encoder.direction}, which has already read what is to be predicted"
                )
        return self


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    return {path.stem: path for folder in RECIPE_FOLDERS for path in sorted(folder.glob("*.yaml"))}


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        source: a YAML file, or the name of a shipped recipe
        overrides: ``key.sub=value`` pairs, the value in YAML

    Raises:
        RecipeError: naming the file, the key and what is allowed
    """
    path = find_recipe(source)
    values = _merged_with_ancestors(path, ())
    for override in overrides:
        _apply_override(values, override)
    return validate(Recipe, values, str(path))


def find_recipe(source: str | Path) -> Path:
    """The file of a recipe that is given by path or by the name of a shipped one."""
    path, shipped = Path(source), shipped_recipes()
    with suppress(OSError):  # such as a name that is too long
        if path.is_file():
            return path
    if path.stem in shipped and path.parent == Path() and path.suffix in ("", ".yaml"):
        return shipped[path.stem]
    raise RecipeError(
        f"recipe '{source}' is neither a file nor a shipped recipe; shipped: {', '.join(sorted(shipped))}"
    )


def _merged_with_ancestors(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The mapping of a recipe laid over those that it extends."""
    if path.resolve() in seen:
        raise RecipeError(f"{path}: extends itself ({' -> '.join(p.name for p in (*seen, path))})")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: must be a mapping of keys to values, not {type(values).__name__}")
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise RecipeError(f"{path}: extends: must name one recipe, not {parent!r}")
    beside = path.parent / parent
    parent_path = beside if beside.is_file() else find_recipe(parent)
    return _merge(_merged_with_ancestors(parent_path, (*seen, path.resolve())), values)


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key; everything else is replaced. Null unsets a key that may be unset."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise RecipeError(f"'{override}' is not of the form key.sub=value, such as pretraining.optimiser.rate=1e-3")
    node = values
    for name in path[:-1]:
        child = node.get(name)
        if not isinstance(child, dict):
            # `objectives.ctc.weight=2` over the short form `ctc: 1`
            child = {"weight": child} if isinstance(child, int | float) else {}
            node[name] = child
        node = child
    node[path[-1]] = parse_yaml(text, override)
