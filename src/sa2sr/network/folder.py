"""The model folder on disk: where it is, and what its settings say. It needs no network, so that others may run it."""

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import ModelSettings, read_yaml, validate
from sa2sr.errors import ModelError, RecipeError
from sa2sr.files import read_json, write_json
from sa2sr.intervals import Calibration
from sa2sr.network.pretrained.configuration import read_configuration

AnyWeight = TypeVar("AnyWeight", bound=NDArray[Any])

SETTINGS_FILE = "config.yaml"
WEIGHTS_FILE = "model.safetensors"
REGRESSION_FILE = "regression.yaml"  # in place of the settings, where a linear regressor is the model
GRAPH_FILE = "model.onnx"  # of an exported model, which has no weights file
INT8_GRAPH_FILE = "model.int8.onnx"  # beside it
INTERVALS_FILE = "intervals.json"  # of a calibrated model
ENCODER_FILE = "encoder.json"  # the architecture of a pre-trained encoder
VOCABULARY_FILE = "vocabulary.json"  # of a regression on words
EVALUATION_FOLDER = "evaluation"  # of a run, or of a model that is in none
ENCODER_FOLDER = "encoder"  # of a regression on what a network hears: the model folder of that network
LABELS_FILE = "labels.json"  # of an exported model: what its graphs read and give
CARD_FILE = "README.md"  # what people should know of a model
FOLDER_FILES = (
    SETTINGS_FILE,
    WEIGHTS_FILE,
    ENCODER_FILE,
    GRAPH_FILE,
    INT8_GRAPH_FILE,
    LABELS_FILE,
    INTERVALS_FILE,
    CARD_FILE,
)
_NETWORK_FILES = (SETTINGS_FILE, WEIGHTS_FILE, ENCODER_FILE)
_PREDICTING_FILES = (
    *_NETWORK_FILES,
    GRAPH_FILE,
    INT8_GRAPH_FILE,
    REGRESSION_FILE,
    VOCABULARY_FILE,
    *(f"{ENCODER_FOLDER}/{name}" for name in _NETWORK_FILES),
)

SHIPPED = "default"  # the name of the model that comes with the package
SHIPPED_FOLDER = Path(__file__).parents[1] / "models" / "default"
SHIPPED_VARIABLE = "SA2SR_MODEL"  # of the environment: another model in its place

_HALVES = ("float16", "bfloat16")
_LARGEST_CALIBRATION = 1 << 20  # bytes
_BLOCK = 1 << 20  # bytes


def find_model(model: str | Path | None = None, revision: str | None = None) -> Path:
    """The model folder that is meant.

    Args:
        model: a model folder; a run folder, which stands for the model in it; ``user/name`` or ``user/name@revision``
            on the hub, unless there is a folder ``user`` (``hf://user/name`` is always on the hub); ``default``, or
            nothing: what the variable SA2SR_MODEL names, or else the model that comes with the package
        revision: of a model on the hub: a branch, a tag or a commit

    Raises:
        ModelError: if there is none
    """
    from sa2sr.network.hub import HubName, fetch

    if model is None or (str(model) == SHIPPED and not Path(model).exists()):
        if revision is not None:
            raise ModelError(f"revision '{revision}' is of a model on the hub: name it, as user/name")
        return _shipped_model()
    path = Path(model)
    if not path.exists() and (name := HubName.parse(model)) and (name.explicit or not Path(name.user).is_dir()):
        return fetch(name, revision)
    if revision is not None:
        raise ModelError(f"{path}: is not on the hub, and has no revision '{revision}'")
    return _local_model(path)


def _shipped_model() -> Path:
    named = os.environ.get(SHIPPED_VARIABLE)
    if named and named != SHIPPED:
        return find_model(named)
    if not (SHIPPED_FOLDER / SETTINGS_FILE).is_file():
        raise ModelError(
            f"no model comes with this installation: name one, such as --model runs/emotion, or set {SHIPPED_VARIABLE}"
        )
    return SHIPPED_FOLDER


def _local_model(path: Path) -> Path:
    if (path / SETTINGS_FILE).is_file() or is_regression(path):
        return path
    if (path / "model").is_dir():
        return path / "model"
    if (path / "recipe.yaml").is_file():
        raise ModelError(f"{path}: is a run that has no model yet: it gets one when its first epoch is over")
    if not path.exists():
        raise ModelError(f"{path}: does not exist; a model folder has {SETTINGS_FILE} and {WEIGHTS_FILE}")
    raise ModelError(f"{path}: is not a model folder, which has {SETTINGS_FILE} and {WEIGHTS_FILE}")


def is_regression(folder: str | Path) -> bool:
    """Whether a folder holds a linear regressor."""
    return (Path(folder) / REGRESSION_FILE).is_file()


def run_of(model: Path) -> Path:
    """The run folder of a model, where its evaluations are; of a model that is in none, its own folder."""
    return model.resolve().parent if model.resolve().name == "model" else model.resolve()


def is_shared(folder: Path) -> bool:
    """Whether a model folder is the package's or in the cache of the hub, so that nothing is to be written there."""
    in_cache = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")
    return in_cache or folder == SHIPPED_FOLDER


