"""What run folders and evaluation folders say, read so that nothing missing or broken in them stops a report."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS, SENTIMENTS, Recipe, Scale, Stage, load_recipe, probability_of, validate
from sa2sr.errors import UserError
from sa2sr.network.folder import digest_of
from sa2sr.studies.document import printable
from sa2sr.studies.lenient import csv_rows, json_lines, json_object, number, numbers, one_line

_CLASSES = {name: index for index, name in enumerate(SENTIMENTS)}
_PROBABILITY, _CATEGORY = probability_of(""), probability_of("truth")
UNKNOWN = "unknown"  # the name of a scale that an evaluation does not tell
CELL_FILE = "cell.json"  # of a run folder of a study


@dataclass(frozen=True)
class Place:
    """Where a run stands in the tables: its system, or a point of a sweep."""

    system: str
    seed: int | None
    corpus: str | None = None  # of the fine-tuning
    sweep: str | None = None
    key: str | None = None  # that is swept
    value: int | float | str | None = None


@dataclass(frozen=True)
class TrainingRun:
    """A run folder; ``name`` tells it from the other folders of a report."""

    name: str
    path: Path
    recipe: Recipe | None
    history: list[dict[str, Any]]
    finished: bool
    environment: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    places: Sequence[Place] = ()

    @property
    def system(self) -> str:
        """Whose training this is."""
        return system_name(self.places) or self.name

    @property
    def corpus(self) -> str | None:
        """That a study fine-tuned on."""
        return self.places[0].corpus if self.places else None

    @property
    def is_of_grid(self) -> bool:
        """Whether it is of a system as such, not only of a sweep."""
        return not self.places or any(place.sweep is None for place in self.places)

    @property
    def stage_name(self) -> str:
        """``pretraining`` or ``finetuning``, of which a regression is a kind."""
        named = self.environment.get("stage")
        if named in ("pretraining", "finetuning"):
            return str(named)
        if self.is_regression:
            return "finetuning"
        has_ratings = any(number(line, "dev", "mean_ccc") is not None for line in self.history)
        return "finetuning" if has_ratings else "pretraining"

    @property
    def is_regression(self) -> bool:
        """Whether a linear regressor was fitted, which has no epochs."""
        return self.recipe is not None and self.recipe.regression is not None

    @property
    def stage(self) -> Stage | None:
        """The stage of the recipe that was trained."""
        return getattr(self.recipe, self.stage_name) if self.recipe is not None else None

    @property
    def best(self) -> dict[str, Any]:
        """The line of the history whose model was kept."""
        return next((line for line in reversed(self.history) if line.get("best") is True), {})

    def curve(self, *keys: str) -> tuple[list[float], list[float]]:
        """Epochs, from 1, and a number of their history lines, where it is there."""
        points = [
            (epoch, value)
            for epoch, line in enumerate(self.history, start=1)
            if (value := number(line, *keys)) is not None
        ]
        return [float(epoch) for epoch, _ in points], [value for _, value in points]

    def losses(self) -> list[str]:
        """The names of the training losses in the history, those that can be part of a file name."""
        parts = (line.get("train") for line in self.history)
        names = {str(name): None for part in parts if isinstance(part, dict) for name in part}
        return [name for name in names if re.fullmatch(r"[a-z0-9_]{1,40}_loss", name)]

    def total(self, *keys: str) -> float | None:
        """Sum of a number over the history; none where no line has it."""
        values = self.curve(*keys)[1]
        return sum(values) if values else None


def read_training_run(path: Path, name: str) -> TrainingRun:
    """Read a run folder; what is missing or broken is listed in ``problems``."""
    problems: list[str] = []
    recipe = None
    try:
        recipe = load_recipe(path / "recipe.yaml")
    except UserError as error:
        problems.append(one_line(error, path))
    history = list(json_lines(path / "history.jsonl", problems))
    if not history:
        problems.append(f"{path / 'history.jsonl'}: tells of no epoch")
    environment = json_object(path / "environment.json", problems)
    finished = (path / "metrics.json").is_file()
    if not finished:
        problems.append(f"{path}: has not finished (no metrics.json); shown as far as it went")
    return TrainingRun(name, path, recipe, history, finished, environment, problems, read_places(path))


def read_places(path: Path) -> tuple[Place, ...]:
    """Where a run folder of a study stands in the tables; empty for others."""
    places = json_object(path / CELL_FILE, []).get("places") if (path / CELL_FILE).is_file() else None
    found = []
    for place in places if isinstance(places, list) else []:
        try:
            found.append(Place(**place))
        except TypeError:
            continue
    return tuple(place for place in found if _is_good(place))


def _is_good(place: Place) -> bool:
    names = (place.system, place.corpus or "", place.sweep or "", place.key or "")
    values_fit = isinstance(place.seed, int | None) and isinstance(place.value, int | float | str | None)
    return values_fit and all(isinstance(name, str) and name == printable(name) for name in names)


def system_name(places: Sequence[Place]) -> str | None:
    """The first system that a run is of, or the point of a sweep: ``sa2sr, lambda 5``; none where it has no place."""
    of_grid = [place.system for place in places if place.sweep is None]
    of_sweeps = [f"{place.system}, {place.sweep} {place.value}" for place in places if place.sweep is not None]
    return next(iter([*of_grid, *of_sweeps]), None)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation folder; rows are utterances."""

    system: str  # tells the model from the others of a report
    path: Path
    test_set: str
    scale: Scale
    names: list[str]
    speakers: list[str | None]
    genders: list[str | None]
    sentences: list[str | None]  # the same for all who say one; known of corpora that several voices say
    ratings: NDArray[np.float64]  # (N, 3), NaN where unknown
    predictions: NDArray[np.float64]  # (N, 3), NaN if the model predicts no emotions
    references: list[str]  # transcripts, empty where unknown
    hypotheses: list[str] | None  # what the model transcribes; none if it does not
    sentiments: NDArray[np.int64]  # (N,) the teacher's classes, -1 where unknown
    probabilities: NDArray[np.float64] | None  # (N, 3) of negative, neutral, positive; none if the model tells none
    places: Sequence[Place] = ()  # of the run, if it is of a study
    transcribes: bool = False  # hypotheses are of a recogniser that no later training has left behind
    categories: Sequence[str | None] = ()  # of emotion, N; none where unknown
    classes: Sequence[str] = ()  # K, that the model tells apart; none if it does not
    category_probabilities: NDArray[np.float64] | None = None  # (N, K)
    run: Path | None = None  # or else the model folder, that was evaluated
    speed: float | None = None  # seconds of speech that were predicted in a second

    @property
    def has_emotions(self) -> bool:
        """Whether there are predictions of emotions beside their ratings."""
        return any(self.rated(dimension) for dimension in range(len(DIMENSIONS)))

    @property
    def has_transcripts(self) -> bool:
        """Whether there are transcripts beside their references."""
        return self.hypotheses is not None and any(self.references)

    @property
    def has_sentiments(self) -> bool:
        """Whether there are probabilities of sentiments beside the teacher's classes."""
        return self.probabilities is not None and bool((self.sentiments >= 0).any())

    @property
    def has_categories(self) -> bool:
        """Whether there are probabilities of categories beside utterances that are of one."""
        return self.category_probabilities is not None and any(name in self.classes for name in self.categories)

    @property
    def is_pretrained(self) -> bool:
        """Whether heads of a pre-training came along with the encoder."""
        return self.hypotheses is not None or self.probabilities is not None

    def on_scale(self, scale: Scale) -> "Evaluation":
        """Ratings and predictions on another scale, linearly; as they are where one of the scales is not known."""
        own = self.scale
        if UNKNOWN in (own.name, scale.name) or (own.low, own.high) == (scale.low, scale.high):
            return self
        factor = (scale.high - scale.low) / (own.high - own.low)
        ratings, predictions = (scale.low + (each - own.low) * factor for each in (self.ratings, self.predictions))
        return replace(self, ratings=ratings, predictions=predictions, scale=scale)

    def rated(self, dimension: int) -> list[int]:
        """The rows with a rating and a prediction of a dimension."""
        both = np.isfinite(self.ratings[:, dimension]) & np.isfinite(self.predictions[:, dimension])
        return [int(row) for row in np.flatnonzero(both)]


