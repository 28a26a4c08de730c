"""What an exported model loses: its graphs beside the network that they were made from, on the cuts of a corpus.

The graph in single precision must give what torch gives, up to rounding. 8-bit integers move predictions a little; what
that costs is the difference of the concordance correlation with the ratings.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS
from sa2sr.errors import AudioError, CorpusError
from sa2sr.files import write_json
from sa2sr.inference.clips import Clip
from sa2sr.inference.model import HEADS, Model, load
from sa2sr.metrics import ccc, error_rate
from sa2sr.network.folder import INT8_GRAPH_FILE
from sa2sr.progress import progress

AGREEMENT_FILE = "agreement.json"
FP32_DIFFERENCE = 1e-4  # from torch at most, on the scale of the ratings
INT8_COST = 0.005  # of CCC at most, in each dimension
LONGEST = 120.0  # seconds of a cut
_BATCH = 32

Emotions = NDArray[np.float64]  # (N, 3)


def check_agreement(model: str | Path, exported: str | Path, manifests: Sequence[str | Path]) -> dict[str, Any]:
    """Compare an exported model with the one it was made from, and write ``agreement.json`` into its folder.

    Args:
        model: a model folder, or a run folder
        exported: what :func:`sa2sr.inference.export.export` made of it
        manifests: of cuts, some with ratings

    Returns:
        ``utterances``, ``failures``, and of ``fp32`` and ``int8`` the largest and mean difference from torch of each
        dimension, the CCC of both and its ``cost`` where there are ratings, and the character error rate against the
        transcripts of torch where the model transcribes; ``ok`` says whether all is within the limits

    Raises:
        CorpusError: if no cut can be heard
        ModelError: if one of the models cannot be loaded, or predicts no emotions
    """
    by_torch = load(model, engine="torch")
    engines = {"torch": by_torch, "fp32": load(exported, engine="onnx")}
    if (Path(exported) / INT8_GRAPH_FILE).is_file():
        engines["int8"] = load(exported, engine="onnx", int8=True)
    heads = [HEADS["transcript"]] if "ctc" in by_torch.settings.objectives.active() else []
    emotions: dict[str, list[NDArray[np.float32]]] = {name: [] for name in engines}
    transcripts: dict[str, list[str]] = {name: [] for name in engines}
    ratings, failures = list[Sequence[float]](), list[str]()
    heard = _heard(by_torch, manifests, failures)
    while batch := list(islice(heard, _BATCH)):
        ratings += [rating for _, rating in batch]
        for name, each in engines.items():
            said = each.engine.hear([clip.frames for clip, _ in batch], heads)
            emotions[name] += [one.emotions for one in said]
            transcripts[name] += [one.transcript or "" for one in said]
    if not ratings:
        raise CorpusError(f"{', '.join(map(str, manifests))}: no audio can be read; first: {[*failures, ''][0]}")
    numbers = {name: np.stack(each).astype(float) for name, each in emotions.items()}
    scale, truth = by_torch.scale, np.array(ratings, float)
    found: dict[str, Any] = {
        "manifests": [str(path) for path in manifests],
        "utterances": len(ratings),
        "failures": failures,
        "scale": scale.model_dump(),
    }
    limits = {"low": scale.low, "high": scale.high}
    for name in [each for each in engines if each != "torch"]:
        found[name] = _compared(numbers["torch"], numbers[name], truth, **limits)
        if heads and any(transcripts["torch"]):
            pairs = [(h, r) for h, r in zip(transcripts[name], transcripts["torch"], strict=True) if r]
            hypotheses, references = zip(*pairs, strict=True)
            found[name]["transcripts_cer"] = error_rate(hypotheses, references, unit="character")
    found["limits"] = {"fp32_difference": FP32_DIFFERENCE, "int8_cost": INT8_COST}
    found["ok"] = _is_within_limits(found)
    write_json(Path(exported) / AGREEMENT_FILE, found)
    return found


def _compared(torch: Emotions, graph: Emotions, truth: Emotions, *, low: float, high: float) -> dict[str, Any]:
    """Of each dimension what moves between two engines; CCC is that of clipped numbers, as users get them."""
    compared: dict[str, Any] = {}
    for column, name in enumerate(DIMENSIONS):
        moved = np.abs(graph[:, column] - torch[:, column])
        compared[name] = {"largest_difference": float(moved.max()), "mean_difference": float(moved.mean())}
        known = np.isfinite(truth[:, column])
        if known.sum() > 1:
            before, after = (ccc(each[known, column].clip(low, high), truth[known, column]) for each in (torch, graph))
            compared[name] |= {"rated": int(known.sum()), "ccc_torch": before, "ccc": after, "cost": before - after}
    return compared


def _is_within_limits(found: dict[str, Any]) -> bool:
    exact = all(found["fp32"][name]["largest_difference"] <= FP32_DIFFERENCE for name in DIMENSIONS)
    costs = [found["int8"][name].get("cost", 0.0) for name in DIMENSIONS] if "int8" in found else []
    return exact and all(cost <= INT8_COST for cost in costs)


def _heard(
    model: Model, manifests: Sequence[str | Path], failures: list[str]
) -> Iterator[tuple[Clip, Sequence[float]]]:
    """What the network reads of each cut, and its ratings on the scale of the model."""
    from sa2sr.cuts import load_waveform
    from sa2sr.speech.utterances import read_utterances

    utterances = read_utterances(manifests, model.scale).utterances
    rate = model.settings.frontend.sampling_rate
    with progress("Utterances", total=len(utterances)) as advance:
        for each in utterances:
            advance(1)
            if each.seconds > LONGEST:
                failures.append(f"{each.name}: is longer than {LONGEST:g} s")
                continue
            try:
                waveform = load_waveform(each.cut, rate)
            except AudioError as error:
                failures.append(str(error))
                continue
            (clip,) = model.array_clips(waveform, rate, name=each.name, longest=2 * LONGEST)
            if isinstance(clip, Clip):
                yield clip, each.ratings
