"""How well do activation, valence and dominance tell one emotion from another? A table of AUCs with their intervals.

    python examples/emotions_apart.py CUTS [MODEL] > emotions-apart.md

CUTS is a manifest with emotions, such as `sa2sr prepare ravdess` or `crema-d` writes; no rating is needed. An AUC of
0.5 is chance, 1 tells all pairs of utterances apart, and below 0.5 the first emotion is the lower one. MODEL is the
package's by default.
"""

import sys
from itertools import combinations

import numpy as np

import sa2sr
from sa2sr.config import DIMENSIONS
from sa2sr.cuts import read_cuts
from sa2sr.metrics import bootstrap

SHOWN = ("angry", "happy", "neutral", "sad")


def main(manifest: str, model: str = "default") -> None:
    """Print a Markdown table, a row for each pair of emotions."""
    emotions = {
        cut.recording.sources[0].source: supervision.custom["emotion"]
        for cut in read_cuts(manifest)
        for supervision in cut.supervisions
        if (supervision.custom or {}).get("emotion") in SHOWN
    }
    table = sa2sr.load(model).predict(sorted(emotions))
    heard = np.array([emotions[row.file] for row in table.rows])
    print(f"| {table.model}: utterances | {' | '.join(DIMENSIONS)} |")
    print("| --- | ---: | ---: | ---: |")
    for first, second in combinations(SHOWN, 2):
        chosen = np.isin(heard, (first, second))
        truth = (heard[chosen] == first).astype(int)
        cells = []
        for dimension in DIMENSIONS:
            auc = bootstrap(np.asarray(table.column(dimension), float)[chosen], truth, metric="auc")
            cells.append(f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]")
        print(f"| {first} above {second}: {chosen.sum()} | {' | '.join(cells)} |")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
