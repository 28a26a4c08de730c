"""Do the voices of two groups differ in activation, valence and dominance?

    python examples/group_difference.py TABLE.csv [MODEL]

TABLE.csv has the columns file, speaker and group, with two groups. Printed is the difference of the groups' means, with
a 95 % interval from a bootstrap over speakers: utterances of one speaker are alike, and so is what a model gets wrong
of them. MODEL is a model folder or a name on the hub; by default it is the model that comes with sa2sr.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import sa2sr
from sa2sr.config import DIMENSIONS

RESAMPLES = 2000
Speakers = list[NDArray[np.float64]]  # the mean emotions of each speaker, (3,)


def main(table: str, model: str | None = None) -> None:
    """Print the differences."""
    with open(table, encoding="utf-8", newline="") as file:
        asked = list(csv.DictReader(file))
    if not asked or {"file", "speaker", "group"} - asked[0].keys():
        sys.exit(f"{table}: needs the columns file, speaker and group, and a line for each file")
    predicted = sa2sr.load(model).predict([line["file"] for line in asked])
    emotions = defaultdict(list)  # by file; a long one has several rows
    for row in predicted:
        emotions[Path(row.file)].append([getattr(row, dimension) for dimension in DIMENSIONS])
    heard: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for line in asked:
        heard[line["group"]][line["speaker"]] += emotions[Path(line["file"])]
    if len(heard) != 2:
        sys.exit(f"{table}: has the groups {', '.join(heard)}; two are compared")
    (one, first), (other, second) = (
        (name, [np.mean(rows, axis=0) for rows in speakers.values() if rows]) for name, speakers in heard.items()
    )
    print(f"{one} ({len(first)} speakers) minus {other} ({len(second)}), scale {predicted.scale.name}")
    random = np.random.default_rng(0)
    draws = np.array([mean(resampled(first, random)) - mean(resampled(second, random)) for _ in range(RESAMPLES)])
    for column, dimension in enumerate(DIMENSIONS):
        low, high = np.quantile(draws[:, column], (0.025, 0.975))
        print(f"{dimension:<11}{(mean(first) - mean(second))[column]:+.2f} [{low:+.2f}, {high:+.2f}]")
    for failure in predicted.failures:
        print(f"failed: {failure.file}: {failure.reason}", file=sys.stderr)


def mean(speakers: Speakers) -> NDArray[np.float64]:
    """Of all speakers, each of whom counts once."""
    return np.mean(speakers, axis=0)  # type: ignore[no-any-return]


def resampled(speakers: Speakers, random: np.random.Generator) -> Speakers:
    """As many speakers, drawn with replacement."""
    return [speakers[index] for index in random.integers(len(speakers), size=len(speakers))]


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
