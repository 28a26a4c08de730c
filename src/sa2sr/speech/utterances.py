"""What a training needs to know of each cut."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from lhotse import SupervisionSegment

from sa2sr.config import DIMENSIONS, SENTIMENTS, FrontEnd, Scale, validate
from sa2sr.cuts import Cut, custom_fields, read_cuts
from sa2sr.errors import CorpusError, RecipeError
from sa2sr.speech.text import normalise_text


class Corpus(NamedTuple):
    """Where utterances come from. Ratings of different corpora need not mean the same."""

    number: int = 0  # in the order in which they are met
    name: str = ""


ONE_CORPUS = Corpus()


@dataclass(frozen=True)
class Utterance:
    """A cut, and its labels in the form that the objectives read."""

    name: str
    cut: Cut
    seconds: float
    text: str | None = None  # in the alphabet of the recogniser
    sentiment: tuple[float, ...] | None = None  # probabilities of negative, neutral, positive
    ratings: tuple[float, ...] = (math.nan,) * len(DIMENSIONS)  # NaN where unknown
    scale: Scale | None = None
    category: str | None = None  # of emotion, in lower case
    speaker: str | None = None
    gender: str | None = None
    corpus: Corpus = ONE_CORPUS


@dataclass(frozen=True)
class UtteranceSet:
    """The utterances of one or more manifests, and how many were left out, by reason."""

    utterances: list[Utterance]
    left_out: Counter[str]
    scale: Scale | None

    @property
    def hours(self) -> float:
        """Duration of all utterances."""
        return sum(u.seconds for u in self.utterances) / 3600

    @property
    def corpora(self) -> dict[Corpus, list[Utterance]]:
        """The utterances of each corpus."""
        parts: dict[Corpus, list[Utterance]] = {}
        for utterance in self.utterances:
            parts.setdefault(utterance.corpus, []).append(utterance)
        return dict(sorted(parts.items()))


def read_utterances(paths: Sequence[str | Path], scale: Scale | None = None) -> UtteranceSet:
    """Read manifests.

    A cut names its corpus. Where it does not it is of the one that others in its manifest name, or else of its folder.

    Args:
        paths: of the manifests
        scale: ratings on other scales are mapped linearly onto this one; without it all must be on one scale

    Raises:
        CorpusError: if there is nothing in them, a label is not of its kind, or ratings are on different scales
    """
    cuts = ((number, cut) for number, path in enumerate(paths) for cut in read_cuts(path))
    utterances, left_out, seen = [], Counter[str](), set[str]()
    kept: list[tuple[int, Cut]] = []  # of each utterance, with the number of its manifest
    for number, cut in cuts:
        if cut.id in seen:
            left_out["id occurs twice"] += 1
            continue
        seen.add(cut.id)
        utterance = _utterance(cut)
        if utterance.scale is not None and any(map(utterance.scale.excludes, utterance.ratings)):
            left_out["rating outside its scale"] += 1
            continue
        utterances.append(utterance if scale is None else _on_scale(utterance, scale))
        kept.append((number, cut))
    utterances = [replace(u, corpus=corpus) for u, corpus in zip(utterances, corpora_of(kept, paths), strict=True)]
    where = ", ".join(map(str, paths))
    if not utterances:
        raise CorpusError(f"{where or 'no manifest'}: no cuts to read")
    return UtteranceSet(utterances, left_out, _common_scale(utterances, where))


def of_classes(data: UtteranceSet, classes: Collection[str]) -> UtteranceSet:
    """The same without the labels of emotions that are none of the classes, which are counted as left out."""
    others = Counter(u.category for u in data.utterances if u.category is not None and u.category not in classes)
    if not others:
        return data
    kept = [replace(u, category=None) if u.category in others else u for u in data.utterances]
    left_out = data.left_out + Counter({f"label {name}, which is no class": count for name, count in others.items()})
    return replace(data, utterances=kept, left_out=left_out)


class Task(Protocol):
    """What an objective says of an utterance."""

    def has_label(self, utterance: Utterance) -> bool:
        """Whether the task can learn from it."""

    def fits(self, utterance: Utterance, steps: int) -> bool:
        """Whether its label can be learnt from that many states."""


def usable(
    data: UtteranceSet,
    frontend: FrontEnd,
    tasks: Mapping[str, Task],
    *,
    shortest: float,
    longest: float,
    fastest: float = 1.0,
) -> UtteranceSet:
    """The utterances that can be trained on: those with a label for at least one task, and that fit all tasks.

    Args:
        data: the utterances
        frontend: for the number of states
        tasks: by name
        shortest: in seconds
        longest: in seconds
        fastest: the highest factor of speed perturbation
    """

    def objection(utterance: Utterance) -> str | None:
        if utterance.seconds < shortest:
            return f"shorter than {shortest:g} s"
        if utterance.seconds > longest:
            return f"longer than {longest:g} s"
        if not any(task.has_label(utterance) for task in tasks.values()):
            return "no label for " + " or ".join(tasks)
        steps = frontend.states(utterance.seconds / fastest)
        return next(
            (f"too short for its {name} label" for name, t in tasks.items() if not t.fits(utterance, steps)), None
        )

    kept, left_out = [], data.left_out.copy()
    for utterance in data.utterances:
        if reason := objection(utterance):
            left_out[reason] += 1
        else:
            kept.append(utterance)
    if not kept:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in left_out.most_common())
        raise CorpusError(f"none of {len(data.utterances)} utterances can be used: {reasons}")
    return UtteranceSet(kept, left_out, data.scale)


def _utterance(cut: Cut) -> Utterance:
    supervision = cut.supervisions[0] if cut.supervisions else None
    custom = custom_fields(cut)
    ratings = tuple(_number(custom.get(name)) for name in DIMENSIONS)
    scale = None
    if any(map(math.isfinite, ratings)):
        try:
            scale = validate(Scale, custom.get("scale", {}), f"cut {cut.id}, scale")
        except RecipeError as error:
            raise CorpusError(str(error)) from None
    return Utterance(
        name=cut.id,
        cut=cut,
        seconds=cut.duration,
        text=normalise_text(_string(supervision, "text") or ""),
        sentiment=_probabilities(custom.get("sentiment"), cut.id),
        ratings=ratings,
        scale=scale,
        category=_category(custom.get("emotion")),
        speaker=_string(supervision, "speaker"),
        gender=_string(supervision, "gender"),
    )


def corpora_of(cuts: Sequence[tuple[int, Cut]], paths: Sequence[str | Path]) -> list[Corpus]:
    """The corpus of each cut, which comes with the number of its manifest: as :func:`read_utterances` tells them."""
    named = [(number, str(custom_fields(cut).get("corpus") or "")[:100]) for number, cut in cuts]
    others: dict[int, set[str]] = {}
    for manifest, name in named:
        others.setdefault(manifest, set()).update({name} - {""})
    folders, numbers, found = _folders(paths), dict[str, int](), []
    for manifest, name in named:
        of_manifest = next(iter(others[manifest])) if len(others[manifest]) == 1 else folders[manifest]
        own = name or of_manifest
        found.append(Corpus(numbers.setdefault(own, len(numbers)), own))
    return found


def _folders(paths: Sequence[str | Path]) -> list[str]:
    """The folder of each manifest: as much of the end of its path as tells it from the others."""
    folders = [Path(path).resolve().parent for path in paths]

    def name(folder: Path) -> str:
        for count in range(1, len(folder.parts)):
            if len({other for other in folders if other.parts[-count:] == folder.parts[-count:]}) == 1:
                return "/".join(folder.parts[-count:])
        return str(folder)

    return [*map(name, folders)]


def _on_scale(utterance: Utterance, scale: Scale) -> Utterance:
    """The utterance with its ratings on a scale: low becomes low, and high becomes high."""
    own = utterance.scale
    if own is None or own == scale:
        return utterance
    factor = (scale.high - scale.low) / (own.high - own.low)
    return replace(utterance, scale=scale, ratings=tuple(scale.low + factor * (r - own.low) for r in utterance.ratings))


def _string(supervision: SupervisionSegment | None, name: str) -> str | None:
    value = getattr(supervision, name, None)
    if supervision is not None and isinstance(value, dict | list):
        raise CorpusError(f"supervision {supervision.id}: {name} must be a string, not {str(value)[:80]}")
    return None if value is None else str(value)


def _category(value: Any) -> str | None:
    return " ".join(value.lower().split()) or None if isinstance(value, str) else None


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan
    except OverflowError:  # an integer of hundreds of digits
        return math.nan


def _probabilities(value: Any, name: str) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = tuple(map(_number, value)) if isinstance(value, list | tuple) else ()
    if len(numbers) != len(SENTIMENTS) or not all(0 <= n <= 1 for n in numbers) or abs(sum(numbers) - 1) > 0.01:
        raise CorpusError(f"cut {name}: sentiment must be three probabilities, not {str(value)[:80]}")
    return numbers


def _common_scale(utterances: Sequence[Utterance], where: str) -> Scale | None:
    scales: dict[Scale, str] = {u.scale: u.name for u in utterances if u.scale is not None}
    if len(scales) > 1:
        (one, first), (other, second) = list(scales.items())[:2]
        raise CorpusError(
            f"{where}: ratings on different scales: {first} has {one}, {second} has {other}; "
            "a scale to map them onto can be given: the key finetuning.scale of a recipe, or --map-scale"
        )
    return next(iter(scales), None)
