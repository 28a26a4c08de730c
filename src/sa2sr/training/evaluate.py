"""The evaluation of a model on manifests.

::

    OUT/metrics.json     the metrics, and what they were computed from
    OUT/predictions.csv  one row an utterance: its labels and what the model says
"""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sa2sr.config import DIMENSIONS, SENTIMENTS, Batches, Scale
from sa2sr.errors import CorpusError
from sa2sr.files import atomic, write_json
from sa2sr.network.folder import find_model
from sa2sr.network.model import load_model
from sa2sr.progress import progress
from sa2sr.speech.batches import SpeechDataset, plain_batches
from sa2sr.speech.utterances import Utterance, UtteranceSet, read_utterances
from sa2sr.training.evaluation import predict_dataset
from sa2sr.training.measures import Said, judge
from sa2sr.training.optimisation import make_accelerator
from sa2sr.training.run import environment

LONGEST = 120.0  # seconds of an utterance, since each is predicted as a whole


@dataclass(frozen=True)
class Evaluation:
    """What was measured, as it is in ``metrics.json``, and the folder that it was written to."""

    folder: Path
    metrics: dict[str, Any]


def evaluate(
    model: str | Path, manifests: Sequence[str | Path], out: str | Path | None = None, *, resamples: int = 1000
) -> Evaluation:
    """Evaluate a model on the utterances of manifests, and write what came out.

    Emotions are clipped to the scale, as they are in every prediction; CCC has 1/N statistics. An utterance without
    one of the labels is predicted, and takes part in no metric of that label.

    Args:
        model: a model folder, or a run folder
        manifests: of cuts
        out: folder for the results; by default ``evaluation/<manifests>`` beside the model folder
        resamples: of the bootstrap

    Raises:
        CorpusError: if no label can be compared with what the model says, or the ratings are on another scale
        ModelError: if there is no such model
    """
    folder = find_model(model)
    accelerator = make_accelerator("fp32")
    network = load_model(folder, accelerator.device)
    scale = network.settings.scale
    data = _short_enough(read_utterances(manifests))
    where = ", ".join(map(str, manifests))
    _check_labels(data, network.tasks(), where)
    _check_scale(data.scale, scale if "emotion" in network.tasks() else None, where)

    dataset = SpeechDataset(data.utterances, network.settings.frontend)
    batches = plain_batches([u.seconds for u in data.utterances], Batches())
    with progress("Utterances", total=len(data.utterances)) as advance:
        predictions = predict_dataset(network, dataset, batches, accelerator, advance=advance)
    heard = sorted(next(iter(predictions.values.values())))  # the positions of those whose audio could be read
    if not heard:
        raise CorpusError(f"{where}: no audio can be read; first: {predictions.failures[0]}")
    utterances = [data.utterances[position] for position in heard]
    said = {name: [values[position] for position in heard] for name, values in predictions.values.items()}
    if "emotion" in said and scale is not None:
        said["emotion"] = [np.clip(emotions, scale.low, scale.high) for emotions in said["emotion"]]

    metrics = {
        "model": str(folder.resolve()),
        "name": network.settings.name,
        "manifests": [str(Path(path).resolve()) for path in manifests],
        "scale": scale.model_dump() if scale is not None else None,
        "utterances": len(utterances),
        "hours": sum(u.seconds for u in utterances) / 3600,
        "left_out": dict(data.left_out),
        "failures": predictions.failures,
        "resamples": resamples,
        **judge(utterances, said, resamples),
        "environment": environment(),
    }
    result = Evaluation(Path(out) if out is not None else _default_folder(folder, manifests), metrics)
    if accelerator.is_main_process:
        _write_predictions(result.folder / "predictions.csv", utterances, said)
        write_json(result.folder / "metrics.json", metrics)
    return result


def _short_enough(data: UtteranceSet) -> UtteranceSet:
    kept = [u for u in data.utterances if u.seconds <= LONGEST]
    if not kept:
        raise CorpusError(f"all of {len(data.utterances)} utterances are longer than {LONGEST:g} s; cut them shorter")
    long = Counter({f"longer than {LONGEST:g} s": len(data.utterances) - len(kept)})
    return replace(data, utterances=kept, left_out=data.left_out + long)


def _check_labels(data: UtteranceSet, tasks: dict[str, Any], where: str) -> None:
    if not any(task.has_label(utterance) for task in tasks.values() for utterance in data.utterances):
        remedies = "; ".join(f"{name}: {task.remedy}" for name, task in tasks.items())
        raise CorpusError(f"{where}: no label to compare the model with ({remedies})")


def _check_scale(ratings: Scale | None, model: Scale | None, where: str) -> None:
    """The same numbers must mean the same; the names of scales may differ."""
    if ratings is None or model is None or (ratings.low, ratings.high) == (model.low, model.high):
        return
    raise CorpusError(
        f"{where}: the ratings are on the scale {ratings.name} ({ratings.low:g} to {ratings.high:g}), "
        f"but the model predicts on {model.name} ({model.low:g} to {model.high:g})"
    )


def _default_folder(model: Path, manifests: Sequence[str | Path]) -> Path:
    """``evaluation/ravdess-test`` beside the model, for the manifest ``ravdess/test.jsonl.gz``."""
    paths = [Path(path).resolve() for path in manifests]
    names = [f"{path.parent.name}-{path.name.removesuffix('.gz').removesuffix('.jsonl')}" for path in paths]
    return model.resolve().parent / "evaluation" / "+".join(names)[:150]


def _write_predictions(path: Path, utterances: Sequence[Utterance], said: Said) -> None:
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = [_row(u, {name: each[i] for name, each in said.items()}) for i, u in enumerate(utterances)]
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _row(utterance: Utterance, said: dict[str, Any]) -> dict[str, Any]:
    """An utterance in ``predictions.csv``; what is not known is empty."""
    sources = utterance.cut.recording.sources
    row: dict[str, Any] = {
        "id": utterance.name,
        "file": sources[0].source if len(sources) == 1 and sources[0].type == "file" else None,
        "start": utterance.cut.start,
        "end": utterance.cut.start + utterance.seconds,
        "speaker": utterance.speaker,
        "gender": utterance.gender,
    }
    if "emotion" in said:
        for dimension, rating, emotion in zip(DIMENSIONS, utterance.ratings, said["emotion"], strict=True):
            row |= {f"{dimension}_truth": rating if np.isfinite(rating) else None, dimension: float(emotion)}
    if "ctc" in said:
        row |= {"text_truth": utterance.text, "text": said["ctc"]}
    if "sentiment" in said:
        truth = SENTIMENTS[int(np.argmax(utterance.sentiment))] if utterance.sentiment is not None else None
        row |= {"sentiment_truth": truth, **dict(zip(SENTIMENTS, map(float, said["sentiment"]), strict=True))}
    return row
