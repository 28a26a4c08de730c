"""What evaluations of pre-trained models say in a report: how well they transcribe and tell sentiment."""

from collections.abc import Mapping, Sequence

import numpy as np

from sa2sr.config import SENTIMENTS
from sa2sr.metrics import Estimate, MetricName, bootstrap, edits
from sa2sr.metrics import confusion as confusion_counts
from sa2sr.studies.class_sections import CONFUSION_CAPTION
from sa2sr.studies.document import Block, Cell, Column, Picture, Pictures, Section, Table
from sa2sr.studies.plots import confusion
from sa2sr.studies.records import Evaluation
from sa2sr.studies.systems import RESAMPLES, Resample, System, drawn_groups, drawn_things

_COLUMNS = (
    Column("cer", "CER", best="lowest"),
    Column("wer", "WER", best="lowest"),
    Column("auc", "AUC", best="highest"),
    Column("weighted_recall", "weighted recall", best="highest"),
    Column("unweighted_recall", "unweighted recall", best="highest"),
)


def speech_section(
    systems: Sequence[System],
    title: str,
    *,
    resample: Resample = "auto",
    colours: Mapping[str, int],
    prefix: str = "speech",
) -> Section:
    """Evaluations of several pre-trained models on one set, a row each seed.

    Args:
        systems: their models
        title: of the section
        resample: what the bootstrap draws
        colours: of the systems
        prefix: of the names of the table and the pictures
    """
    several = any(len(system.evaluations) > 1 for system in systems)
    rows: list[list[Cell]] = []
    for system in systems:
        for seed, evaluation in zip(system.seeds, system.evaluations, strict=True):
            found = speech_scores(evaluation, resample=resample)
            scores = [found.get(column.key) for column in _COLUMNS]
            shown = str(seed) if several and seed is not None else None
            rows.append([system.name, shown, *scores, len(evaluation.names)])
    columns = [Column("system", "system"), Column("seed", "seed"), *_COLUMNS, Column("utterances", "utterances")]
    caption = (
        "Characters and words wrong by those of the references; sentiment against its label, one class against the "
        f"rest. 95 % intervals from {RESAMPLES:,} bootstrap resamples of the {drawn_things(systems, resample)}."
    )
    blocks: list[Block] = [Table(f"{prefix}-scores", columns, rows, caption).without_empty_columns()]
    if pictures := _confusions(systems, colours, prefix):
        of_first = " The first seed of each system." if several else ""
        blocks.append(Pictures(pictures, f"{CONFUSION_CAPTION}{of_first}"))
    return Section(title, blocks)


def _confusions(systems: Sequence[System], colours: Mapping[str, int], prefix: str) -> list[Picture]:
    """Of sentiments, for each system that tells them."""
    pictures = []
    for number, system in enumerate(systems, start=1):
        first = system.evaluations[0]
        if first.has_sentiments and first.probabilities is not None:
            known = first.sentiments >= 0
            counts = confusion_counts(first.probabilities[known].argmax(1), first.sentiments[known], len(SENTIMENTS))
            name, series = f"{prefix}-confusion-{number}", colours.get(system.name, 0)
            pictures.append(confusion(name, f"{system.name}: sentiment", SENTIMENTS, counts, series=series))
    return pictures


def speech_scores(evaluation: Evaluation, *, resample: Resample = "auto") -> dict[str, Estimate]:
    """CER and WER, and AUC and recalls of the sentiment, as far as there is something to compare."""
    found: dict[str, Estimate] = {}
    if evaluation.has_transcripts and evaluation.hypotheses is not None:
        rows = [row for row, reference in enumerate(evaluation.references) if reference]
        speakers = drawn_groups(evaluation, rows, resample)
        said, true = [evaluation.hypotheses[row] for row in rows], [evaluation.references[row] for row in rows]
        for name, unit in (("cer", "character"), ("wer", "word")):
            counts = edits(said, true, unit=unit)  # type: ignore[arg-type]
            found[name] = bootstrap(*counts, metric="ratio", speakers=speakers, resamples=RESAMPLES)
    if evaluation.has_sentiments and evaluation.probabilities is not None:
        rows = [int(row) for row in np.flatnonzero(evaluation.sentiments >= 0)]
        speakers = drawn_groups(evaluation, rows, resample)
        scores, classes = evaluation.probabilities[rows], evaluation.sentiments[rows]
        found["auc"] = bootstrap(scores, classes, metric="auc", speakers=speakers, resamples=RESAMPLES)
        best = scores.argmax(axis=1)
        metrics: tuple[MetricName, ...] = ("weighted_recall", "unweighted_recall")
        for metric in metrics:
            found[metric] = bootstrap(best, classes, metric=metric, speakers=speakers, resamples=RESAMPLES)
    return found