def read_evaluation(
    path: Path, system: str, problems: list[str], *, digest: Callable[[str], str] = digest_of
) -> Evaluation | None:
    """Read an evaluation folder; none, and a line in ``problems``, if nothing can be compared in it.

    Args:
        path: the folder
        system: that tells the model from the others of a report
        problems: is added to
        digest: of a model folder's files; one that remembers saves reading them once for each evaluation
    """
    metrics = json_object(path / "metrics.json", problems)
    if _is_outdated(metrics, digest):
        problems.append(f"{path}: is of the model before it was trained again; left out: evaluate it again")
        return None
    rows = csv_rows(path / "predictions.csv", problems)
    if not rows:
        return None
    ratings = numbers(rows, [f"{dimension}_truth" for dimension in DIMENSIONS])
    places = read_places(path.parent.parent)
    columns = [name for name in rows[0] if name.startswith(_PROBABILITY) and name != _CATEGORY]
    hours, seconds = number(metrics, "hours"), number(metrics, "seconds")
    evaluation = Evaluation(
        system=system,
        path=path,
        test_set=_test_set(metrics, path, places),
        scale=_scale(metrics, ratings),
        names=[row.get("id") or str(index) for index, row in enumerate(rows)],
        speakers=[row.get("speaker") or None for row in rows],
        genders=[row.get("gender") or None for row in rows],
        sentences=[row.get("sentence") or None for row in rows],
        ratings=ratings,
        predictions=numbers(rows, DIMENSIONS),
        references=[row.get("text_truth") or "" for row in rows],
        hypotheses=[row["text"] for row in rows] if "text" in rows[0] else None,
        sentiments=np.array([_CLASSES.get(row.get("sentiment_truth") or "", -1) for row in rows]),
        probabilities=_known_rows(numbers(rows, SENTIMENTS)) if SENTIMENTS[0] in rows[0] else None,
        places=places,
        transcribes=metrics.get("transcribes") is True,
        categories=[row.get(_CATEGORY) or None for row in rows],
        classes=[printable(name.removeprefix(_PROBABILITY)) for name in columns],
        category_probabilities=_known_rows(numbers(rows, columns)) if columns else None,
        run=_run_of(metrics, path),
        speed=3600 * hours / seconds if hours is not None and seconds is not None and seconds > 0 else None,
    )
    said = (evaluation.has_emotions, evaluation.has_transcripts, evaluation.has_sentiments, evaluation.has_categories)
    if not any(said):
        problems.append(f"{path}: holds nothing that the model says beside what is true")
        return None
    return evaluation


