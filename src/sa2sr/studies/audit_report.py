"""An audit as a report: a section of tables and one picture, made from ``audit.json`` alone."""

from collections.abc import Mapping, Sequence

from sa2sr.config import DIMENSIONS
from sa2sr.metrics import Estimate
from sa2sr.studies.audit_measures import Audit, AuditedModel, Effect
from sa2sr.studies.document import (
    Block,
    Cell,
    Column,
    Document,
    Pictures,
    Section,
    Table,
    cell_text,
    number_text,
    printable,
)
from sa2sr.studies.plots import interval_pairs

# Mean shifts of valence on 0 to 1 that audeering's public tests report, with sentences and voices of their own.
PUBLISHED = {"large wav2vec2, published": (0.15, -0.14)}

_SHIFTS = (
    Column("positive_shift", "positive \N{MINUS SIGN} neutral"),
    Column("negative_shift", "negative \N{MINUS SIGN} neutral"),
    Column("positive_minus_negative", "positive \N{MINUS SIGN} negative"),
)
_SHARES = (
    Column("positive_rises", "positive above neutral", digits=2),
    Column("negative_falls", "negative below neutral", digits=2),
    Column("auc", "AUC", digits=2),
)


def audit_document(audit: Audit) -> Document:
    """The whole report of an audit."""
    return Document("Audit", "", [audit_section(audit)])


def print_audit(audit: Audit) -> None:
    """Print valence, all models beside each other, on standard output."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Grid

    # Wide enough that nothing is cut when the output goes to a file.
    console = Console(width=None if Console().is_terminal else 200, highlight=False)
    table = _valence(audit)
    grid = Grid(
        title=f"Shift of valence by words, 0 to 1, {100 * audit.resampling.level:g} % intervals", title_justify="left"
    )
    for index, column in enumerate(table.columns):
        grid.add_column(column.title, justify="right" if index else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*(escape(cell_text(cell, own.digits)) for cell, own in zip(row, table.columns, strict=True)))
    console.print(grid)


def audit_section(audit: Audit) -> Section:
    """Tables of valence, of the controls and of groups of voices, and a picture, all models beside each other."""
    models = audit.models
    blocks: list[Block] = [_introduction(audit), _picture(models), _valence(audit), _points(models), _controls(models)]
    if any(model.valence_by_voices for model in models):
        blocks.append(_by_voices(models))
    if len(models) > 1:
        blocks.append(_beyond_first(models))
    blocks += [f"{name} could not be audited: {printable(reason)}" for name, reason in audit.failed.items()]
    blocks += [
        f"{model.name} gave no numbers for {audit.design.utterances - model.utterances:,} sentences, "
        f"such as {printable(model.failures[0])}"
        for model in models
        if model.failures
    ]
    if audit.design.not_spoken:
        blocks.append(f"Not spoken: {printable('; '.join(audit.design.not_spoken))}")
    return Section("Linguistic sentiment", blocks)


def _introduction(audit: Audit) -> str:
    design = audit.design
    voices = sum(map(len, design.voices.values()))
    seconds = ", ".join(f"{value:.2f} s {name}" for name, value in design.seconds.items())
    return (
        f"{len(design.sentences)} carrier sentences with a positive, a neutral or a negative word, by {voices} voices "
        f"of espeak-ng in equal prosody: {design.utterances:,} utterances (mean duration {seconds}). A shift is the "
        "mean difference between twins, which are one carrier by one voice. A model that hears no words shifts by 0."
    )


def _valence(audit: Audit) -> Table:
    rows: list[Sequence[Cell]] = []
    for model in audit.models:
        valence = model.effects["valence"]
        shares = (valence.positive_rises, valence.negative_falls, valence.auc)
        rows.append([model.name, *_shift_cells(valence), *(share.estimate for share in shares)])
    for name, (positive, negative) in PUBLISHED.items():
        rows.append([name, positive, negative, positive - negative, None, None, None])
    rows.append(["CNN, published", *["about 0"] * 3, None, None, None])
    resampling = audit.resampling
    caption = (
        f"Valence on 0 to 1. In brackets, {100 * resampling.level:g} % intervals, {resampling.method} "
        f"({resampling.resamples:,} resamples), so about new sentences and new voices. Above and below: the share of "
        "twins with the right sign, ties half; 0.5 is chance. AUC: positive against negative sentences, over all "
        "voices. Published: what audeering's public tests report (about 0 for a CNN without linguistic knowledge), "
        "with other sentences and voices."
    )
    return Table("audit-valence", [Column("model", "model"), *_SHIFTS, *_SHARES], rows, caption)


def _points(models: Sequence[AuditedModel]) -> Table:
    rows = [
        [
            model.name,
            f"{model.scale.low:g} to {model.scale.high:g}",
            *_shift_cells(model.effects["valence"], unit=False),
        ]
        for model in models
    ]
    columns = [Column("model", "model"), Column("scale", "scale"), *_SHIFTS]
    return Table("audit-valence-points", columns, rows, "Valence in points of the model's own scale.")


def _controls(models: Sequence[AuditedModel]) -> Table:
    rows = [
        [model.name, dimension, *_shift_cells(model.effects[dimension])]
        for dimension in DIMENSIONS
        if dimension != "valence"
        for model in models
    ]
    columns = [Column("model", "model"), Column("dimension", "dimension"), *_SHIFTS]
    caption = "Controls, on 0 to 1: equal prosody should leave these alone, as far as words do not carry them as well."
    return Table("audit-controls", columns, rows, caption)


def _by_voices(models: Sequence[AuditedModel]) -> Table:
    rows: list[list[Cell]] = [
        [model.name, group, *_shift_cells(found), found.auc.estimate]
        for model in models
        for group, found in model.valence_by_voices.items()
    ]
    columns = [Column("model", "model"), Column("voices", "voices"), *_SHIFTS, _SHARES[-1]]
    caption = (
        "Valence on 0 to 1 by group of voices. The spoken corpora that this package makes train on voices of the group "
        "training alone."
    )
    return Table("audit-voices", columns, rows, caption)


def _beyond_first(models: Sequence[AuditedModel]) -> Table:
    rows: list[list[Cell]] = [
        [model.name, shift.positive.estimate, shift.negative.estimate, shift.positive_minus_negative.estimate]
        for model in models
        if (shift := model.beyond_first.get("valence")) is not None
    ]
    caption = f"How much further valence shifts than that of {models[0].name}, on the same twins, on 0 to 1."
    return Table("audit-beyond-first", [Column("model", "model"), *_SHIFTS], rows, caption)


def _shift_cells(found: Effect, *, unit: bool = True) -> list[Cell]:
    shift = found.unit if unit else found.points
    return [shift.positive.estimate, shift.negative.estimate, shift.positive_minus_negative.estimate]


def _picture(models: Sequence[AuditedModel]) -> Pictures:
    rows: Mapping[str, tuple[Estimate, Estimate]] = {
        model.name: (shift.positive.estimate, shift.negative.estimate)
        for model in models
        if (shift := model.effects["valence"].unit)
    }
    name, marks = next(iter(PUBLISHED.items()))
    picture = interval_pairs(
        "audit-valence",
        "Shift of valence by words",
        rows,
        labels=("positive words", "negative words"),
        marks=marks,
        x_label="against the neutral twin, 0 to 1",
    )
    positive, negative = (number_text(mark, 2) for mark in marks)
    return Pictures([picture], f"Dotted: {name} ({positive}, {negative}).")
