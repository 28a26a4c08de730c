"""What a study file says: systems, seeds, sets and sweeps, typed and checked like a recipe."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from sa2sr.config import Name, Paths, Settings, read_yaml, validate
from sa2sr.errors import RecipeError

_PACKAGE = Path(__file__).resolve().parent
STUDY_FOLDERS = (_PACKAGE / "shipped", _PACKAGE.parents[2] / "studies")  # installed, or in a checkout

Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Manifests = Annotated[Paths, Field(min_length=1)]
Tests = dict[Name, Manifests]


class PretrainingSets(Settings):
    """What a system with a pre-training hears first."""

    train: Manifests
    dev: Manifests
    tests: Tests = Field(default={})  # the pre-trained models are evaluated on these: CER, AUC


class System(Settings):
    """A row of the tables: a recipe and what is changed in it; ``name: recipe`` is short for ``{recipe: recipe}``."""

    recipe: str
    changes: tuple[str, ...] = ()  # key.sub=value, as on the command line
    frozen: bool = False  # fine-tune the regressor alone, on the encoder as it was pre-trained
    seeds: Seeds | None = None  # instead of the study's
    pretraining: PretrainingSets | None = None  # instead of the study's
    encoder: Path | None = None  # a run or model folder that is pre-trained already

    @model_validator(mode="before")
    @classmethod
    def _recipe_alone(cls, value: Any) -> Any:
        return {"recipe": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_pretraining(self) -> "System":
        if self.encoder is not None and self.pretraining is not None:
            raise ValueError("encoder is pre-trained already: leave it or pretraining out")
        return self


class FinetuningSets(Settings):
    """A corpus with ratings that every system is fine-tuned and tested on."""

    train: Manifests
    dev: Manifests
    tests: Annotated[Tests, Field(min_length=1)]


class Sweep(Settings):
    """One thing that takes several values: a key of the recipes, or the share of the fine-tuning set."""

    key: str | None = None  # such as pretraining.objectives.sentiment.weight
    values: tuple[int | float | str, ...] = ()  # of the key
    labels: tuple[Share, ...] = ()  # instead: 0.1 is a tenth of the training utterances, drawn by the seed
    systems: tuple[Name, ...] = ()  # by default all
    seeds: Seeds | None = None  # instead of those of each system

    @model_validator(mode="after")
    def _one_thing(self) -> "Sweep":
        if (self.key is not None) == bool(self.labels) or (self.key is not None) != bool(self.values):
            raise ValueError("needs key and values, or labels")
        return self


class Study(Settings):
    """A grid: every system with every seed on every fine-tuning corpus, and the sweeps."""

    title: str = Field(default="Speech emotion recognition", max_length=300)
    baseline: Name | None = None  # the system that the others are compared with; by default the first
    comparisons: dict[Name, Name] = Field(default={})  # further pairs: the first minus the second
    seeds: Seeds = (0,)
    changes: tuple[str, ...] = ()  # for every system; those of pretraining.* for systems that have a pre-training
    features: Path | None = None  # the store of frames, which studies may share; by default OUT/features
    systems: Annotated[dict[Name, System], Field(min_length=1)]
    pretraining: PretrainingSets | None = None
    finetuning: dict[Name, FinetuningSets] = Field(default={})
    sweeps: dict[Name, Sweep] = Field(default={})

    @model_validator(mode="after")
    def _names_are_known(self) -> "Study":
        named = {"baseline": [self.baseline] if self.baseline else []}
        named["comparisons"] = [name for pair in self.comparisons.items() for name in pair]
        named |= {f"sweeps.{name}.systems": list(sweep.systems) for name, sweep in self.sweeps.items()}
        for key, systems in named.items():
            for system in systems:
                if system not in self.systems:
                    raise ValueError(f"{key}: there is no system '{system}'; systems: {', '.join(self.systems)}")
        if self.pretraining is None and not self.finetuning:
            raise ValueError("needs pretraining or finetuning sets")
        if not self.finetuning and any(sweep.labels for sweep in self.sweeps.values()):
            raise ValueError("sweeps: a sweep of labels needs finetuning sets")
        return self


def shipped_studies() -> dict[str, Path]:
    """The study files that come with the package, by name."""
    return {path.stem: path for folder in STUDY_FOLDERS for path in sorted(folder.glob("*.yaml"))}


def load_study(source: str | Path) -> Study:
    """Read a study file, or a shipped one by its name.

    Raises:
        RecipeError: naming the file, the key and what is allowed
    """
    path, shipped = Path(source), shipped_studies()
    if not path.is_file():
        if str(source) not in shipped:
            names = ", ".join(sorted(shipped)) or "none"
            raise RecipeError(f"study '{source}' is neither a file nor a shipped study; shipped: {names}")
        path = shipped[str(source)]
    return validate(Study, read_yaml(path), str(path))
