"""wav2vec 2.0 (Baevski et al., 2020), HuBERT (Hsu et al., 2021) and WavLM (Chen et al., 2022): waveform in.

Strided convolutions make a vector of every 20 ms, transformer layers make states of these.
"""

import warnings
from collections.abc import Mapping
from threading import Lock
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from sa2sr.errors import ModelError
from sa2sr.network.encoder import valid_steps
from sa2sr.network.pretrained.backbone import Backbone, library_configuration, unusable

_KINDS = {
    "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
    "hubert": (transformers.HubertConfig, transformers.HubertModel),
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
}
# WavLM's mask of padding is boolean, and what it adds to the attention is not, which works.
warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")
_DETERMINED = {"layerdrop": 0.0, "apply_spec_augment": False, "mask_time_prob": 0.0, "mask_feature_prob": 0.0}


class Wav2Vec2Backbone(Backbone):
    """An utterance has the same states in any company: those that the library computes of it alone."""

    adapters: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense")
    adapted: tuple[str, ...] = ("q_proj", "v_proj")

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        super().__init__()
        config = _library_configuration(configuration)
        if configuration.get("conv_pos_batch_norm"):
            raise ModelError("an encoder with conv_pos_batch_norm cannot be used: its states depend on the batch")
        try:
            self.model = _KINDS[configuration["model_type"]][1](config)
        except Exception as error:
            raise unusable(configuration, error) from None
        if configuration["model_type"] == "wavlm":  # its attention reads the weights of its linear layers past adapters
            self.adapters, self.adapted = self.adapters[-2:], self.adapters[-2:]
        self.size = config.hidden_size
        self.convolutions = [*zip(config.conv_kernel, config.conv_stride, strict=True)]
        self.window, self.step = 1, 1
        for kernel, stride in self.convolutions:
            self.window, self.step = self.window + (kernel - 1) * self.step, self.step * stride
        self.normalises = bool(configuration.get("do_normalize", True))
        if config.feat_extract_norm == "group":
            first = self.model.feature_extractor.conv_layers[0]
            first.layer_norm = MaskedGroupNorm(first.layer_norm)
        self._turn = Lock()
        encoder = self.model.encoder
        self.features = [self.model.feature_extractor]
        self.below = [self.model.feature_projection, encoder.pos_conv_embed, encoder.dropout]
        if not config.do_stable_layer_norm:  # otherwise it is above the layers
            self.below.append(encoder.layer_norm)

    @property
    def layers(self) -> nn.ModuleList:
        """As of :class:`Backbone`."""
        return self.model.encoder.layers  # type: ignore[no-any-return]

    def state_lengths(self, lengths: Tensor) -> Tensor:
        """As :meth:`Backbone.state_lengths`: each convolution takes what fits."""
        lengths = lengths.clamp(min=self.window)
        for kernel, stride in self.convolutions:
            lengths = _after(lengths, kernel, stride)
        return lengths

    def forward(self, waveforms: Tensor, lengths: Tensor) -> list[Tensor]:
        """As :meth:`Backbone.forward`. A waveform that is too short for a state is continued with zeros."""
        if self.normalises:
            waveforms = normalise(waveforms, lengths)
        waveforms = functional.pad(waveforms, (0, max(0, self.window - waveforms.shape[1])))
        lengths = lengths.clamp(min=self.window)
        mask = valid_steps(lengths, waveforms.shape[1]).long()
        with self._turn:  # of several threads, for the norm keeps the lengths
            first = self.model.feature_extractor.conv_layers[0]
            if isinstance(first.layer_norm, MaskedGroupNorm):
                first.layer_norm.lengths = _after(lengths, *self.convolutions[0])
            given = self.model(waveforms, attention_mask=mask, output_hidden_states=True)
        return [*given.hidden_states[:-1], given.last_hidden_state]

    @classmethod
    def pretrained(cls, source: str, configuration: Mapping[str, Any], **options: Any) -> tuple[nn.Module, list[str]]:
        """As :meth:`Backbone.pretrained`."""
        kind = _KINDS[configuration["model_type"]][1]
        config = _library_configuration(configuration)
        model, report = kind.from_pretrained(source, config=config, output_loading_info=True, **options)
        return model, sorted(report["missing_keys"])


BACKBONE = Wav2Vec2Backbone


class MaskedGroupNorm(nn.Module):
    """Each channel normalised over the valid time of each utterance: (B, C, T) -> (B, C, T).

    The library's norm takes mean and variance over the padding too, so that what an utterance says would depend on its
    company. The two agree where there is no padding.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.epsilon = norm.weight, norm.bias, norm.eps
        self.lengths: Tensor | None = None  # (B,) of the batch that comes next

    def forward(self, channels: Tensor) -> Tensor:
        """As the class says."""
        assert self.lengths is not None
        valid = valid_steps(self.lengths, channels.shape[2])[:, None]  # (B, 1, T)
        count = self.lengths[:, None, None]
        channels = channels.float()
        mean = channels.masked_fill(~valid, 0).sum(2, keepdim=True) / count
        centred = (channels - mean).masked_fill(~valid, 0)
        variance = torch.linalg.vector_norm(centred, dim=2, keepdim=True).square() / count
        scale = torch.rsqrt(variance + self.epsilon) * self.weight[:, None]
        return centred * scale + self.bias[:, None]


def normalise(waveforms: Tensor, lengths: Tensor) -> Tensor:
    """Mean 0 and variance 1 of each utterance, 0 past its end: (B, samples)."""
    valid, count = valid_steps(lengths, waveforms.shape[1]), lengths[:, None]
    centred = (waveforms - waveforms.sum(1, keepdim=True) / count).masked_fill(~valid, 0)
    return centred * torch.rsqrt(centred.square().sum(1, keepdim=True) / count + 1e-7)


def _library_configuration(configuration: Mapping[str, Any]) -> Any:
    kind = _KINDS[configuration["model_type"]][0]
    return library_configuration(kind, configuration, add_adapter=False, **_DETERMINED)


def _after(lengths: Tensor, kernel: int, stride: int) -> Tensor:
    """How long sequences are after a convolution."""
    return torch.div(lengths - kernel, stride, rounding_mode="floor") + 1
