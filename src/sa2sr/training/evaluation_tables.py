"""An evaluation on the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from sa2sr.config import DIMENSIONS
from sa2sr.metrics import METRIC_LABELS
from sa2sr.training.evaluate import Evaluation

_MAIN_METRIC = {
    **dict.fromkeys(DIMENSIONS, "ccc"),
    "ctc": "cer",
    "sentiment": "auc",
    "category": "uar",
}  # the one shown of each group
_MOST_SPEAKERS = 24  # that are listed; of more, the spread is


def print_evaluation(evaluation: Evaluation) -> None:
    """Print what was measured on standard output."""
    # Wide enough that nothing is cut when the output goes to a file.
    console = Console(width=None if Console().is_terminal else 160, highlight=False)
    for part in _parts(evaluation.metrics):
        console.print(part)
    console.print(f"Written to {escape(str(evaluation.folder))}")


def _parts(metrics: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield escape(f"{metrics['name']} on {', '.join(metrics['manifests'])}")
    yield f"{metrics['utterances']:,} utterances, {metrics['hours']:.2f} h{escape(_missing(metrics))}"
    overall = metrics["overall"]
    emotions = {name: overall[name] for name in DIMENSIONS if name in overall}
    if emotions:
        scale = metrics["scale"]
        yield _table(f"Emotions, scale {escape(scale['name'])}: {scale['low']:g} to {scale['high']:g}", emotions)
    if emotions and metrics["intervals"]:
        yield _intervals(metrics["intervals"])
    for name, title in (("ctc", "Transcripts"), ("sentiment", "Sentiment"), ("category", "Emotion categories")):
        if name in overall:
            yield _table(title, {name: overall[name]})
        if found := metrics["confusion"].get(name):
            yield from _confusion(found)
    drawn = {each["interval_over"] for each in overall.values()} - {None}
    if drawn:
        yield f"In brackets: 95 % bootstrap intervals over {' and '.join(sorted(drawn))}."
    yield from _groups("corpus", metrics["by_corpus"])
    yield from _groups("gender", metrics["by_gender"])
    yield from _groups("speaker", metrics["by_speaker"])


def _missing(metrics: Mapping[str, Any]) -> str:
    reasons = [f"{count:,} {reason}" for reason, count in metrics["left_out"].items()]
    if metrics["failures"]:
        reasons.append(f"{len(metrics['failures']):,} cannot be read (such as {metrics['failures'][0]})")
    return f"; left out: {', '.join(reasons)}" if reasons else ""


def _table(title: str, outputs: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row an output, a column a metric."""
    table = Table("", title=title, title_justify="left")
    metrics = [name for name in METRIC_LABELS if name in next(iter(outputs.values()))]
    for name in ("utterances", *(METRIC_LABELS[metric] for metric in metrics)):
        table.add_column(name, justify="right")
    for output, found in outputs.items():
        table.add_row(output, f"{found['utterances']:,}", *(_shown(found[metric]) for metric in metrics))
    return table


def _confusion(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A row a true class, a column a predicted one: the share of the row, and the count."""
    table = Table("is", title="Confusion: what is taken for what", title_justify="left")
    for name in found["classes"]:
        table.add_column(escape(name), justify="right")
    for name, row in zip(found["classes"], found["counts"], strict=True):
        table.add_row(escape(name), *(f"{100 * count / max(1, sum(row)):.0f} % ({count:,})" for count in row))
    yield table
    if others := found["others"]:
        named = ", ".join(f"{count:,} {escape(name)}" for name, count in others.items())
        yield f"Left out of it, since the model knows no such class: {named}."


def _intervals(intervals: Mapping[str, Any]) -> RenderableType:
    """A row a dimension; of each level the share of ratings within the intervals, and their mean width."""
    levels: Mapping[str, Mapping[str, Any]] = intervals["levels"]
    source = ", ".join(intervals["calibrated_on"]["cuts"])
    if not any(levels.values()):
        return f"No intervals: there are too few rated utterances in {escape(source)} to calibrate on."
    table = Table("", title=f"Coverage (mean width) of intervals, calibrated on {escape(source)}", title_justify="left")
    for level in levels:
        table.add_column(f"{100 * float(level):g} %", justify="right")
    for dimension in DIMENSIONS:
        found = [each.get(dimension) for each in levels.values()]
        if any(found):
            cells = (f"{100 * e['coverage']:.1f} % ({e['mean_width']:.2f})" if e else "-" for e in found)
            table.add_row(dimension, *cells)
    return table


def _groups(kind: str, groups: Mapping[str, Mapping[str, Any]]) -> Iterator[RenderableType]:
    """The main metric of each output: a row a group, or the spread over many groups."""
    columns = [output for output in _MAIN_METRIC if any(output in outputs for outputs in groups.values())]
    if len(groups) < 2 or not columns:
        return
    headings = [f"{output} {METRIC_LABELS[_MAIN_METRIC[output]]}" for output in columns]
    if len(groups) > _MOST_SPEAKERS:
        yield f"{len(groups):,} {kind}s, median (and quartiles): " + "; ".join(
            f"{heading} {_spread(groups, output)}" for heading, output in zip(headings, columns, strict=True)
        )
        return
    table = Table(kind, title=f"By {kind}", title_justify="left")
    for name in ("utterances", *headings):
        table.add_column(name, justify="right")
    for name, outputs in groups.items():
        count = max((found["utterances"] for found in outputs.values()), default=0)
        cells = [_shown(outputs[o][_MAIN_METRIC[o]]) if o in outputs else "" for o in columns]
        table.add_row(escape(name), f"{count:,}", *cells)
    yield table


def _spread(groups: Mapping[str, Mapping[str, Any]], output: str) -> str:
    values = [outputs[output][_MAIN_METRIC[output]]["value"] for outputs in groups.values() if output in outputs]
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    low, middle, high = np.quantile(known, (0.25, 0.5, 0.75))
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _shown(estimate: Mapping[str, float | None]) -> str:
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]".replace("[", r"\[")
