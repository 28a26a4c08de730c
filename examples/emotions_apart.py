"""How well do activation, valence and dominance tell one emotion from another? A table of AUCs with their intervals.

    python examples/emotions_apart.py CUTS [MODEL [CUTS MODEL ...]] > emotions-apart.md

CUTS is a manifest with emotions, such as `sa2sr prepare ravdess` or `crema-d` writes; no rating is needed. An AUC of
0.5 is chance, 1 tells all pairs of utterances apart, and below 0.5 the first emotion is the lower one. MODEL is the
package's by default. Several manifests, each heard by its own model, are pooled, as those of a cross-validation.
Intervals are over speakers, or over utterances where these are unknown.
"""

import sys
from itertools import combinations

import numpy as np

import sa2sr
from sa2sr.config import DIMENSIONS
from sa2sr.cuts import read_cuts
from sa2sr.metrics import bootstrap

SHOWN = ("angry", "happy", "neutral", "sad")


def main(manifest: str, model: str = "default", *more: str) -> None:
    """Print a Markdown table, a row for each pair of emotions."""
    heard, speakers, numbers = [], [], []
    for cuts, hearing in zip((manifest, *more[::2]), (model, *more[1::2]), strict=True):
        said = {
            cut.recording.sources[0].source: supervision
            for cut in read_cuts(cuts)
            for supervision in cut.supervisions
            if (supervision.custom or {}).get("emotion") in SHOWN
        }
        table = sa2sr.load(hearing).predict(sorted(said))
        heard += [said[row.file].custom["emotion"] for row in table.rows]
        speakers += [said[row.file].speaker for row in table.rows]
        numbers += [[getattr(row, dimension) for dimension in DIMENSIONS] for row in table.rows]
    emotions, who, found = np.array(heard), np.array(speakers, object), np.array(numbers, float)
    print(f"| {table.model}: utterances | {' | '.join(DIMENSIONS)} |")
    print("| --- | ---: | ---: | ---: |")
    for first, second in combinations(SHOWN, 2):
        chosen = np.isin(emotions, (first, second))
        truth = (emotions[chosen] == first).astype(int)
        aucs = [bootstrap(column, truth, metric="auc", speakers=who[chosen]) for column in found[chosen].T]
        cells = [f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]" for auc in aucs]
        print(f"| {first} above {second}: {chosen.sum()} | {' | '.join(cells)} |")


if __name__ == "__main__":
    if len(sys.argv) != 2 and (len(sys.argv) < 3 or len(sys.argv) % 2 == 0):
        sys.exit(__doc__)
    main(*sys.argv[1:])
