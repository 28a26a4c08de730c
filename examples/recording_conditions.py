"""What other recording conditions do to predictions: a row for each, with CCCs, AUCs of activation, and by how many
points activation and valence move on average.

    python examples/recording_conditions.py CUTS [MODEL] > recording-conditions.md

CUTS is a manifest with ratings, or emotions, or both. Each utterance is predicted as it is, and as if it had been
recorded otherwise. MODEL is the package's by default.
"""

import sys
from collections.abc import Callable

import numpy as np

import sa2sr
from sa2sr.config import DIMENSIONS
from sa2sr.cuts import load_waveform
from sa2sr.metrics import auc, ccc
from sa2sr.speech.conditions import add_noise, change_level, colour, cut_pauses, limit_band, reverberate
from sa2sr.speech.features import Waveform
from sa2sr.speech.utterances import read_utterances

RATE = 16_000  # Hz

Condition = Callable[[Waveform, np.random.Generator], Waveform]
CONDITIONS: dict[str, Condition] = {
    "as recorded": lambda waveform, random: waveform,
    "15 ms cut off in front": lambda waveform, random: waveform[15 * RATE // 1000 :],
    "pauses at the ends cut off": lambda waveform, random: cut_pauses(waveform, RATE),
    "30 dB softer": lambda waveform, random: change_level(waveform, -30),
    "telephone band": lambda waveform, random: limit_band(waveform, RATE, 300, 3400),
    "duller by 3 dB an octave": lambda waveform, random: colour(waveform, RATE, -3),
    "brighter by 3 dB an octave": lambda waveform, random: colour(waveform, RATE, 3),
    "reverberation of 0.5 s": lambda waveform, random: reverberate(waveform, RATE, 0.5, 5, random),
    "pink noise, 20 dB below": lambda waveform, random: add_noise(waveform, 20, 1, random),
    "white noise, 20 dB below": lambda waveform, random: add_noise(waveform, 20, 0, random),
    "white noise, 10 dB below": lambda waveform, random: add_noise(waveform, 10, 0, random),
}
PAIRS = (("angry", "sad"), ("happy", "sad"))
MOVED = ("activation", "valence")


def main(manifest: str, name: str = "default") -> None:
    """Print a Markdown table."""
    model = sa2sr.load(name)
    utterances = read_utterances([manifest], model.scale).utterances
    waveforms = [load_waveform(utterance.cut, RATE) for utterance in utterances]
    ratings = np.array([utterance.ratings for utterance in utterances])
    emotions = np.array([utterance.category or "" for utterance in utterances])
    columns = [f"{name} CCC" for name in DIMENSIONS] + [f"{high} above {low} AUC" for high, low in PAIRS]
    columns += [f"{name} moves by" for name in MOVED]
    recorded = None
    print(f"| {model.settings.name}: {len(utterances)} utterances | {' | '.join(columns)} |")
    print("| --- |" + " ---: |" * len(columns))
    for condition, change in CONDITIONS.items():
        random = np.random.default_rng(0)
        rows = [model.predict(change(waveform, random), RATE, level=0)[0] for waveform in waveforms]
        predictions = np.array([[getattr(row, dimension) for dimension in DIMENSIONS] for row in rows])
        found = []
        for column in range(len(DIMENSIONS)):
            known = np.isfinite(ratings[:, column])
            found.append(ccc(predictions[known, column], ratings[known, column]) if known.any() else np.nan)
        for high, low in PAIRS:
            chosen = np.isin(emotions, (high, low))
            found.append(auc(predictions[chosen, 0], emotions[chosen] == high) if chosen.any() else np.nan)
        recorded = predictions if recorded is None else recorded
        moves = np.abs(predictions - recorded).mean(axis=0)
        found += [moves[DIMENSIONS.index(name)] for name in MOVED]
        print(f"| {condition} | {' | '.join(f'{value:.3f}' for value in found)} |")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
