"""The model folder on disk: where it is, and what its settings say. It needs no network, so that others may run it."""

from pathlib import Path

from sa2sr.config import ModelSettings, read_yaml, validate
from sa2sr.errors import ModelError, RecipeError

SETTINGS_FILE = "config.yaml"
WEIGHTS_FILE = "model.safetensors"


def find_model(path: str | Path) -> Path:
    """The model folder at ``path``, where a run folder stands for the model in it.

    Raises:
        ModelError: if there is none
    """
    path = Path(path)
    if (path / SETTINGS_FILE).is_file():
        return path
    if (path / "model").is_dir():
        return path / "model"
    if (path / "recipe.yaml").is_file():
        raise ModelError(f"{path}: is a run that has no model yet: it gets one when its first epoch is over")
    if not path.exists():
        raise ModelError(f"{path}: does not exist; a model folder has {SETTINGS_FILE} and {WEIGHTS_FILE}")
    raise ModelError(f"{path}: is not a model folder, which has {SETTINGS_FILE} and {WEIGHTS_FILE}")


def read_settings(folder: str | Path) -> ModelSettings:
    """The settings of a model folder.

    Raises:
        ModelError: naming what is missing or wrong
    """
    folder = find_model(folder)
    for name in (SETTINGS_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: is not a model folder: {name} is missing")
    try:
        return validate(ModelSettings, read_yaml(folder / SETTINGS_FILE), str(folder / SETTINGS_FILE))
    except RecipeError as error:
        raise ModelError(str(error)) from None