def check_place(out: Path) -> None:
    """That a model may be written into a folder: what is there, if anything, is a model, and so may be replaced.

    Raises:
        ModelError: if anything else is there
    """
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    there.discard(EVALUATION_FOLDER)
    if there - {*FOLDER_FILES} or (CARD_FILE in there and not there & {WEIGHTS_FILE, GRAPH_FILE}):
        raise ModelError(f"{out}: holds other files than those of a model; name a folder of its own")


def digest_of(folder: str | Path, *more: str) -> str:
    """Of the files of a model folder that its predictions follow from, and of ``more`` by name.

    Two folders of one digest predict the same; intervals, cards and labels are not part of it.
    """
    found = sha256()
    for name in sorted({*_PREDICTING_FILES, *more}):
        path = Path(folder) / name
        if not path.is_file():
            continue
        found.update(f"{name}\0".encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
    return found.hexdigest()


def is_exported(folder: str | Path) -> bool:
    """Whether a model folder holds an ONNX graph in place of weights."""
    return (Path(folder) / GRAPH_FILE).is_file() and not (Path(folder) / WEIGHTS_FILE).exists()


def read_settings(folder: str | Path, *, exported: bool = False) -> ModelSettings:
    """The settings of a model folder.

    Args:
        folder: of a model, or of a run
        exported: a graph is needed instead of weights

    Raises:
        ModelError: naming what is missing or wrong
    """
    folder = find_model(folder)
    if is_regression(folder):
        raise ModelError(f"{folder}: is a regression, which 'sa2sr evaluate' runs on cuts, and nothing else can run")
    if is_exported(folder) and not exported:
        raise ModelError(f"{folder}: is an exported model, which only predicts; use the model that it came from")
    for name in (SETTINGS_FILE, GRAPH_FILE if exported else WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: is not a model folder: {name} is missing")
    try:
        settings = validate(ModelSettings, read_yaml(folder / SETTINGS_FILE), str(folder / SETTINGS_FILE))
    except RecipeError as error:
        raise ModelError(str(error)) from None
    if settings.encoder.kind != "transformers":
        return settings
    encoder = settings.encoder.with_configuration(read_configuration(folder / ENCODER_FILE))
    return settings.model_copy(update={"encoder": encoder})


def read_weights(folder: str | Path) -> dict[str, NDArray[np.float32]]:
    """The weights of a model folder by name, in single precision.

    Raises:
        ModelError: if it is not a safetensors file, or holds anything but finite numbers
    """
    return {name: array.astype(np.float32, copy=False) for name, array in read_stored_weights(folder).items()}


def read_stored_weights(folder: str | Path) -> dict[str, NDArray[np.floating]]:
    """Likewise, but those that are stored in half precision (fp16, bf16) as they are."""
    import safetensors
    from safetensors.numpy import load_file

    with suppress(ImportError):
        import ml_dtypes  # noqa: F401  # teaches numpy bfloat16; it comes with onnx

    path = find_model(folder) / WEIGHTS_FILE
    try:
        weights: dict[str, NDArray[np.floating]] = {
            name: array if array.dtype.name in _HALVES else array.astype(np.float32)
            for name, array in load_file(path).items()
        }
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: is not a safetensors file ({error})") from None
    except (KeyError, TypeError, AttributeError) as error:  # a type that numpy does not have
        raise ModelError(f"{path}: holds numbers of a type other than fp32, fp16 and bf16 ({error})") from None
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise ModelError(f"{path}: {name} holds numbers that are not finite")
    return weights


def without_heads(
    settings: ModelSettings, weights: Mapping[str, AnyWeight], heads: Collection[str]
) -> tuple[ModelSettings, dict[str, AnyWeight]]:
    """Settings and weights of the same network without some of its heads."""
    kept = settings.objectives.model_copy(update=dict.fromkeys(heads))
    drifted = tuple(name for name in settings.drifted if name not in heads)
    scale = settings.scale if kept.emotion else None
    parts = tuple(f"objectives.{name}." for name in heads)
    fewer = settings.model_copy(update={"objectives": kept, "drifted": drifted, "scale": scale})
    return fewer, {name: array for name, array in weights.items() if not name.startswith(parts)}


def read_calibration(folder: str | Path) -> Calibration | None:
    """What the intervals of a model come from; None where it has not been calibrated.

    Raises:
        ModelError: if the file is damaged
    """
    path = find_model(folder) / INTERVALS_FILE
    if not path.exists():
        return None
    remedy = "calibrate the model again with 'sa2sr calibrate', or remove the file"
    try:
        return validate(Calibration, read_json(path, _LARGEST_CALIBRATION), str(path))
    except ValueError as error:
        raise ModelError(f"{path}: {error}, and so no calibration; {remedy}") from None
    except RecipeError as error:
        raise ModelError(f"{error}\n  {remedy}") from None


def write_calibration(folder: str | Path, calibration: Calibration) -> None:
    """Write ``intervals.json`` into a model folder.

    Raises:
        ModelError: if it cannot be written
    """
    path = find_model(folder) / INTERVALS_FILE
    try:
        write_json(path, calibration.model_dump(mode="json"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error.strerror or error})") from None
