"""A pre-trained network as the encoder of a model: waveforms (B, samples, 1) to states (B, T', H)."""

from importlib.util import find_spec

import torch
from torch import Tensor, nn

from sa2sr.config import EncoderSettings, LoraSettings
from sa2sr.errors import ModelError
from sa2sr.network.encoder import valid_steps
from sa2sr.network.pretrained.backbone import Backbone, make_backbone
from sa2sr.network.pretrained.loading import pretrained_weights


class PretrainedEncoder(nn.Module):
    """The states are a learnt mean over the layers (Peters et al., 2018), or those of the last one.

    Parts that are frozen stay in evaluation mode too. A new encoder has random weights until it loads others.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        if settings.configuration is None:
            raise ModelError(f"{settings.name}: the architecture of the pre-trained encoder is not known")
        self.configuration = settings.configuration
        self.backbone = make_backbone(self.configuration)
        self.dimension = self.backbone.size  # H
        self.mixture: nn.Parameter | None = None  # of the layers, before a softmax
        if settings.readout == "weighted":
            self.mixture = nn.Parameter(torch.zeros(1 + len(self.backbone.layers)))
        self.frozen = _frozen_parts(self.backbone, settings)
        for part in self.frozen:
            part.requires_grad_(False)
        if settings.lora is not None:
            _add_adapters(self.backbone, settings.lora)
        if settings.checkpointing:
            model = self.backbone.model  # the library has given it another name
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})

    def train(self, mode: bool = True) -> "PretrainedEncoder":
        """As for any module, but what is frozen stays in evaluation mode."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def state_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) samples -> (B,) states, at least one."""
        return self.backbone.state_lengths(lengths)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Encode a batch.

        Args:
            frames: (B, samples, 1), padded at the end with anything
            lengths: (B,) samples of each utterance, at least 1

        Returns:
            states: (B, T', H), 0 past the end
        """
        waveforms = frames.squeeze(-1).masked_fill(~valid_steps(lengths, frames.shape[1]), 0)
        layers: list[Tensor] = self.backbone(waveforms, lengths)
        if self.mixture is None:
            states = layers[-1]
        else:
            shares = self.mixture.softmax(0)
            states = torch.stack([share * each for share, each in zip(shares, layers, strict=True)]).sum(0)
        return states.masked_fill(~valid_steps(self.state_lengths(lengths), states.shape[1]).unsqueeze(-1), 0)

    @torch.no_grad()
    def load_pretrained(self, name: str) -> None:
        """Take the weights of a folder or of the hub; adapters and the mixture stay as they are.

        Raises:
            ModelError: if they cannot be loaded, or are those of another architecture
        """
        theirs = pretrained_weights(name, self.configuration, type(self.backbone))
        for own, weights in self.backbone.model.state_dict().items():
            key = own.replace(".base_layer.", ".")  # what an adapter was put beside
            if key in theirs and theirs[key].shape == weights.shape:
                weights.copy_(theirs[key])
            elif ".lora_" not in own:
                raise ModelError(f"{name}: {key} is missing, or is not of the shape {tuple(weights.shape)}")


def _frozen_parts(backbone: Backbone, settings: EncoderSettings) -> list[nn.Module]:
    if settings.lora is not None or settings.freeze == "features":
        return backbone.features
    if settings.freeze == "none":
        return []
    if settings.freeze == "all":
        return [backbone.model]
    if settings.freeze > len(backbone.layers):
        raise ModelError(f"encoder.freeze is {settings.freeze}, but the encoder has {len(backbone.layers)} layers")
    return [*backbone.features, *backbone.below, *backbone.layers[: settings.freeze]]


def _add_adapters(backbone: Backbone, settings: LoraSettings) -> None:
    """Freeze all weights, and put adapters beside linear layers, which change nothing at first."""
    if find_spec("peft") is None:
        raise ModelError("encoder.lora needs the extra peft: pip install 'sa2sr[peft]'")
    from peft import LoraConfig, inject_adapter_in_model

    if unknown := {*settings.beside} - {*backbone.adapters}:
        raise ModelError(
            f"encoder.lora.beside: '{min(unknown)}' is not a linear layer that adapters work beside in this encoder; "
            f"there are {', '.join(backbone.adapters)}"
        )
    adapters = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=[*(settings.beside or backbone.adapted)],
    )
    inject_adapter_in_model(adapters, backbone.model)
