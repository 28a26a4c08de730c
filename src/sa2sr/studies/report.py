"""From run folders and evaluation folders to a report; what is missing or broken is left out and named."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

from sa2sr import __version__
from sa2sr.config import DIMENSIONS
from sa2sr.errors import UserError
from sa2sr.metrics import ccc
from sa2sr.studies.document import Document, Section, number_text, printable
from sa2sr.studies.emotion_sections import Resample, emotion_section
from sa2sr.studies.records import (
    Evaluation,
    TrainingRun,
    evaluated_run,
    file_names,
    is_evaluation_folder,
    is_run_folder,
    read_evaluation,
    read_training_run,
    short_names,
)
from sa2sr.studies.rendering import ReportFiles, write_report
from sa2sr.studies.speech_sections import speech_section
from sa2sr.studies.training_sections import finetuning_section, pretraining_section, provenance_section

_STAGES = {"pretraining": "pre-training", "finetuning": "fine-tuning"}
_DEEPEST = 4  # folders below a given one in which runs are looked for
_MOST_FOLDERS = 10_000


def make_report(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    title: str = "Speech emotion recognition",
    baseline: str | None = None,
    resample: Resample = "auto",
    extra: Sequence[Section] = (),
    closing: Sequence[Section] = (),
) -> ReportFiles:
    """Write ``report.md``, ``report.html``, ``tables/`` and ``pictures/`` from what trainings and evaluations left.

    Args:
        folders: run folders, evaluation folders, or folders with such in them
        out: folder of the report
        title: of the report
        baseline: the system that the others are compared with; by default the first whose encoder was not pre-trained
        resample: what the bootstrap draws; by default speakers where there are enough of them
        extra: further sections, after the results
        closing: further sections, at the end

    Raises:
        UserError: if there is nothing to report, or no system has the name of the baseline
    """
    return write_report(
        compose(folders, title=title, baseline=baseline, resample=resample, extra=extra, closing=closing), out
    )


def compose(
    folders: Sequence[str | Path],
    *,
    title: str,
    baseline: str | None = None,
    resample: Resample = "auto",
    extra: Sequence[Section] = (),
    closing: Sequence[Section] = (),
) -> Document:
    """The report of :func:`make_report` as a value."""
    problems: list[str] = []
    runs, evaluations = read_folders(folders, problems)
    if not runs and not evaluations:
        given = ", ".join(str(folder) for folder in folders)
        reasons = "".join(f"\n  {problem}" for problem in problems)
        raise UserError(f"{given}: holds no run of 'sa2sr pretrain', 'finetune' or 'evaluate'{reasons}")
    names = [e.system for e in evaluations] + [run.name for run in runs]
    if baseline is not None and baseline not in names:
        raise UserError(f"no system is called '{baseline}'; there are {', '.join(dict.fromkeys(names))}")
    sections: list[Section] = []
    emotions = _by_set([e for e in evaluations if e.has_emotions], baseline)
    speech = _by_set([e for e in evaluations if not e.has_emotions], baseline)
    groups = [*emotions.values(), *speech.values()]
    names = [e.system for group in groups for e in group] + [run.name for run in runs]
    colours = {name: index for index, name in enumerate(dict.fromkeys(names))}
    for prefix, (test_set, group) in zip(_prefixes("emotion", emotions), emotions.items(), strict=True):
        title_here = _title("Emotions", test_set, emotions)
        sections.append(emotion_section(group, title_here, resample=resample, colours=colours, prefix=prefix))
    for prefix, (test_set, group) in zip(_prefixes("speech", speech), speech.items(), strict=True):
        title_here = _title("Transcription and sentiment", test_set, speech)
        sections.append(speech_section(group, title_here, resample=resample, prefix=prefix))
    sections += extra
    for stage, section in (("pretraining", pretraining_section), ("finetuning", finetuning_section)):
        if own := [run for run in runs if run.stage_name == stage and run.history]:
            sections.append(section(own, colours))
    if runs:
        sections.append(provenance_section(runs))
    sections += closing
    if problems:
        sections.append(Section("Left out", [printable(problem) for problem in problems]))
    return Document(printable(title), _summary(runs, evaluations), sections)


def read_folders(folders: Sequence[str | Path], problems: list[str]) -> tuple[list[TrainingRun], list[Evaluation]]:
    """The runs and evaluations in folders; what is wrong is added to ``problems``."""
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
        runs += [read_training_run(path, name) for path, name in zip(paths, short_names(paths), strict=True)]
    for run in runs:
        problems += run.problems
    tested = [path for path in found.values() if is_evaluation_folder(path)]
    systems = _system_names([evaluated_run(path) for path in tested], runs)
    evaluations: dict[tuple[str, str], Evaluation] = {}
    for path, system in zip(tested, systems, strict=True):
        if (evaluation := read_evaluation(path, system, problems)) is None:
            continue
        key = (evaluation.test_set, system)
        if key in evaluations:
            problems.append(
                f"{path}: is another evaluation of {system} on the set of {evaluations[key].path}; left out"
            )
        else:
            evaluations[key] = evaluation
    return runs, list(evaluations.values())


def _system_names(models: Sequence[Path], runs: Sequence[TrainingRun]) -> list[str]:
    """What each evaluated model is called: as its run is, if that is in the report."""
    known = {os.path.realpath(run.path): run.name for run in runs}
    different = list(dict.fromkeys(models))
    names = dict(zip(different, short_names(different), strict=True))
    return [known.get(os.path.realpath(model), names[model]) for model in models]


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


def _by_set(evaluations: Sequence[Evaluation], baseline: str | None) -> dict[str, list[Evaluation]]:
    """The evaluations on each set, the baseline first: by default the first system without heads of a pre-training."""
    groups: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        groups.setdefault(evaluation.test_set, []).append(evaluation)
    for group in groups.values():
        first = baseline or next((e.system for e in group if not e.is_pretrained), None)
        group.sort(key=lambda e: e.system != first)
    return groups


def _prefixes(kind: str, groups: Mapping[str, object]) -> list[str]:
    """What the file names of each group begin with."""
    return file_names([f"{kind}-{test_set}" for test_set in groups]) if len(groups) > 1 else [kind] * len(groups)


def _title(kind: str, test_set: str, groups: Mapping[str, object]) -> str:
    return f"{kind}: {test_set}" if len(groups) > 1 else kind


def _summary(runs: Sequence[TrainingRun], evaluations: Sequence[Evaluation]) -> str:
    parts = []
    for test_set in dict.fromkeys(e.test_set for e in evaluations):
        means = {e.system: mean for e in evaluations if e.test_set == test_set and (mean := _mean_ccc(e)) is not None}
        if means:
            best = max(means, key=lambda system: means[system])
            systems = f"{len(means)} systems" if len(means) > 1 else "One system"
            parts.append(f"{systems} on {test_set}: the highest mean CCC is {number_text(means[best], 3)}, of {best}.")
    stages = [run.stage_name for run in runs]
    counts = [f"{stages.count(stage)} of {name}" for stage, name in _STAGES.items() if stage in stages]
    if counts:
        parts.append(f"Trainings: {', '.join(counts)}.")
    parts.append(f"Written on {date.today().isoformat()} by sa2sr {__version__}.")
    return " ".join(parts)


def _mean_ccc(evaluation: Evaluation) -> float | None:
    values = [
        ccc(evaluation.predictions[rows, index], evaluation.ratings[rows, index])
        for index in range(len(DIMENSIONS))
        if len(rows := evaluation.rated(index)) > 1
    ]
    return sum(values) / len(values) if values else None
