"""Finding the run folders and evaluation folders of a report, and telling their systems and seeds."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from sa2sr.network.folder import digest_of
from sa2sr.studies.naming import short_names
from sa2sr.studies.records import (
    Evaluation,
    Place,
    TrainingRun,
    evaluated_run,
    is_evaluation_folder,
    is_run_folder,
    read_evaluation,
    read_training_run,
)
from sa2sr.studies.systems import split_seed

_DEEPEST = 5  # folders below a given one in which runs are looked for
_MOST_FOLDERS = 10_000


def read_folders(folders: Sequence[str | Path], problems: list[str]) -> tuple[list[TrainingRun], list[Evaluation]]:
    """The runs and evaluations in folders, each with its places; what is wrong is added to ``problems``."""
    found: dict[str, Path] = {}
    for folder in map(Path, folders):
        own = list(_search(folder))
        found |= {os.path.realpath(path): path for path in own}
        if not own:
            problems.append(f"{folder}: {'holds no run' if folder.is_dir() else 'there is no such folder'}")
    training = [path for path in found.values() if not is_evaluation_folder(path)]
    by_stage: dict[str, list[Path]] = {}
    for path in training:
        by_stage.setdefault(read_training_run(path, "").stage_name, []).append(path)
    runs = []
    for paths in by_stage.values():
        runs += _placed([read_training_run(path, name) for path, name in zip(paths, short_names(paths), strict=True)])
    for run in runs:
        problems += run.problems
    tested = [path for path in found.values() if is_evaluation_folder(path)]
    return runs, _read_evaluations(tested, runs, problems)


def _read_evaluations(paths: Sequence[Path], runs: Sequence[TrainingRun], problems: list[str]) -> list[Evaluation]:
    models = [evaluated_run(path) for path in paths]
    known = {os.path.realpath(run.path): run for run in runs}
    different = list(dict.fromkeys(models))
    names = dict(zip(different, short_names(different), strict=True))
    unknown = [name for model, name in names.items() if os.path.realpath(model) not in known]
    places = dict(zip(unknown, _places(unknown), strict=True))
    evaluations: dict[tuple[str, str], Evaluation] = {}
    digest = cache(digest_of)  # of this report alone: the next one may find the models trained further
    for path, model in zip(paths, models, strict=True):
        run = known.get(os.path.realpath(model))
        name = run.name if run is not None else names[model]
        if (evaluation := read_evaluation(path, name, problems, digest=digest)) is None:
            continue
        if not evaluation.places:
            evaluation = replace(evaluation, places=run.places if run is not None else [places[name]])
        if (other := evaluations.setdefault((evaluation.test_set, name), evaluation)) is not evaluation:
            problems.append(f"{path}: is another evaluation of {name} on the set of {other.path}; left out")
    return list(evaluations.values())


def _placed(runs: Sequence[TrainingRun]) -> list[TrainingRun]:
    """Runs of one stage, with their systems and seeds: as a study says, or else by their names."""
    placed = []
    for run, place in zip(runs, _places([run.name for run in runs], runs), strict=True):
        if not run.places:
            seed = place.seed if place.seed is not None or run.recipe is None else run.recipe.seed
            run = replace(run, places=[replace(place, seed=seed)])
        placed.append(run)
    return placed


def _places(names: Sequence[str], runs: Sequence[TrainingRun] = ()) -> list[Place]:
    """Names that differ by their seed alone are one system, unless their recipes differ by more."""
    split = [split_seed(name) for name in names]
    times = Counter(split)
    recipes: dict[str, set[str]] = {}
    for (system, _), run in zip(split, runs, strict=False):
        recipes.setdefault(system, set()).add(_without_seed(run))
    return [
        Place(system, seed) if times[system, seed] == 1 and len(recipes.get(system, ())) <= 1 else Place(name, seed)
        for name, (system, seed) in zip(names, split, strict=True)
    ]


def _without_seed(run: TrainingRun) -> str:
    return run.recipe.model_copy(update={"seed": 0}).model_dump_json() if run.recipe is not None else ""


def _search(folder: Path, depth: int = 0) -> Iterator[Path]:
    """The run and evaluation folders at or below a folder; links to folders are not followed below it."""
    if is_evaluation_folder(folder) or is_run_folder(folder):
        yield folder
    if depth < _DEEPEST:
        for child in _children(folder):
            yield from _search(child, depth + 1)


def _children(folder: Path) -> Iterable[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
    return [folder / name for name in names[:_MOST_FOLDERS] if not name.startswith(".")]
