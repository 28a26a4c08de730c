"""From run folders and evaluation folders to a report; what is missing or broken is left out and named."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from sa2sr import __version__
from sa2sr.config import DIMENSIONS
from sa2sr.errors import UserError
from sa2sr.studies import paper
from sa2sr.studies.class_sections import category_section, mean_uar
from sa2sr.studies.document import Document, Section, number_text, printable
from sa2sr.studies.emotion_sections import emotion_section
from sa2sr.studies.folders import read_folders
from sa2sr.studies.naming import file_names
from sa2sr.studies.records import Evaluation, Place, TrainingRun
from sa2sr.studies.rendering import ReportFiles, write_report
from sa2sr.studies.speech_sections import speech_section
from sa2sr.studies.sweep_sections import SweepResult, Value, sweep_section
from sa2sr.studies.systems import Resample, System
from sa2sr.studies.training_sections import costs_section, finetuning_section, pretraining_section, provenance_section

_STAGES = {"pretraining": "pre-training", "finetuning": "fine-tuning"}


def make_report(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    title: str = "Speech emotion recognition",
    baseline: str | None = None,
    comparisons: Iterable[tuple[str, str]] = (),
    order: Sequence[str] = (),
    planned: bool = False,
    resample: Resample = "auto",
    with_paper: bool = True,
    opening: Sequence[Section] = (),
    extra: Sequence[Section] = (),
    closing: Sequence[Section] = (),
) -> ReportFiles:
    """Write ``report.md``, ``report.html``, ``tables/`` and ``pictures/`` from what trainings and evaluations left.

    Trainings that differ in their seed alone are one system; see :mod:`sa2sr.studies.systems`.

    Args:
        folders: run folders, evaluation folders, or folders with such in them
        out: folder of the report
        title: of the report
        baseline: the system that the others are compared with; by default the first whose encoder was not pre-trained
        comparisons: further pairs of systems, the first minus the second
        order: of the systems in tables, after the baseline; others follow in that of their folders
        planned: baseline and comparisons were named before there were results; those of systems that have none are
            left out, and named
        resample: what the bootstrap draws; see :func:`sa2sr.studies.systems.drawn_unit`
        with_paper: show what the paper reports of systems of the same name
        opening: further sections, at the beginning
        extra: further sections, after the results
        closing: further sections, at the end

    Raises:
        UserError: if there is nothing to report, or no system has the name of the baseline or of a comparison
    """
    problems: list[str] = []
    runs, evaluations = read_folders(folders, problems)
    if not runs and not evaluations:
        given = ", ".join(str(folder) for folder in folders)
        reasons = "".join(f"\n  {problem}" for problem in problems)
        raise UserError(f"{given}: holds no run of 'sa2sr pretrain', 'finetune' or 'evaluate'{reasons}")
    results = Results(runs, evaluations, order)
    pairs = list(comparisons)
    if planned:
        baseline, pairs = _with_results(results, baseline, pairs, problems)
    results.check_names([name for name in (baseline, *(name for pair in pairs for name in pair)) if name is not None])
    sections = [
        *opening,
        *_result_sections(results, baseline, pairs, resample, with_paper),
        *extra,
        *_training_sections(results),
        *closing,
    ]
    if problems:
        sections.append(Section("Left out", [printable(problem) for problem in problems]))
    return write_report(Document(printable(title), _summary(results), sections), out)


def _with_results(
    results: "Results", baseline: str | None, pairs: Sequence[tuple[str, str]], problems: list[str]
) -> tuple[str | None, list[tuple[str, str]]]:
    """The baseline and the comparisons whose systems have results; the others are added to ``problems``."""
    known = {*results.systems}
    if baseline is not None and baseline not in known:
        problems.append(f"{baseline}: has no results, and is no baseline")
    lost = [pair for pair in pairs if not known.issuperset(pair)]
    problems += [f"{one} minus {other}: {min({one, other} - known)} has no results" for one, other in lost]
    return (baseline if baseline in known else None), [pair for pair in pairs if pair not in lost]


class Results:
    """Runs and evaluations, by system, test set and sweep."""

    def __init__(
        self, runs: Sequence[TrainingRun], evaluations: Sequence[Evaluation], order: Sequence[str] = ()
    ) -> None:
        ranks = {name: rank for rank, name in enumerate(order)}

        def rank(places: Sequence[Place], name: str) -> int:
            return min(ranks.get(system, len(ranks)) for system in [name, *(place.system for place in places)])

        self.runs = sorted(runs, key=lambda run: rank(run.places, run.name))
        self.evaluations = sorted(evaluations, key=lambda evaluation: rank(evaluation.places, evaluation.system))
        self.emotions = _by_set([e for e in self.evaluations if e.has_emotions])
        # A pre-training that systems share stands there once.
        told = [e for e in self.evaluations if not e.has_emotions and (e.has_transcripts or e.has_sentiments)]
        self.speech = _by_set([replace(e, places=e.places[:1]) for e in told])
        self.categories = _by_set([e for e in self.evaluations if e.has_categories])
        kinds = (self.emotions, self.categories, self.speech)
        systems = [system.name for groups in kinds for group in groups.values() for system in group]
        self.systems = list(dict.fromkeys([*systems, *(run.system for run in self.runs)]))
        swept = [place.system for e in self.evaluations for place in e.places]
        self.colours = {name: number for number, name in enumerate(dict.fromkeys([*self.systems, *swept]))}

    def check_names(self, names: Iterable[str]) -> None:
        """Raise UserError for a name that no system has."""
        for name in names:
            if name not in self.systems:
                raise UserError(f"no system is called '{name}'; there are {', '.join(self.systems)}")

    def ordered(self, systems: Sequence[System], baseline: str | None) -> list[System]:
        """The baseline first: by default the first system without heads of a pre-training. All are on its scale."""
        first = baseline or next((system.name for system in systems if not system.is_pretrained), None)
        in_order = sorted(systems, key=lambda system: system.name != first)
        scale = in_order[0].scale
        return [replace(s, evaluations=[each.on_scale(scale) for each in s.evaluations]) for s in in_order]

    def reported(self) -> dict[str, tuple[float, float, float]]:
        """What the paper reports of the systems, by their own name or that of their recipe."""
        names = {system: [system] for system in self.systems}
        for run in self.runs:
            if run.stage_name == "finetuning" and run.recipe is not None and run.system in names:
                names[run.system].append(paper.recipe_name(run.recipe))
        found = {system: paper.reported_ccc(own) for system, own in names.items()}
        return {system: figures for system, figures in found.items() if figures is not None}

    def sweeps(self) -> list[SweepResult]:
        """The sweeps on each test set."""
        found: dict[tuple[str, str], dict[Value, dict[str, list[tuple[Place, Evaluation]]]]] = {}
        keys: dict[str, str] = {}
        for evaluation in self.evaluations:
            for place in evaluation.places:
                if place.sweep is None or place.value is None or not evaluation.has_emotions:
                    continue
                keys[place.sweep] = place.key or place.sweep
                values = found.setdefault((place.sweep, evaluation.test_set), {})
                values.setdefault(place.value, {}).setdefault(place.system, []).append((place, evaluation))
        return [
            SweepResult(name, keys[name], test_set, {v: _systems(values[v]) for v in sorted(values, key=_in_order)})
            for (name, test_set), values in found.items()
        ]


def _result_sections(
    results: Results,
    baseline: str | None,
    comparisons: Sequence[tuple[str, str]],
    resample: Resample,
    with_paper: bool,
) -> list[Section]:
    sections = []
    reported = results.reported() if with_paper else {}
    for prefix, (test_set, group) in zip(_prefixes("emotion", results.emotions), results.emotions.items(), strict=True):
        sections.append(
            emotion_section(
                results.ordered(group, baseline),
                _title("Emotions", test_set, results.emotions),
                resample=resample,
                colours=results.colours,
                comparisons=comparisons,
                reported={system.name: reported[system.name] for system in group if system.name in reported},
                prefix=prefix,
            )
        )
    named = zip(_prefixes("category", results.categories), results.categories.items(), strict=True)
    for prefix, (test_set, group) in named:
        title = _title("Emotion categories", test_set, results.categories)
        ordered = results.ordered(group, baseline)
        sections.append(category_section(ordered, title, resample=resample, colours=results.colours, prefix=prefix))
    sweeps = results.sweeps()
    for prefix, sweep in zip(file_names([f"sweep-{s.name}-{s.test_set}" for s in sweeps]), sweeps, strict=True):
        sections.append(sweep_section(sweep, colours=results.colours, prefix=prefix, resample=resample))
    for prefix, (test_set, group) in zip(_prefixes("speech", results.speech), results.speech.items(), strict=True):
        title = _title("Transcription and sentiment", test_set, results.speech)
        ordered = results.ordered(group, baseline)
        sections.append(speech_section(ordered, title, resample=resample, colours=results.colours, prefix=prefix))
    return sections


def _training_sections(results: Results) -> list[Section]:
    sections = []
    for stage, section in (("pretraining", pretraining_section), ("finetuning", finetuning_section)):
        if own := [run for run in results.runs if run.stage_name == stage and run.history]:
            sections.append(section(own, results.colours))
    if any(run.history for run in results.runs):
        sections.append(costs_section(results.runs, results.evaluations))
    if results.runs:
        sections.append(provenance_section(results.runs))
    return sections


def _by_set(evaluations: Sequence[Evaluation]) -> dict[str, list[System]]:
    """The systems on each set, without what is only of a sweep."""
    groups: dict[str, dict[str, list[tuple[Place, Evaluation]]]] = {}
    for evaluation in evaluations:
        for place in evaluation.places:
            if place.sweep is None:
                groups.setdefault(evaluation.test_set, {}).setdefault(place.system, []).append((place, evaluation))
    return {test_set: _systems(group) for test_set, group in groups.items()}


def _systems(found: Mapping[str, Sequence[tuple[Place, Evaluation]]]) -> list[System]:
    systems = []
    for name, places in found.items():
        by_seed = sorted(places, key=lambda each: -1 if each[0].seed is None else each[0].seed)
        systems.append(System(name, [e for _, e in by_seed], [place.seed for place, _ in by_seed]))
    return systems


def _in_order(value: Value) -> tuple[bool, float, str]:
    return (True, 0.0, value) if isinstance(value, str) else (False, float(value), "")


def _prefixes(kind: str, groups: Mapping[str, object]) -> list[str]:
    """What the file names of each group begin with."""
    return file_names([f"{kind}-{test_set}" for test_set in groups]) if len(groups) > 1 else [kind] * len(groups)


def _title(kind: str, test_set: str, groups: Mapping[str, object]) -> str:
    return f"{kind}: {test_set}" if len(groups) > 1 else kind


def _summary(results: Results) -> str:
    parts = []
    for test_set, systems in results.emotions.items():
        means = {system.name: mean for system in systems if (mean := _mean_ccc(system)) is not None}
        if means:
            best = max(means, key=lambda name: means[name])
            counted = f"{len(means)} systems" if len(means) > 1 else "One system"
            parts.append(f"{counted} on {test_set}: the highest mean CCC is {number_text(means[best], 3)}, of {best}.")
    for test_set, systems in results.categories.items():
        uars = {system.name: uar for system in systems if (uar := mean_uar(system)) is not None}
        if uars:
            best = max(uars, key=lambda name: uars[name])
            parts.append(f"Categories on {test_set}: the highest UAR is {number_text(uars[best], 3)}, of {best}.")
    stages = [run.stage_name for run in results.runs]
    counts = [f"{stages.count(stage)} of {name}" for stage, name in _STAGES.items() if stage in stages]
    if counts:
        parts.append(f"Trainings: {', '.join(counts)}.")
    parts.append(f"Written on {date.today().isoformat()} by sa2sr {__version__}.")
    return " ".join(parts)


def _mean_ccc(system: System) -> float | None:
    values = [float(np.mean(own)) for index in range(len(DIMENSIONS)) if (own := system.by_seed(index))]
    return sum(values) / len(values) if values else None
