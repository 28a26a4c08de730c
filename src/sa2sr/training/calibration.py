"""Calibration: how far a trained model is off on speech that it was not trained on, kept beside its weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from sa2sr.config import Scale, Stage
from sa2sr.errors import CorpusError, ModelError
from sa2sr.intervals import Calibration, calibration, pooled
from sa2sr.network.folder import (
    find_model,
    is_exported,
    is_shared,
    read_calibration,
    read_settings,
    write_calibration,
)
from sa2sr.network.model import load_model
from sa2sr.speech.utterances import Utterance
from sa2sr.training.data import StageData
from sa2sr.training.evaluation import predict_dataset
from sa2sr.training.hearing import hear, within_scale
from sa2sr.training.optimisation import make_accelerator


def calibrate(
    model: str | Path,
    manifests: Sequence[str | Path] = (),
    *,
    pool: Sequence[str | Path] = (),
    map_scale: bool = False,
) -> Calibration:
    """Measure the residuals of a model on the utterances of manifests, and keep them in its folder.

    They replace those of the development set that a fine-tuning leaves there.

    Args:
        model: a model folder, or a run folder
        manifests: of cuts with ratings, which the model was not trained on
        pool: other trainings of the same system, whose kept residuals are added to these: see
            :func:`sa2sr.intervals.pooled`
        map_scale: map ratings on another scale linearly onto the model's

    Raises:
        CorpusError: if there are no ratings, or they are on another scale
        ModelError: if there is no such model, or it does not predict emotions; if one of ``pool`` has no residuals, or
            predicts on another scale
    """
    folder = find_model(model)
    if is_shared(folder):
        raise ModelError(f"{model}: is not yours to change; copy it with 'sa2sr pack {model} OUT', and calibrate OUT")
    accelerator = make_accelerator()
    network = load_model(folder, accelerator.device)
    tasks = {"emotion": network.emotion}  # or an error
    parts = [_kept_residuals(each, folder, network.settings.scale) for each in pool]
    if manifests or not pool:
        heard = hear(network, manifests, accelerator, tasks, map_scale=map_scale)
        parts.insert(0, measured(heard.said["emotion"], heard.utterances, manifests))
    found = pooled(parts)
    if accelerator.is_main_process:
        write_calibration(folder, found)
    return found


def _kept_residuals(model: str | Path, calibrated: Path, scale: Scale | None) -> Calibration:
    """Of another training than that which is calibrated, on the same scale."""
    folder = find_model(model)
    if folder.resolve() == calibrated.resolve():
        raise ModelError(f"{model}: is the model to calibrate, which replaces what it would give; pool it from a copy")
    found = read_calibration(folder)
    if found is None:
        raise ModelError(f"{model}: has no residuals to pool; a fine-tuning keeps them when it is over")
    theirs = read_settings(folder, exported=is_exported(folder)).scale
    if scale is None or theirs is None or (theirs.low, theirs.high) != (scale.low, scale.high):
        raise ModelError(
            f"{model}: predicts on another scale than {calibrated}, so that their residuals cannot be pooled"
        )
    return found


def calibrate_on_dev(folder: Path, data: StageData, stage: Stage, accelerator: Accelerator) -> None:
    """The same for the model that a fine-tuning has given, on its development set."""
    network = load_model(folder, accelerator.device)
    predictions = predict_dataset(network, data.dev, data.dev_batches(stage), accelerator, in_full_precision=True)
    emotions = predictions.values["emotion"]
    positions = sorted(emotions)
    utterances = [data.dev.utterances[each] for each in positions]
    found = measured(
        [within_scale(network.settings.scale, emotions[each]) for each in positions], utterances, stage.dev
    )
    if accelerator.is_main_process:
        write_calibration(folder, found)


def measured(
    emotions: Sequence[NDArray[np.floating]], utterances: Sequence[Utterance], manifests: Sequence[str | Path]
) -> Calibration:
    """The residuals of emotions, N of (3,) within the scale, from ratings; CorpusError where there are none."""
    found = calibration(np.stack(emotions), [u.ratings for u in utterances], [u.speaker for u in utterances], manifests)
    if not found.dimensions:
        raise CorpusError(f"{', '.join(map(str, manifests))}: the audio of no rated utterance can be read")
    return found
