"""From a study to its cells: the trainings that it needs, each once, in the order in which they are done.

A pre-training is shared by all that need the same: its cell is found by what it depends on, which is the recipe without
the fine-tuning, the seed and the manifests. A fine-tuning names the cell, or the folder, whose encoder it starts from.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from sa2sr.config import Recipe, Regression, Stage, load_recipe
from sa2sr.errors import CorpusError, UserError
from sa2sr.network.folder import EVALUATION_FOLDER, WEIGHTS_FILE, find_model
from sa2sr.studies.naming import file_names
from sa2sr.studies.records import Place
from sa2sr.studies.study_settings import FinetuningSets, PretrainingSets, Study, Sweep, System

StageName: TypeAlias = Literal["pretraining", "finetuning", "regression"]
Value: TypeAlias = int | float | str
LABELS = "labels"  # the key of a sweep over shares of the fine-tuning set

AnyStage = TypeVar("AnyStage", bound=Stage | Regression)

# Keys of a stage that change no result. A regression's features are what it reads, a network's where frames are kept.
_OF_NO_EFFECT = ("features", "checkpoint_seconds", "tensorboard")
_WITHOUT_EFFECT: dict[StageName, tuple[str, ...]] = {
    "pretraining": _OF_NO_EFFECT,
    "finetuning": _OF_NO_EFFECT,
    "regression": (),
}


@dataclass(frozen=True)
class Cell:
    """One training and its evaluations; ``depends`` holds digests of all that its result depends on."""

    folder: Path
    stage: StageName
    recipe: Recipe
    encoder: Path | None  # that the training starts from
    depends: Mapping[str, str]
    tests: Mapping[str, tuple[Path, ...]]
    sources: tuple[Path, ...] = ()  # of the training set, where only a share of it is used
    share: float = 1.0
    drawn: Path | None = None  # the manifest for that share

    def test_folder(self, test: str) -> Path:
        """Where the evaluation on a test set is."""
        return self.folder / EVALUATION_FOLDER / test

    @property
    def digest(self) -> str:
        """Of all that the training depends on."""
        return _digest(dict(self.depends))


@dataclass
class Plan:
    """The cells of a study by folder, the places of each, and what cannot be planned."""

    cells: dict[Path, Cell] = field(default_factory=dict)
    places: dict[Path, list[Place]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)  # name of the system or of the cell -> reason

    def add(self, cell: Cell, place: Place) -> Cell:
        """Add a cell, or the place and the tests of one that is there already and depends on the same."""
        same = next((known for known in self.cells.values() if self._is_same(known, cell, place)), cell)
        same = self.cells[same.folder] = replace(same, tests={**same.tests, **cell.tests})
        places = self.places.setdefault(same.folder, [])
        if place not in places:
            places.append(place)
        return same

    def _is_same(self, known: Cell, cell: Cell, place: Place) -> bool:
        """Whether one training can stand for two cells: of one corpus, and with no two tests of one name."""
        tests_agree = all(known.tests.get(name, paths) == paths for name, paths in cell.tests.items())
        of_one_corpus = self.places[known.folder][0].corpus == place.corpus
        return known.depends == cell.depends and of_one_corpus and tests_agree


def make_plan(study: Study, out: Path) -> Plan:
    """The cells of a study with their folders below ``out``: systems first, seed by seed, then sweeps.

    What a mistake in a recipe or a manifest makes impossible is in ``problems``; the rest is planned.
    """
    return _Planner(study, out).plan()


class _Planner:
    def __init__(self, study: Study, out: Path) -> None:
        self.study, self.out, self.result = study, out, Plan()
        self.digests: dict[Path, str] = {}  # of files

    def plan(self) -> Plan:
        for system, seed in _seed_by_seed(
            {name: s.seeds or self.study.seeds for name, s in self.study.systems.items()}
        ):
            self._add(Place(system, seed), [], 1.0)
        for name, sweep in self.study.sweeps.items():
            systems = {system: self.study.systems[system] for system in sweep.systems or self.study.systems}
            seeds = {system: sweep.seeds or s.seeds or self.study.seeds for system, s in systems.items()}
            for value in sweep.values or sweep.labels:
                for system, seed in _seed_by_seed(seeds):
                    self._add_to_sweep(name, sweep, value, system, seed)
        return self.result

    def _add_to_sweep(self, name: str, sweep: Sweep, value: Value, system: str, seed: int) -> None:
        key = sweep.key or LABELS
        place = Place(system, seed, sweep=name, key=key, value=value)
        if sweep.key is not None:
            self._add(place, [f"{sweep.key}={json.dumps(value)}"], 1.0)
        else:
            self._add(place, [], float(value))

    def _add(self, place: Place, changes: Sequence[str], share: float) -> None:
        """The pre-training and the fine-tunings, or regressions, of a place."""
        label = _label(place)
        if place.system in self.result.problems:
            return
        try:
            recipe = self._recipe(self.study.systems[place.system], place.seed or 0, changes)
            encoder = self._pretraining(label, place, recipe)
        except UserError as error:
            # Without a sweep it is the system that is wrong, whatever its seed.
            self.result.problems[place.system if place.sweep is None else label] = str(error)
            return
        for corpus, sets in self.study.finetuning.items():
            try:
                self._finetuning(label, replace(place, corpus=corpus), recipe, encoder, sets, share)
            except UserError as error:
                self.result.problems[f"{corpus}/{label}"] = str(error)

    def _recipe(self, system: System, seed: int, changes: Sequence[str]) -> Recipe:
        """The recipe of a system with the changes of the study, of the system and of a sweep, in this order.

        Changes of a stage are left out where there is none.
        """
        frozen = ["finetuning.freeze_encoder=true"] if system.frozen else []
        common, own = list(self.study.changes), [*system.changes, *frozen]
        plain = load_recipe(system.recipe, system.changes)
        absent = tuple(f"{stage}." for stage in get_args(StageName) if getattr(plain, stage) is None)
        common, changes = ([c for c in each if not c.startswith(absent)] for each in (common, changes))
        return load_recipe(system.recipe, [*common, *own, *changes, f"seed={seed}"])

    def _pretraining(self, label: str, place: Place, recipe: Recipe) -> "Cell | Path | None":
        system = self.study.systems[place.system]
        sets = system.pretraining or self.study.pretraining
        if system.encoder is not None or recipe.pretraining is None:
            return system.encoder
        if sets is None:
            raise UserError(f"{place.system}: the recipe '{system.recipe}' needs pretraining sets, or an encoder")
        prepared = recipe.model_copy(
            update={"finetuning": None, "regression": None, "pretraining": self._with_sets(recipe.pretraining, sets)}
        )
        cell = Cell(
            folder=self._folder("pretrained", label),
            stage="pretraining",
            recipe=prepared,
            encoder=None,
            depends=self._depends("pretraining", prepared, sets, {}),
            tests=sets.tests,
        )
        return self.result.add(cell, place)

    def _finetuning(
        self,
        label: str,
        place: Place,
        recipe: Recipe,
        encoder: "Cell | Path | None",
        sets: FinetuningSets,
        share: float,
    ) -> None:
        stage: StageName = "finetuning" if recipe.regression is None else "regression"
        if (own := recipe.finetuning or recipe.regression) is None:
            raise UserError(f"{place.system}: the recipe '{recipe.name}' has no fine-tuning")
        train = self._with_sets(own, sets)
        drawn = None
        if share < 1:
            percent = f"{100 * share:g}".replace(".", "_")
            drawn = self.out / "labels" / f"{place.corpus}-{percent}-seed{place.seed}.jsonl.gz"
            train = train.model_copy(update={"train": (drawn,)})
        beside = {"encoder": self._digest_of_encoder(encoder), "labels": repr(share)}
        prepared = recipe.model_copy(update={stage: train})
        cell = Cell(
            folder=self._folder(f"finetuned/{place.corpus}", label),
            stage=stage,
            recipe=prepared,
            encoder=encoder.folder if isinstance(encoder, Cell) else encoder,
            depends=self._depends(stage, prepared, sets, beside),
            tests=sets.tests,
            sources=sets.train,
            share=share,
            drawn=drawn,
        )
        self.result.add(cell, place)

    def _with_sets(self, stage: AnyStage, sets: PretrainingSets | FinetuningSets) -> AnyStage:
        """A stage on its sets; processes of their own for features would be more than ``--jobs``."""
        if isinstance(stage, Regression):
            return stage.model_copy(update={"train": sets.train, "dev": sets.dev})
        store = self.study.features or self.out / "features"
        features = stage.features.model_copy(update={"store": store, "workers": 1})
        return stage.model_copy(update={"train": sets.train, "dev": sets.dev, "features": features})

    def _depends(
        self, stage: StageName, recipe: Recipe, sets: PretrainingSets | FinetuningSets, beside: Mapping[str, str]
    ) -> dict[str, str]:
        # Without defaults, so that a key that recipes will get some day does not make old cells look different.
        values = recipe.model_dump(mode="json", exclude_defaults=True)
        values = {key: values.get(key) for key in ("seed", "frontend", "encoder", stage)}
        values[stage] = {
            key: value for key, value in values[stage].items() if key not in (*_WITHOUT_EFFECT[stage], "train", "dev")
        }
        depends = {f"recipe.{key}": _digest(value) for key, value in values.items()}
        for name in ("train", "dev"):
            depends[name] = _digest([self._file(path) for path in getattr(sets, name)])
        if stage == "regression" and recipe.regression is not None and (files := recipe.regression.text.named_files):
            depends["files"] = _digest([self._file(path) for path in files])
        return {**depends, **beside}

    def _digest_of_encoder(self, encoder: "Cell | Path | None") -> str:
        if isinstance(encoder, Path):
            return self._file(find_model(encoder) / WEIGHTS_FILE)
        return encoder.digest if encoder is not None else "none"

    def _file(self, path: Path) -> str:
        if path not in self.digests:
            self.digests[path] = digest_of_file(path)
        return self.digests[path]

    def _folder(self, parent: str, label: str) -> Path:
        """A folder that no other cell has."""
        taken = [path.name for path in self.result.cells if path.parent == self.out / parent]
        return self.out / parent / file_names([*taken, label])[-1]


def digest_of_tests(cell: Cell, test: str) -> str:
    """Of the manifests of a test set."""
    return _digest([digest_of_file(path) for path in cell.tests[test]])


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        CorpusError: if it cannot be read
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None


def _seed_by_seed(seeds: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, int]]:
    """All systems with one seed, then all with the next, so that an early end leaves whole tables."""
    for seed in sorted({seed for own in seeds.values() for seed in own}):
        yield from ((system, seed) for system, own in seeds.items() if seed in own)


def _label(place: Place) -> str:
    """The name of a cell, as a folder is called."""
    value = "" if place.sweep is None else f"-{place.sweep}-{place.value}"
    return f"{place.system}{value}-seed{place.seed}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
