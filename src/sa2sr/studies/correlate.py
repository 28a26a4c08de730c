"""Text sentiment by emotion, the paper's Table 1: how far do words alone tell what a voice expresses?"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import SENTIMENTS
from sa2sr.errors import UserError
from sa2sr.files import atomic, write_json, write_text
from sa2sr.metrics import Estimate, bootstrap_counts
from sa2sr.studies.sentiment_counts import SentimentCounts

# Surprise and other emotions may be either, and have no place here.
_NEGATIVE = ("sad", "sadness", "anger", "angry", "frustrated", "frustration", "fear", "fearful", "disgust", "disgusted")
_NEUTRAL = ("neutral", "calm")
_POSITIVE = ("happy", "happiness", "joy", "joyful", "excited", "excitement")
POLARITY = dict.fromkeys((*_NEGATIVE, "contempt"), 0) | dict.fromkeys(_NEUTRAL, 1) | dict.fromkeys(_POSITIVE, 2)


@dataclass(frozen=True)
class EmotionClass:
    """Emotions that count as one, and their place in the order; none if they have no place in it."""

    name: str
    members: tuple[str, ...]
    rank: int | None


@dataclass(frozen=True)
class Association:
    """Pearson's chi-square test of independence and Cramer's V; NaN if there is one row or column only."""

    chi_square: float
    degrees_of_freedom: int
    p_value: float
    cramers_v: float


@dataclass(frozen=True)
class Correlation:
    """Text sentiment by emotion.

    Attributes:
        table: the counts
        association: of the rows of the table with its columns
        classes: the emotions as they were grouped and ordered
        class_association: of the classes with the columns
        spearman: between the ranks of the classes and negative < neutral < positive, over the utterances of ranked
            classes
    """

    table: SentimentCounts
    association: Association
    classes: tuple[EmotionClass, ...]
    class_association: Association
    spearman: Estimate
    level: float

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """Utterances by class and sentiment, shape (classes, 3)."""
        return _merged(self.table, self.classes)


def correlate(
    table: SentimentCounts,
    *,
    groups: Sequence[str] = (),
    order: str | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Correlation:
    """Measure how text sentiment and emotion go together.

    Args:
        table: utterances by emotion and sentiment
        groups: emotions that count as one, such as ``sad+anger+frustrated``
        order: emotions and groups from the most negative to the most positive, such as ``sad+anger,neutral,happy``;
            what it does not name is left out of Spearman's correlation. By default negative emotions come first, as
            one rank, then neutral ones, then positive ones, and surprise and unknown emotions are left out
        resamples: bootstrap resamples of utterances
        level: of confidence
        seed: of the resamples

    Raises:
        UserError: if a group or the order names something else than emotions of the table
    """
    classes = emotion_classes(table.emotions, groups, order)
    merged = _merged(table, classes)
    places = sorted({own.rank for own in classes if own.rank is not None})
    counts = [merged[[own.rank == place for own in classes]].sum(axis=0) for place in places]
    ranks = np.repeat(np.array(places, np.float64), len(SENTIMENTS))
    sentiments = np.tile(np.arange(float(len(SENTIMENTS))), len(places))
    spearman = bootstrap_counts(sentiments, ranks, np.ravel(counts), resamples=resamples, level=level, seed=seed)
    return Correlation(table, associate(table.counts), classes, associate(merged), spearman, level)


def associate(counts: NDArray[np.int64]) -> Association:
    """Chi-square test of independence (no continuity correction) and Cramer's V; empty rows and columns are left out.

    ``V = sqrt(chi2 / (N (min(rows, columns) - 1)))`` (Cramer, 1946).
    """
    from scipy.stats import chi2_contingency

    kept = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    smaller = min(kept.shape) - 1
    if smaller < 1:
        return Association(math.nan, 0, math.nan, math.nan)
    result = chi2_contingency(kept, correction=False)
    v = math.sqrt(result.statistic / (kept.sum() * smaller))
    return Association(float(result.statistic), int(result.dof), float(result.pvalue), v)


def emotion_classes(
    emotions: Sequence[str], groups: Sequence[str] = (), order: str | None = None
) -> tuple[EmotionClass, ...]:
    """The emotions, grouped, and ranked as :func:`correlate` says."""
    ordered = [entry.strip() for entry in order.replace("<", ",").split(",") if entry.strip()] if order else []
    owner: dict[str, tuple[str, ...]] = {emotion: (emotion,) for emotion in emotions}
    for group in [*groups, *(entry for entry in ordered if "+" in entry)]:
        members = tuple(dict.fromkeys(name.strip().lower() for name in group.split("+")))
        for name in members:
            if name not in owner:
                raise UserError(f"'{name}' in '{group}' is no emotion of the table, which has {', '.join(emotions)}")
            if len(owner[name]) > 1 and set(owner[name]) != set(members):
                raise UserError(f"'{name}' is in two groups, {'+'.join(owner[name])} and {group}")
        owner.update(dict.fromkeys(members, members))
    classes = list(dict.fromkeys(owner.values()))
    if not order:
        return tuple(EmotionClass("+".join(members), members, _polarity(members)) for members in classes)
    places: list[tuple[str, ...]] = []
    for entry in ordered:
        first = entry.lower().split("+")[0].strip()
        if first not in owner:
            raise UserError(f"'{entry}' in the order is no emotion of the table, which has {', '.join(emotions)}")
        if owner[first] in places:
            raise UserError(f"'{entry}' is in the order twice")
        places.append(owner[first])
    if len(places) < 2:
        raise UserError(f"the order '{order}' needs two classes at least")
    ranks = {members: rank for rank, members in enumerate(places)}
    return tuple(EmotionClass("+".join(members), members, ranks.get(members)) for members in classes)


def _polarity(members: Sequence[str]) -> int | None:
    ranks = {POLARITY.get(name) for name in members}
    if len(ranks) > 1:
        raise UserError(f"{'+'.join(members)} joins emotions of different polarity, so the order must be given")
    return ranks.pop()


def _merged(table: SentimentCounts, classes: Sequence[EmotionClass]) -> NDArray[np.int64]:
    rows = [[table.emotions.index(name) for name in own.members] for own in classes]
    return np.stack([table.counts[row].sum(axis=0) for row in rows])


# --- Showing it -------------------------------------------------------------------------------------------------------


def figures(result: Correlation) -> dict[str, Any]:
    """All numbers, ready for JSON: what does not exist is null."""
    names = [own.name for own in result.classes]
    return {
        "utterances": int(result.table.counts.sum()),
        "teachers": result.table.teachers,
        "skipped": result.table.skipped,
        "emotions": _rows(result.table.emotions, result.table.counts),
        **_association(result.association),
        "classes": _rows(names, result.class_counts),
        "class_association": _association(result.class_association),
        "spearman": _number(result.spearman.value),
        "spearman_interval": [_number(result.spearman.low), _number(result.spearman.high)],
        "level": result.level,
        "coding": {
            "sentiment": {name: rank for rank, name in enumerate(SENTIMENTS)},
            "emotion": {own.name: own.rank for own in result.classes if own.rank is not None},
            "left_out": [own.name for own in result.classes if own.rank is None],
        },
    }


def as_markdown(result: Correlation) -> str:
    """The table and the figures below it."""
    lines = [
        f"| emotion | {' | '.join(SENTIMENTS)} | utterances |",
        "|---|" + "---:|" * (len(SENTIMENTS) + 1),
    ]
    for emotion, row in zip(result.table.emotions, result.table.counts, strict=True):
        cells = [f"{count:,} ({share:.1%})" for count, share in zip(row, _shares(row), strict=True)]
        lines.append(f"| {emotion.replace('|', '/')} | {' | '.join(cells)} | {row.sum():,} |")
    association, spearman, coding = result.association, result.spearman, figures(result)["coding"]
    ranks = sorted(set(coding["emotion"].values()))
    order = " < ".join(" = ".join(name for name, own in coding["emotion"].items() if own == rank) for rank in ranks)
    lines += [
        "",
        f"Chi-square {association.chi_square:.1f} ({association.degrees_of_freedom} degrees of freedom, "
        f"p = {association.p_value:.2g}), Cramer's V {association.cramers_v:.3f}."
        if math.isfinite(association.chi_square)
        else "Chi-square and Cramer's V need two emotions and two sentiments at least.",
        f"Spearman's correlation {spearman.value:.3f}, {result.level:.0%} interval {spearman.low:.3f} to "
        f"{spearman.high:.3f} (bootstrap over utterances)."
        if math.isfinite(spearman.value)
        else "Spearman's correlation needs two ranks and two sentiments at least.",
        f"Coding: {' < '.join(SENTIMENTS)}; {order or 'no emotion is ranked'}."
        + (f" Left out: {', '.join(coding['left_out'])}." if coding["left_out"] else ""),
    ]
    told = [f"{name} ({count:,})" for name, count in result.table.teachers.items()]
    lines += [f"Sentiment told by {', '.join(told)}."] if told else []
    skipped = [f"{count:,} {reason}" for reason, count in result.table.skipped.items()]
    lines += [f"Not counted: {', '.join(skipped)}."] if skipped else []
    return "\n".join(lines) + "\n"


def heat_map(result: Correlation) -> bytes:
    """Row percentages as colours, with the counts: a PNG."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts, emotions = result.table.counts, result.table.emotions
    shares = np.array([_shares(row) for row in counts])
    with rc_context({"text.parse_math": False, "font.size": 9.5}):
        figure = Figure(figsize=(5, 1.1 + 0.42 * len(emotions)), dpi=160, layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(SENTIMENTS)), SENTIMENTS)
        axes.set_yticks(
            range(len(emotions)), [f"{name[:40]} ({row.sum():,})" for name, row in zip(emotions, counts, strict=True)]
        )
        axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
        axes.spines[:].set_visible(False)
        for (row, column), share in np.ndenumerate(shares):
            text = f"{share:.0%}  ({counts[row, column]:,})"
            axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.55 else "#1c2024")
        axes.set_title("Text sentiment by emotion, row percentages", fontsize=10.5, loc="left")
        picture = io.BytesIO()
        FigureCanvasAgg(figure).print_png(picture, metadata={"Software": None})
    return picture.getvalue()


def write_correlation(result: Correlation, folder: Path) -> None:
    """Write ``correlation.json``, ``correlation.md`` and ``correlation.png``."""
    write_json(folder / "correlation.json", figures(result))
    write_text(folder / "correlation.md", as_markdown(result))
    with atomic(folder / "correlation.png") as temporary:
        temporary.write_bytes(heat_map(result))


def _rows(names: Sequence[str], counts: NDArray[np.int64]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "counts": dict(zip(SENTIMENTS, row.tolist(), strict=True)),
            "percentages": {key: round(100 * share, 2) for key, share in zip(SENTIMENTS, _shares(row), strict=True)},
        }
        for name, row in zip(names, counts, strict=True)
    }


def _association(association: Association) -> dict[str, Any]:
    return {
        "chi_square": _number(association.chi_square),
        "degrees_of_freedom": association.degrees_of_freedom,
        "p_value": _number(association.p_value),
        "cramers_v": _number(association.cramers_v),
    }


def _shares(row: NDArray[np.int64]) -> list[float]:
    return [float(count / max(1, row.sum())) for count in row]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
