"""Pre-trained encoders from a folder or from the hub: safetensors alone, and no code of a model is ever run."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from torch import Tensor

from sa2sr.config import FrontEnd
from sa2sr.errors import ModelError
from sa2sr.network.pretrained.backbone import Backbone, described, make_backbone
from sa2sr.network.pretrained.configuration import Configuration, read_configuration, read_description

_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def pretrained_configuration(name: str) -> Configuration:
    """The architecture of the encoder in a folder or on the hub, and how it wants waveforms.

    Raises:
        ModelError: if there is none
    """
    path = _find(name, "config.json")
    if path is None:
        raise ModelError(f"{name}: has no config.json; an encoder has config.json and model.safetensors")
    with torch.device("meta"):
        backbone = make_backbone(read_configuration(path))
    path = _find(name, "preprocessor_config.json")
    preprocessor = read_description(path) if path is not None else {}
    if (rate := preprocessor.get("sampling_rate", backbone.sampling_rate)) != backbone.sampling_rate:
        raise ModelError(f"{name}: hears {rate} Hz; encoders of {backbone.sampling_rate} Hz can be used")
    return described(backbone.model.config) | {"do_normalize": bool(preprocessor.get("do_normalize", True))}


def frontend_of(configuration: Mapping[str, Any]) -> FrontEnd:
    """What an encoder reads, with the window and the step of its states."""
    with torch.device("meta"):
        backbone = make_backbone(configuration)
    rate = backbone.sampling_rate
    window_ms, step_ms = (1000 * samples / rate for samples in (backbone.window, backbone.step))
    return FrontEnd(kind="waveform", sampling_rate=rate, window_ms=window_ms, step_ms=step_ms, stack=1)


def pretrained_weights(name: str, configuration: Mapping[str, Any], kind: type[Backbone]) -> dict[str, Tensor]:
    """The weights of an encoder in a folder or on the hub, by the library's names.

    Raises:
        ModelError: if they cannot be loaded, or are not all there
    """
    folder = Path(name)
    if folder.is_dir() and not any(folder.glob("*.safetensors")) and any((folder / each).exists() for each in _PICKLES):
        raise ModelError(
            f"{name}: has its weights as a pickle ({_PICKLES[0]}), which can run code when it is read; only "
            "safetensors are read. If you trust the file, AutoModel.from_pretrained(FOLDER).save_pretrained(OTHER) of "
            "the transformers library writes them"
        )
    source = name if folder.is_dir() else _cached_snapshot(name) or name
    offline = constants.HF_HUB_OFFLINE or os.path.isdir(source)
    log = transformers.utils.logging
    verbosity = log.get_verbosity()
    log.set_verbosity_error()  # what an encoder has no use for, such as a decoder, need not be reported
    log.disable_progress_bar()
    try:
        model, missing = kind.pretrained(source, configuration, use_safetensors=True, local_files_only=offline)
    except Exception as error:  # what a broken folder raises depends on the file and on the version of the library
        raise ModelError(f"{name}: its weights cannot be loaded ({_line(error)}){_remedy(name)}") from None
    finally:
        log.set_verbosity(verbosity)
        log.enable_progress_bar()
    if missing:
        raise ModelError(f"{name}: lacks {missing[0]} and {len(missing) - 1} more of the encoder's weights")
    return model.float().state_dict()


def _find(name: str, file: str) -> Path | None:
    """A file of a folder or of the hub, from the local cache if it is there; None where there is no such file."""
    if os.path.isdir(name):
        path = Path(name) / file
        return path if path.is_file() else None
    if os.path.isabs(name) or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError(f"{name}: there is no such folder, and it is no hub id")
    with suppress(Exception):  # it is not in the cache, or is known not to exist
        return Path(hf_hub_download(name, file, local_files_only=True))
    try:
        return Path(hf_hub_download(name, file))
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{name}: {file} is not in the local cache of the hub ({_line(error)}){_remedy(name)}"
        ) from None
    except EntryNotFoundError:
        return None
    except Exception as error:  # of the network, in many kinds
        raise ModelError(f"{name}: cannot be found on the hub ({_line(error)}){_remedy(name)}") from None


def _cached_snapshot(name: str) -> str | None:
    """The folder of a hub id in the local cache, if its weights are there in one file."""
    with suppress(Exception):
        return str(Path(hf_hub_download(name, "model.safetensors", local_files_only=True)).parent)
    return None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _remedy(name: str) -> str:
    if os.path.isdir(name):
        return "; a folder needs config.json and model.safetensors"
    off = "HF_HUB_OFFLINE is set. " if constants.HF_HUB_OFFLINE else ""
    return (
        f". {off}Where there is a network, 'hf download {name}' fills the cache; or download it to a folder "
        "('--local-dir FOLDER') and name that: encoder.name=FOLDER"
    )
