"""Systems: the trainings of one recipe with several seeds, and what they say together of one test set.

A run folder of a study says in ``cell.json`` which system it is of. Of others the name decides: ``asr-seed0`` and
``asr-seed1``, or ``seed0/asr`` and ``seed1/asr``, are two seeds of the system ``asr``.

Several seeds are pooled like this. The value is the mean of the seeds' metrics. Its bootstrap draws utterances (or
speakers, or sentences that several voices say), the same for all seeds and systems, and, apart from that, seeds with
replacement: the interval is about new utterances **and** new trainings. Since n seeds drawn with replacement vary by
(n - 1) / n too little, their deviations from the mean are widened by sqrt(n / (n - 1)). A difference of two systems
draws the same utterances for both (paired), and seeds for each by itself, since the same seed does not make two
different trainings alike. With one seed, nothing is known of how trainings vary, and the interval is about utterances
alone.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS, Scale
from sa2sr.metrics import Difference, Estimate, ccc, difference, estimate, resampled
from sa2sr.studies.records import Evaluation
from sa2sr.training.measures import FEWEST_SPEAKERS

RESAMPLES = 1000
Resample: TypeAlias = Literal["auto", "speakers", "sentences", "utterances"]

_SEED = re.compile(r"(?:^|(?<=[-_. /]))seed[-_=]?(\d{1,10})(?![A-Za-z0-9])", re.IGNORECASE)


def split_seed(name: str) -> tuple[str, int | None]:
    """The name of a run without its seed, and the seed: ``asr-seed1`` is 1 of ``asr``."""
    found = _SEED.search(name)
    if found is None:
        return name, None
    rest = f"{name[: found.start()].rstrip('-_. ')}{name[found.end() :].lstrip('-_. ')}".strip("/").replace("//", "/")
    return (rest, int(found[1])) if rest else (name, None)


@dataclass(frozen=True)
class System:
    """A row of the tables of one test set: an evaluation for every seed, of the utterances that all predicted."""

    name: str
    evaluations: Sequence[Evaluation]
    seeds: Sequence[int | None] = (None,)

    @cached_property
    def _rows(self) -> list[list[int]]:
        """The rows of the common utterances in every evaluation, in the order of the first."""
        if len(self.evaluations) == 1:
            return [list(range(len(self.evaluations[0].names)))]
        positions = [{name: row for row, name in enumerate(e.names)} for e in self.evaluations]
        common = [name for name in positions[0] if all(name in other for other in positions[1:])]
        return [[position[name] for name in common] for position in positions]

    @cached_property
    def names(self) -> list[str]:
        """Of the common utterances, N."""
        return [self.evaluations[0].names[row] for row in self._rows[0]]

    @cached_property
    def speakers(self) -> list[str | None]:
        """Of the utterances."""
        return [self.evaluations[0].speakers[row] for row in self._rows[0]]

    @cached_property
    def genders(self) -> list[str | None]:
        """Of the utterances."""
        return [self.evaluations[0].genders[row] for row in self._rows[0]]

    @cached_property
    def sentences(self) -> list[str | None]:
        """Of the utterances."""
        return [self.evaluations[0].sentences[row] for row in self._rows[0]]

    @cached_property
    def ratings(self) -> NDArray[np.float64]:
        """(N, 3), NaN where unknown."""
        return self.evaluations[0].ratings[self._rows[0]]

    @cached_property
    def predictions(self) -> NDArray[np.float64]:
        """(S, N, 3) of every seed, NaN where there is none."""
        return np.stack([e.predictions[rows] for e, rows in zip(self.evaluations, self._rows, strict=True)])

    @property
    def classes(self) -> Sequence[str]:
        """K categories of emotion that every seed tells apart."""
        return self.evaluations[0].classes

    @cached_property
    def category_numbers(self) -> NDArray[np.int64]:
        """(N,) what the utterances are, -1 where it is unknown, or none of the classes."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers.get(self.evaluations[0].categories[row] or "", -1) for row in self._rows[0]], np.int64)

    @cached_property
    def category_predictions(self) -> NDArray[np.int64]:
        """(S, N) the most probable class in every seed; -1 where a seed does not know it."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        found = []
        for each, rows in zip(self.evaluations, self._rows, strict=True):
            own = np.array([numbers.get(name, -1) for name in each.classes], np.int64)
            probabilities = each.category_probabilities
            best = np.full(len(rows), -1) if probabilities is None else own[probabilities[rows].argmax(axis=1)]
            found.append(best)
        return np.stack(found)

    @property
    def scale(self) -> Scale:
        """Of ratings and predictions."""
        return self.evaluations[0].scale

    @property
    def is_pretrained(self) -> bool:
        """Whether heads of a pre-training came along with the encoder."""
        return self.evaluations[0].is_pretrained

    def rated(self, dimension: int) -> list[int]:
        """The rows with a rating, and a prediction of every seed, of a dimension."""
        known = np.isfinite(self.ratings[:, dimension]) & np.isfinite(self.predictions[:, :, dimension]).all(axis=0)
        return [int(row) for row in np.flatnonzero(known)]

    @cached_property
    def counted(self) -> list[int]:
        """The rows with a rating and a prediction of some dimension: others count nowhere."""
        return sorted({row for dimension in range(len(DIMENSIONS)) for row in self.rated(dimension)})

    def by_seed(self, dimension: int) -> list[float]:
        """The CCC of every seed; empty where there is nothing to compute."""
        rows = self.rated(dimension)
        rated = self.ratings[rows, dimension]
        return [ccc(of_seed[rows, dimension], rated) for of_seed in self.predictions] if len(rows) > 1 else []


def concordances(system: System, *, resample: Resample = "auto") -> dict[str, Estimate]:
    """CCC of each rated dimension, mean over the seeds, with its 95 % bootstrap interval."""
    found = {}
    for index, dimension in enumerate(DIMENSIONS):
        if values := system.by_seed(index):
            rows = system.rated(index)
            speakers = drawn_groups(system, rows, resample)
            drawn = _drawn(system, index, rows, system.ratings[rows, index], speakers)
            found[dimension] = estimate(float(np.mean(values)), over_seeds(drawn, draw=0))
    return found


def differences(system: System, reference: System, *, resample: Resample = "auto") -> dict[str, Difference]:
    """CCC of each dimension minus that of a reference, on the utterances that both predicted."""
    position = {name: row for row, name in enumerate(reference.names)}
    found = {}
    for index, dimension in enumerate(DIMENSIONS):
        rated = {*reference.rated(index)}
        pairs = [(row, position.get(system.names[row], -1)) for row in system.rated(index)]
        own, other = [a for a, b in pairs if b in rated], [b for _, b in pairs if b in rated]
        if len(own) < 2:
            continue
        speakers = drawn_groups(reference, other, resample)
        means, drawn = [], []
        for draw, (each, rows) in enumerate(((system, own), (reference, other))):
            truth = each.ratings[rows, index]  # on its own scale
            means.append(np.mean([ccc(of_seed, truth) for of_seed in each.predictions[:, rows, index]]))
            drawn.append(over_seeds(_drawn(each, index, rows, truth, speakers), draw))
        found[dimension] = difference(float(means[0] - means[1]), drawn[0] - drawn[1])
    return found


def drawn_groups(
    evaluation: Evaluation | System, rows: Sequence[int], resample: Resample
) -> Sequence[str | None] | None:
    """The speakers or sentences of rows, if the bootstrap draws these; none if it draws utterances."""
    unit = drawn_unit(evaluation, rows, resample)
    if unit == "utterances":
        return None
    groups = evaluation.sentences if unit == "sentences" else evaluation.speakers
    return [groups[row] for row in rows]


def drawn_unit(evaluation: Evaluation | System, rows: Sequence[int], resample: Resample) -> str:
    """What the bootstrap draws: by default sentences where several voices say the same, else speakers if enough.

    Utterances of one sentence share their words and their rating, so they are hardly more than one.
    """
    if resample != "auto":
        return resample
    sentences = [evaluation.sentences[row] for row in rows]
    if None not in sentences and 1 < len({*sentences}) < len(sentences):
        return "sentences"
    return "speakers" if len({evaluation.speakers[row] for row in rows} - {None}) >= FEWEST_SPEAKERS else "utterances"


def drawn_things(systems: Sequence[System], resample: Resample) -> str:
    """What the bootstrap draws, in words."""
    rows = [system.counted or range(len(system.names)) for system in systems]
    units = [drawn_unit(system, own, resample) for system, own in zip(systems, rows, strict=True)]
    return " or ".join(dict.fromkeys(units))


def _drawn(
    system: System,
    dimension: int,
    rows: Sequence[int],
    truth: NDArray[np.float64],
    speakers: Sequence[str | None] | None,
) -> NDArray[np.float64]:
    """The CCC of every seed in every resample of utterances, shape (S, R)."""
    predictions = system.predictions[:, rows, dimension]
    return np.stack([resampled(each, truth, speakers=speakers, resamples=RESAMPLES) for each in predictions])


def over_seeds(values: NDArray[np.float64], draw: int) -> NDArray[np.float64]:
    """Means over seeds drawn with replacement, shape (R,), of values of shape (S, R); see the top of this module."""
    seeds, resamples = values.shape
    mean: NDArray[np.float64] = values.mean(axis=0)
    if seeds == 1:
        return mean
    generator = np.random.default_rng([1, draw])
    counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples).T
    deviation: NDArray[np.float64] = (counts * values).mean(axis=0) - mean
    return mean + math.sqrt(seeds / (seeds - 1)) * deviation
