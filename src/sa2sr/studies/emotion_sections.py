"""What evaluations say of emotions in a report: concordance, spread over seeds, differences, scatter plots."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sa2sr.config import DIMENSIONS
from sa2sr.metrics import Estimate, error_rate, pearson, rmse
from sa2sr.studies import paper
from sa2sr.studies.document import Block, Cell, Column, Pictures, Section, Table
from sa2sr.studies.plots import intervals, scatter
from sa2sr.studies.residual_sections import residual_blocks
from sa2sr.studies.systems import RESAMPLES, Resample, System, concordances, differences, drawn_things

PaperFigures = Mapping[str, tuple[float, float, float]]  # CCCs by system
_MULTIPLE_SEEDS = (
    "With several seeds, the value is the mean of their CCCs, and resamples draw seeds too, so the interval is about "
    "new trainings as well as new utterances; with one, it is about that training alone."
)


def emotion_section(
    systems: Sequence[System],
    title: str,
    *,
    resample: Resample = "auto",
    colours: Mapping[str, int],
    comparisons: Iterable[tuple[str, str]] = (),
    reported: PaperFigures | None = None,
    prefix: str = "emotion",
) -> Section:
    """Evaluations of several systems on one set.

    Args:
        systems: the others are compared with the first
        title: of the section
        resample: what the bootstrap draws; see :func:`sa2sr.studies.systems.drawn_unit`
        colours: of the systems
        comparisons: further pairs of systems, the first minus the second
        reported: what the paper reports of systems
        prefix: of the names of tables and pictures
    """
    concordance = {system.name: concordances(system, resample=resample) for system in systems}
    blocks: list[Block] = [_concordance_table(systems, concordance, resample, reported or {}, prefix)]
    pictures = [
        intervals(
            f"{prefix}-{dimension}",
            dimension,
            estimates,
            colours=colours,
            x_label="CCC",
            dots={s.name: s.by_seed(index) for s in systems if len(s.evaluations) > 1},
        )
        for index, dimension in enumerate(DIMENSIONS)
        if (estimates := {s: by_dim[dimension] for s, by_dim in concordance.items() if dimension in by_dim})
    ]
    several = _have_several_seeds(systems)
    small = " Small dots are single seeds." if several else ""
    blocks.append(Pictures(pictures, f"Dots are CCCs, lines their 95 % intervals.{small}"))
    if several:
        blocks.append(_seeds_table(systems, prefix))
    known = {system.name: system for system in systems}
    first = systems[0]
    if len(systems) > 1:
        columns = [Column("system", f"compared with {first.name}")]
        rows = [([system.name], system, first) for system in systems[1:]]
        blocks.append(_difference_table(f"{prefix}-differences", columns, rows, resample, several))
    pairs = [(a, b) for a, b in comparisons if a in known and b in known and b != first.name]
    if pairs:
        columns = [Column("system", "system"), Column("reference", "minus")]
        rows = [([a, b], known[a], known[b]) for a, b in pairs]
        blocks.append(_difference_table(f"{prefix}-comparisons", columns, rows, resample, several))
    blocks.append(_other_metrics(systems, prefix))
    blocks.append(_scatters(systems, colours, prefix))
    blocks += residual_blocks(systems, colours, prefix)
    return Section(title, blocks)


def _have_several_seeds(systems: Sequence[System]) -> bool:
    return any(len(system.evaluations) > 1 for system in systems)


def _concordance_table(
    systems: Sequence[System],
    concordance: Mapping[str, Mapping[str, Estimate]],
    resample: Resample,
    reported: PaperFigures,
    prefix: str,
) -> Table:
    columns = [
        Column("system", "system"),
        *(Column(dimension, dimension, best="highest") for dimension in DIMENSIONS),
        Column("mean", "mean", best="highest"),
        *(Column(f"{dimension}_paper", f"{dimension}: {paper.title()}") for dimension in DIMENSIONS),
        Column("seeds", "seeds"),
        Column("utterances", "utterances"),
        Column("speakers", "speakers"),
    ]
    several = _have_several_seeds(systems)
    rows: list[list[Cell]] = []
    for system in systems:
        estimates = concordance[system.name]
        values = [estimate.value for estimate in estimates.values()]
        speakers = len({speaker for row in system.counted if (speaker := system.speakers[row]) is not None})
        rows.append(
            [
                system.name,
                *(estimates.get(dimension) for dimension in DIMENSIONS),
                float(np.mean(values)) if values else None,
                *reported.get(system.name, (None, None, None)),
                len(system.evaluations) if several else None,
                len(system.counted),
                speakers or None,
            ]
        )
    optional = {"seeds", *(f"{dimension}_paper" for dimension in DIMENSIONS)}
    caption = [
        f"Concordance correlation coefficient (1/N statistics), with 95 % percentile intervals from {RESAMPLES:,} "
        f"bootstrap resamples of the {drawn_things(systems, resample)}.",
        "Where intervals overlap, the table of differences tells more.",
        *([_MULTIPLE_SEEDS] if several else []),
        *([paper.note()] if reported else []),
    ]
    return Table(f"{prefix}-ccc", columns, rows, " ".join(caption)).without_empty_columns(optional)


def _seeds_table(systems: Sequence[System], prefix: str) -> Table:
    columns = [Column("system", "system"), Column("seeds", "seeds")]
    for dimension in DIMENSIONS:
        columns += [
            Column(f"{dimension}_mean", f"{dimension}, mean"),
            Column(f"{dimension}_sd", "SD"),
            Column(f"{dimension}_lowest", "lowest"),
            Column(f"{dimension}_highest", "highest"),
        ]
    rows: list[list[Cell]] = []
    for system in systems:
        names = ", ".join(str(seed) for seed in system.seeds if seed is not None)
        cells: list[Cell] = [system.name, names or str(len(system.evaluations))]
        for index in range(len(DIMENSIONS)):
            values = system.by_seed(index)
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            cells += [float(np.mean(values)), spread, min(values), max(values)] if values else [None] * 4
        rows.append(cells)
    caption = "CCC over the seeds of the whole training: mean, standard deviation (n - 1), lowest and highest."
    return Table(f"{prefix}-seeds", columns, rows, caption)


def _difference_table(
    name: str,
    first: Sequence[Column],
    pairs: Sequence[tuple[Sequence[str], System, System]],
    resample: Resample,
    several: bool,
) -> Table:
    """Differences with p-values; ``first`` are the columns that name a pair."""
    columns = [*first]
    for dimension in DIMENSIONS:
        columns += [Column(dimension, dimension), Column(f"{dimension}_p", "p")]
    columns.append(Column("utterances", "utterances"))
    rows: list[list[Cell]] = []
    for names, system, reference in pairs:
        found = differences(system, reference, resample=resample)
        cells: list[Cell] = [*names]
        for dimension in DIMENSIONS:
            difference = found.get(dimension)
            cells += [difference, difference.p_value] if difference is not None else [None, None]
        common = {system.names[row] for row in system.counted} & {reference.names[row] for row in reference.counted}
        rows.append([*cells, len(common)])
    about = (
        "Seeds are drawn too, for each system by itself, so it is about new trainings as well as new utterances; "
        "between single seeds it is about these trainings alone."
        if several
        else "It is about these utterances and these trained models; other seeds of a training vary too."
    )
    than = f"that of {pairs[0][2].name}" if len(first) == 1 else "that of another system"
    caption = f"CCC minus {than}, on the same utterances drawn together, and the two-sided p-value. {about}"
    return Table(name, columns, rows, caption)


def _other_metrics(systems: Sequence[System], prefix: str) -> Table:
    columns = [
        Column("system", "system"),
        *(Column(f"{dimension}_pearson", f"{dimension}, Pearson", best="highest") for dimension in DIMENSIONS),
        *(Column(f"{dimension}_rmse", f"{dimension}, RMSE", best="lowest") for dimension in DIMENSIONS),
        Column("wer", "WER", best="lowest"),
    ]
    rows: list[list[Cell]] = []
    for system in systems:
        cells: list[Cell] = [system.name]
        for metric in (pearson, rmse):
            for index in range(len(DIMENSIONS)):
                chosen = system.rated(index)
                values = [
                    metric(of_seed[chosen, index], system.ratings[chosen, index]) for of_seed in system.predictions
                ]
                cells.append(float(np.mean(values)) if len(chosen) > 1 else None)
        rows.append([*cells, _word_errors(system)])
    scale = systems[0].scale
    means = " Means over the seeds." if _have_several_seeds(systems) else ""
    words = " WER: words wrong of those that a system hears." if any(row[-1] is not None for row in rows) else ""
    caption = f"RMSE in points of the scale, {scale.low:g} to {scale.high:g}.{words}{means}"
    return Table(f"{prefix}-other", columns, rows, caption).without_empty_columns({"wer"})


def _word_errors(system: System) -> float | None:
    """Of the transcripts that a system gives beside emotions, mean over the seeds; none if it gives none."""
    rates = []
    for evaluation in system.evaluations:
        if not evaluation.transcribes or not evaluation.has_transcripts or evaluation.hypotheses is None:
            return None
        pairs = [(h, r) for h, r in zip(evaluation.hypotheses, evaluation.references, strict=True) if r]
        rates.append(error_rate([h for h, _ in pairs], [r for _, r in pairs], unit="word"))
    return float(np.mean(rates))


def _scatters(systems: Sequence[System], colours: Mapping[str, int], prefix: str) -> Pictures:
    """Of the first seed of each system."""
    pictures = []
    for number, system in enumerate(systems, start=1):
        for index, dimension in enumerate(DIMENSIONS):
            if rows := system.rated(index) if system.by_seed(index) else []:
                pictures.append(
                    scatter(
                        f"{prefix}-scatter-{number}-{dimension}",
                        f"{system.name}: {dimension}",
                        system.ratings[rows, index],
                        system.predictions[0][rows, index],
                        low=system.scale.low,
                        high=system.scale.high,
                        series=colours.get(system.name, 0),
                        note=f"CCC {system.by_seed(index)[0]:.2f}",
                    )
                )
    of_first = " The first seed of each system." if _have_several_seeds(systems) else ""
    return Pictures(pictures, f"Every dot is an utterance; on the line, prediction and rating are equal.{of_first}")
