"""The model that a training begins with."""

import json
import shlex
from pathlib import Path

import torch

from sa2sr.config import ModelSettings, Objectives, ObjectiveSettings, Recipe, Scale, Settings, Stage, validate
from sa2sr.errors import ModelError
from sa2sr.network.folder import read_settings
from sa2sr.network.model import SpeechModel, load_model
from sa2sr.network.objectives import OBJECTIVES
from sa2sr.network.pretrained.configuration import check_library
from sa2sr.training.data import StageData
from sa2sr.training.evaluation import reads_recognised

_MAY_DIFFER = {"freeze", "checkpointing"}  # of a pre-trained encoder from training to training


def with_known_encoder(recipe: Recipe, start_from: str | Path | None) -> Recipe:
    """The recipe with what a pre-trained encoder alone knows: its architecture, and how it reads waveforms.

    It is that of the model which the training begins with, or else of the folder or the hub that the recipe names.
    """
    if recipe.encoder.kind != "transformers":
        return recipe
    check_library()
    from sa2sr.network.pretrained.loading import frontend_of, pretrained_configuration

    configuration = read_settings(start_from).encoder.configuration if start_from is not None else None
    if configuration is None:
        configuration = pretrained_configuration(str(recipe.encoder.name))
    encoder = recipe.encoder.with_configuration(configuration)
    return recipe.model_copy(update={"encoder": encoder, "frontend": frontend_of(configuration)})


def initial_model(recipe: Recipe, stage: Stage, data: StageData, start_from: str | Path | None) -> SpeechModel:
    """Random weights, those of a pre-trained encoder, or those of an earlier model as far as it has them.

    The heads of an earlier model that this stage does not train stay in the model (with weight 0), so that it can
    still transcribe and tell sentiment. Where the encoder learns without them they are listed as drifted. Heads that
    only serve a training, such as those that predict frames, stay behind.
    """
    earlier = load_model(start_from) if start_from is not None else None
    wanted: dict[str, Settings] = {
        name: OBJECTIVES[name].with_labels(objective, data.train.utterances)
        for name, objective in stage.objectives.active().items()
    }
    if earlier is not None:
        _check_same(earlier.settings, recipe, str(start_from))
        kept = {name: objective.model_copy(update={"weight": 0.0}) for name, objective in _kept(earlier.settings)}
        wanted = kept | wanted
    elif stage.freeze_encoder and recipe.encoder.kind != "transformers":
        raise ModelError("the recipe freezes the encoder: name a pre-trained model with --encoder")
    values = {
        "name": recipe.name,
        "frontend": recipe.frontend,
        "encoder": recipe.encoder,
        "objectives": Objectives.model_validate(wanted),
        "scale": _scale(stage, data, earlier),
        "drifted": drifted_heads(stage, earlier.settings) if earlier is not None else (),
    }
    settings = validate(ModelSettings, values, f"recipe '{recipe.name}'")
    model = SpeechModel(settings)
    if reads_recognised(model):
        _ = model.recogniser  # an error now, not after an epoch
    if earlier is not None:
        _copy_matching(earlier, model)
    elif recipe.encoder.name is not None:
        model.load_pretrained_encoder(recipe.encoder.name)
    if "emotion" in stage.objectives.active():
        model.emotion.fit_ratings(torch.tensor([u.ratings for u in data.train.utterances]))
    if stage.freeze_encoder:
        model.freeze_encoder()
    return model


def _scale(stage: Stage, data: StageData, earlier: SpeechModel | None) -> Scale | None:
    """Of the ratings that the model predicts, if it does: those of this training, or of an earlier one."""
    if "emotion" in stage.objectives.active():
        return data.train_set.scale
    return earlier.settings.scale if earlier is not None else None


def drifted_heads(stage: Stage, earlier: ModelSettings) -> tuple[str, ...]:
    """The heads of an earlier model that its encoder leaves behind: it is trained, and they are not."""
    trained = {name for name, objective in stage.objectives.active().items() if objective.weight}
    left = [name for name, _ in _kept(earlier) if name not in trained]
    return tuple(name for name in left if not stage.freeze_encoder or name in earlier.drifted)


def _kept(earlier: ModelSettings) -> list[tuple[str, ObjectiveSettings]]:
    """The heads of an earlier model that are of use in a later one."""
    return [(name, objective) for name, objective in earlier.objectives.active().items() if not objective.stays_behind]


def _check_same(earlier: ModelSettings, recipe: Recipe, source: str) -> None:
    differing = []
    for part in ("encoder", "frontend"):
        there, here = (getattr(each, part).model_dump(mode="json") for each in (earlier, recipe))
        names = [name for name in here if name not in _MAY_DIFFER and name in there and there[name] != here[name]]
        differing += [(f"{part}.{name}", there[name], here[name]) for name in names]
    if differing:
        key, there, here = differing[0]
        changes = " ".join(shlex.quote(f"{key}={json.dumps(value)}") for key, value, _ in differing)
        pretrained = [each.encoder.kind == "transformers" for each in (earlier, recipe)]
        # A pre-trained encoder has other settings, so that changes to them do not make one of the other.
        remedy = f"give the command {changes}, or take" if len({*pretrained}) == 1 else "take"
        raise ModelError(
            f"{source}: was trained with {key} = {there}, but the recipe '{recipe.name}' has {here}; they must be the "
            f"same: {remedy} another recipe"
        )


def _copy_matching(earlier: SpeechModel, model: SpeechModel) -> None:
    """Encoder and equal heads; a head of the same name but another shape starts anew."""
    ours = model.state_dict()
    theirs = earlier.state_dict()
    heads = {name.split(".")[1] for name in theirs if name.startswith("objectives.")}
    fitting = {
        head
        for head in heads
        if all(
            name in ours and ours[name].shape == tensor.shape
            for name, tensor in theirs.items()
            if name.startswith(f"objectives.{head}.")
        )
    }
    model.load_state_dict(
        ours | {n: t for n, t in theirs.items() if n.startswith("encoder.") or n.split(".")[1] in fitting}
    )
