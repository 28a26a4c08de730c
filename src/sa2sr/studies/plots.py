"""Small pictures for reports: one panel each, side by side on a desk and below each other on a phone.

Colours are told apart by colour-blind people too (after Okabe and Ito, 2008), and in the SVG they are the page's
variables, so that a dark page has a dark picture.
"""

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.metrics import Estimate
from sa2sr.studies.document import Picture

SERIES = ("#0072b2", "#d55e00", "#009e73", "#b5579a", "#b87f00", "#2d92c8", "#6b6b6b")
_TEXT, _QUIET, _LINE = "#1c2024", "#5f6872", "#dfe2e6"
_VARIABLES = {_TEXT: "--text", _QUIET: "--quiet", _LINE: "--line"} | {
    colour: f"--series-{index}" for index, colour in enumerate(SERIES, start=1)
}
_STYLE = {
    "font.size": 9.5,
    "font.family": "sans-serif",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _QUIET,
    "axes.titlecolor": _TEXT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _QUIET,
    "ytick.labelcolor": _QUIET,
    "text.color": _TEXT,
    "text.parse_math": False,  # names are shown as they are
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "sa2sr",
}


@dataclass(frozen=True)
class Curve:
    """A line of a panel."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    series: int  # colour
    dashed: bool = False


def curves(name: str, title: str, lines: Sequence[Curve], *, x_label: str = "epoch", y_label: str = "") -> Picture:
    """Lines over epochs, dashed for training and whole for development where both are there.

    The names of many lines stand below the axes, where they cover none.
    """
    labels = sum(bool(line.label) for line in lines)
    rows_below = math.ceil(labels / 2) if labels > 4 else 0
    left = 0.72 if y_label else 0.62
    height, below = 2.94 + 0.18 * rows_below, 0.56 + 0.18 * rows_below
    with _panel(name, title, height=height, left=left, below=below) as (axes, made):
        for line in lines:
            # Where colours come round again, the lines differ.
            style = "--" if line.dashed else "-" if line.series < len(SERIES) else "-."
            marker = "o" if len(line.x) == 1 else None
            colour = _colour(line.series)
            axes.plot(line.x, line.y, style, color=colour, label=line.label, marker=marker, markersize=4)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _whole_numbers(axes, max((x for line in lines for x in line.x), default=1))
        if rows_below:
            axes.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.22), ncols=2, borderaxespad=0)
        elif labels:
            axes.legend(loc="best")
    return made[0]


@dataclass(frozen=True)
class Points:
    """Estimates at positions of an axis, joined by a line."""

    label: str
    x: Sequence[float]
    y: Sequence[Estimate]
    series: int  # colour


def points(
    name: str, title: str, lines: Sequence[Points], *, labels: Sequence[str], x_label: str, y_label: str
) -> Picture:
    """Estimates with their intervals at the labelled positions 0, 1, ... of an axis, one line a system."""
    rows_below = math.ceil(len(lines) / 2)
    with _panel(name, title, height=2.94 + 0.18 * rows_below, below=0.56 + 0.18 * rows_below) as (axes, made):
        for number, line in enumerate(lines):
            # Side by side, so that no interval hides another.
            x = np.asarray(line.x) + 0.09 * (number - (len(lines) - 1) / 2)
            colour = _colour(line.series)
            axes.plot(x, [estimate.value for estimate in line.y], "o-", color=colour, markersize=4.5, label=line.label)
            axes.vlines(x, [e.low for e in line.y], [e.high for e in line.y], color=colour, linewidth=1.4, alpha=0.7)
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlim(-0.5, len(labels) - 0.5)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.22), ncols=2, borderaxespad=0)
    return made[0]


def intervals(
    name: str,
    title: str,
    estimates: Mapping[str, Estimate],
    *,
    colours: Mapping[str, int],
    x_label: str,
    dots: Mapping[str, Sequence[float]] | None = None,
) -> Picture:
    """A row for each system, its estimate, its interval and single values as small dots, with a line at zero."""
    rows = list(estimates.items())
    left = 0.2 + 0.085 * max(map(len, estimates))  # room for the names
    with _panel(name, title, height=0.95 + 0.36 * len(rows), left=min(left, 2.0)) as (axes, made):
        for index, (label, estimate) in enumerate(rows):
            colour = _colour(colours.get(label, index))
            _interval(axes, estimate, index, colour)
            values = (dots or {}).get(label, ())
            axes.plot(values, [index + 0.28] * len(values), "o", color=colour, markersize=3, alpha=0.6)
        _rows(axes, [label for label, _ in rows], x_label)
    return made[0]


def interval_pairs(
    name: str,
    title: str,
    rows: Mapping[str, tuple[Estimate, Estimate]],
    *,
    labels: tuple[str, str],
    marks: Sequence[float] = (),
    x_label: str,
) -> Picture:
    """A row for each system with two estimates and their intervals, a line at zero, and dotted ones at ``marks``."""
    with _panel(name, title, height=1.3 + 0.42 * len(rows)) as (axes, made):
        for index, pair in enumerate(rows.values()):
            for series, estimate in enumerate(pair):
                label = labels[series] if index == 0 else None
                _interval(axes, estimate, index + 0.26 * (series - 0.5), _colour(series), label)
        for mark in marks:
            axes.axvline(mark, color=_QUIET, linewidth=0.8, linestyle=":")
        _rows(axes, list(rows), x_label)
        axes.figure.legend(loc="outside lower center", ncols=2)
    return made[0]


def scatter(
    name: str,
    title: str,
    ratings: NDArray[np.floating],
    predictions: NDArray[np.floating],
    *,
    low: float,
    high: float,
    series: int = 0,
    note: str = "",
) -> Picture:
    """Predictions against ratings, both from ``low`` to ``high``, with the line on which they agree."""
    with _panel(name, title, width=3.1, height=3.2) as (axes, made):
        axes.plot([low, high], [low, high], color=_QUIET, linewidth=0.8)
        size = float(np.clip(400 / max(len(ratings), 1) ** 0.6, 2, 22))
        axes.scatter(
            ratings, predictions, s=size, color=_colour(series), alpha=0.5, linewidths=0, rasterized=len(ratings) > 2000
        )
        margin = 0.04 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        axes.set_ylim(min(low, float(predictions.min())) - margin, max(high, float(predictions.max())) + margin)
        axes.set_xlabel("rating")
        axes.set_ylabel("prediction")
        if note:
            axes.text(0.03, 0.97, note, transform=axes.transAxes, va="top", color=_QUIET, fontsize=8.5)
    return made[0]


def confusion(
    name: str, title: str, classes: Sequence[str], counts: NDArray[np.integer], *, series: int = 0
) -> Picture:
    """Counts by true (row) and predicted class, as shares of their row in per cent: the darker, the more."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [label if len(label) <= 18 else f"{label[:17]}\N{HORIZONTAL ELLIPSIS}" for label in classes]
    size = len(labels) * float(np.clip(2.6 / len(labels), 0.34, 0.7))
    below = 0.2 + 0.075 * max(map(len, labels))
    margins = {"left": below + 0.35, "below": below}  # room for the names
    with _panel(name, title, width=size + below + 0.55, height=size + below + 0.4, **margins) as (axes, made):
        for row, column in np.ndindex(shares.shape):
            depth = 0.85 * float(shares[row, column])
            axes.bar(column, 1, width=1, bottom=row - 0.5, color=_colour(series), alpha=depth, linewidth=0)
            axes.text(column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center", fontsize=8)
        axes.set_xlim(-0.5, len(labels) - 0.5)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yticks(range(len(labels)), labels)
        axes.tick_params(length=0)
        axes.grid(visible=False)
    return made[0]


@contextmanager
def _panel(
    name: str, title: str, *, width: float = 4.0, height: float = 2.9, left: float = 0.62, below: float = 0.52
) -> Iterator[tuple[Any, list[Picture]]]:
    """Axes to draw on, and a list that holds the picture afterwards; sizes and margins in inches.

    No window system and no global state is used.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), facecolor="none")
        FigureCanvasAgg(figure)
        # Fixed margins: to compute them takes longer than to draw the picture.
        box = (left / width, below / height, 0.97 - left / width, 1 - (below + 0.3) / height)
        axes = figure.add_axes(box, facecolor="none")
        axes.set_title(title)
        made: list[Picture] = []
        yield axes, made
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
        figure.savefig(png, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    made.append(Picture(name, title, _inline(svg.getvalue(), name), png.getvalue()))


def _inline(svg: str, name: str) -> str:
    """An SVG that stands within HTML: without prologue, with identifiers of its own, in the colours of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(?<=\bid=")', f"{name}-", svg)
    svg = re.sub(r"(?<=url\(#)|(?<=xlink:href=\"#)", f"{name}-", svg)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)  # would style the page
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"', r'\1 style="stroke-linejoin: round"', svg)
    svg = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", svg)
    return re.sub("|".join(_VARIABLES), lambda found: f"var({_VARIABLES[found[0]]}, {found[0]})", svg)


def _interval(axes: Any, estimate: Estimate, row: float, colour: str, label: str | None = None) -> None:
    axes.plot([estimate.low, estimate.high], [row, row], color=colour, linewidth=2.4, solid_capstyle="round")
    axes.plot([estimate.value], [row], "o", color=colour, markersize=6.5, label=label)


def _rows(axes: Any, labels: Sequence[str], x_label: str) -> None:
    """One row for each label, the first on top, and a line at zero."""
    axes.axvline(0, color=_QUIET, linewidth=0.8)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0, labelcolor=_TEXT)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(x_label)


def _colour(series: int) -> str:
    return SERIES[series % len(SERIES)]


def _whole_numbers(axes: Any, last: float) -> None:
    """Ticks at whole epochs, even if there is but one."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    if last <= 1:
        axes.set_xlim(0.5, 1.5)
