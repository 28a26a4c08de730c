"""What a family of pre-trained networks has to offer. A new family is one file beside this one."""

from abc import abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import transformers
from torch import Tensor, nn

from sa2sr.errors import ModelError
from sa2sr.network.pretrained.configuration import FAMILIES, Configuration


class Backbone(nn.Module):
    """A network of the library, from waveforms to the states of its layers.

    What is random while it learns must come from torch alone, whose generator every step seeds: so the library's own
    SpecAugment and the dropping of whole layers are off.
    """

    adapters: tuple[str, ...]  # linear layers of a layer that LoRA works beside
    adapted: tuple[str, ...]  # those that it works beside unless others are named
    sampling_rate: ClassVar[int] = 16_000  # Hz

    model: Any  # the library's
    size: int  # H
    window: int  # samples that the first state hears
    step: int  # samples from a state to the next
    features: list[nn.Module]  # what turns samples into a first sequence of vectors
    below: list[nn.Module]  # what is between these and the layers

    @property
    @abstractmethod
    def layers(self) -> nn.ModuleList:
        """The transformer's, from below."""

    @abstractmethod
    def state_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) samples -> (B,) states, at least one."""

    @abstractmethod
    def forward(self, waveforms: Tensor, lengths: Tensor) -> list[Tensor]:
        """The states of all layers.

        Args:
            waveforms: (B, samples), -1 to 1, 0 past the end
            lengths: (B,) samples

        Returns:
            what the first layer reads, and what each gives, (B, T', H) each: anything past the end
        """

    @classmethod
    @abstractmethod
    def pretrained(cls, source: str, configuration: Mapping[str, Any], **options: Any) -> tuple[nn.Module, list[str]]:
        """The library's network with the weights of a folder or of the hub, and the names of those that are missing."""


def make_backbone(configuration: Mapping[str, Any]) -> Backbone:
    """The network of an architecture, with random weights.

    Raises:
        ModelError: if there is no such network
    """
    module = import_module(f"sa2sr.network.pretrained.{FAMILIES[configuration['model_type']]}")
    backbone: Backbone = module.BACKBONE(configuration)
    return backbone


def library_configuration(kind: type[Any], values: Mapping[str, Any], **changes: Any) -> Any:
    """The library's configuration of an architecture.

    Args:
        kind: its class
        values: what describes the architecture; all else (of loading, of generating, of code) is left out
        changes: to it

    Raises:
        ModelError: if it does not describe one
    """
    own = described(kind()).keys() - {"model_type"}
    try:
        return kind(**{name: value for name, value in values.items() if name in own} | changes)
    except Exception as error:  # of several kinds, depending on the version of the library
        raise unusable(values, error) from None


def described(configuration: Any) -> Configuration:
    """A library's configuration in JSON: what tells the architecture, and nothing else."""
    values, base = configuration.to_dict(), transformers.PretrainedConfig().to_dict()
    own = {name for name in values if name not in base or name.endswith("_token_id")}
    return {name: values[name] for name in values if name in {"model_type", *own} and not name.startswith("_")}


def unusable(values: Mapping[str, Any], error: Exception) -> ModelError:
    """What is raised when the library cannot build what a configuration says."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return ModelError(f"the configuration of the encoder ({values.get('model_type')}) cannot be built: {reason}")