def evaluated_run(path: Path) -> Path:
    """The run folder, or else the model folder, that an evaluation folder is about."""
    return _run_of(json_object(path / "metrics.json", []), path)


def _run_of(metrics: Mapping[str, Any], path: Path) -> Path:
    model = metrics.get("model")
    if not isinstance(model, str) or not model:
        return path
    folder = Path(model)
    return folder.parent if folder.name == "model" else folder


def _is_outdated(metrics: Mapping[str, Any], digest: Callable[[str], str]) -> bool:
    """Whether another model is now where the evaluated one was; not of those that do not say, or have been moved."""
    model, evaluated = metrics.get("model"), metrics.get("digest")
    if not isinstance(model, str) or not isinstance(evaluated, str) or not Path(model).is_dir():
        return False
    try:
        return digest(model) != evaluated
    except OSError:
        return False


def is_evaluation_folder(path: Path) -> bool:
    """Whether ``sa2sr evaluate`` wrote this folder."""
    return (path / "predictions.csv").is_file()


def is_run_folder(path: Path) -> bool:
    """Whether a training wrote this folder."""
    return (path / "history.jsonl").is_file() or (path / "recipe.yaml").is_file()


def _known_rows(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities with rows that are not known as chance."""
    return np.where(np.isfinite(probabilities), probabilities, 1 / probabilities.shape[1])


def _test_set(metrics: Mapping[str, Any], path: Path, places: Sequence[Place]) -> str:
    """``ravdess/test`` for ``ravdess/test.jsonl.gz``; the name of the folder where the manifests are not known.

    In a study, the names of its corpus and test set.
    """
    if places:
        return "/".join(name for name in (places[0].corpus, printable(path.name)) if name)
    manifests = metrics.get("manifests")
    named = [Path(m) for m in manifests if isinstance(m, str)] if isinstance(manifests, list) else []
    stems = [f"{m.parent.name}/{m.name.removesuffix('.gz').removesuffix('.jsonl')}".lstrip("/") for m in named]
    return printable(" + ".join(stems) or path.name)


def _scale(metrics: Mapping[str, Any], ratings: NDArray[np.float64]) -> Scale:
    """That of the evaluation; the range of the ratings where it is not known."""
    saved = metrics.get("scale")
    if isinstance(saved, dict):
        try:
            return validate(Scale, saved, "scale")
        except UserError:
            pass
    known = ratings[np.isfinite(ratings)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    return Scale(name=UNKNOWN, low=low, high=max(high, low + 1e-6))
