"""The encoder of Whisper (Radford et al., 2022): it reads log mel energies, in pieces of 30 s.

It has no attention mask: it was trained on speech followed by silence, and so it hears an utterance here too. What it
costs is therefore the same for a second as for 30; longer utterances are read piece by piece.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers.audio_utils import mel_filter_bank
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from sa2sr.network.pretrained.backbone import Backbone, library_configuration, unusable

_HOP = 160  # samples from a mel frame to the next
_FFT = 400  # samples of a window
_FRAMES = 2  # mel frames that a state stands for


class WhisperBackbone(Backbone):
    """Padding to whole pieces is part of what it does, so that an utterance has the same states in any company."""

    adapters = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
    adapted = ("q_proj", "v_proj")

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        super().__init__()
        config = _library_configuration(configuration)
        try:
            self.model = WhisperEncoder(config)
        except Exception as error:
            raise unusable(configuration, error) from None
        self.size, self.filters = config.d_model, config.num_mel_bins
        self.window = self.step = _FRAMES * _HOP
        self.piece = config.max_source_positions * self.step  # samples
        self.features = [self.model.conv1, self.model.conv2]
        self.below = []

    @property
    def layers(self) -> nn.ModuleList:
        """As of :class:`Backbone`."""
        return self.model.layers  # type: ignore[no-any-return]

    def state_lengths(self, lengths: Tensor) -> Tensor:
        """As :meth:`Backbone.state_lengths`: the last state may hear some silence."""
        return torch.div(lengths + self.step - 1, self.step, rounding_mode="floor").clamp(min=1)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> list[Tensor]:
        """As :meth:`Backbone.forward`."""
        batch, samples = waveforms.shape
        count = -(-samples // self.piece)
        pieces = functional.pad(waveforms, (0, count * self.piece - samples)).view(batch, count, self.piece)
        begins = torch.arange(count, device=lengths.device) * self.piece
        spoken = begins < lengths.clamp(min=1)[:, None]  # (B, count)
        given = self.model(log_mel(pieces[spoken], self.filters), output_hidden_states=True)
        states = int(self.state_lengths(torch.tensor([samples])))

        def joined(heard: Tensor) -> Tensor:
            everywhere = heard.new_zeros(batch, count, *heard.shape[1:])
            everywhere[spoken] = heard
            return everywhere.flatten(1, 2)[:, :states]

        return [joined(each) for each in (*given.hidden_states[:-1], given.last_hidden_state)]

    @classmethod
    def pretrained(cls, source: str, configuration: Mapping[str, Any], **options: Any) -> tuple[nn.Module, list[str]]:
        """As :meth:`Backbone.pretrained`."""
        config = _library_configuration(configuration)
        model, report = transformers.WhisperModel.from_pretrained(
            source, config=config, output_loading_info=True, **options
        )
        missing = [name for name in report["missing_keys"] if name.startswith("encoder.")]
        return model.get_encoder(), sorted(missing)


BACKBONE = WhisperBackbone


def log_mel(waveforms: Tensor, filters: int) -> Tensor:
    """Whisper's features: (B, samples) -> (B, filters, samples / 160), within 2 of the largest, in units of 4 decades.

    Energies more than eight decades below the loudest of a piece are raised to there.
    """
    with torch.autocast(waveforms.device.type, enabled=False):
        window = torch.hann_window(_FFT, device=waveforms.device)
        spectrum = torch.stft(waveforms.float(), _FFT, _HOP, window=window, return_complex=True)[..., :-1]
        energies = _mel_filters(filters).to(waveforms.device) @ spectrum.abs().square()
        decades = energies.clamp(min=1e-10).log10()
        decades = torch.maximum(decades, decades.amax((1, 2), keepdim=True) - 8)
        return (decades + 4) / 4


@lru_cache
def _mel_filters(filters: int) -> Tensor:
    """(filters, 201), with the scale and the areas of Slaney's toolbox."""
    bank = mel_filter_bank(1 + _FFT // 2, filters, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(bank.T.copy()).float()


def _library_configuration(configuration: Mapping[str, Any]) -> Any:
    changes = {"encoder_layerdrop": 0.0, "apply_spec_augment": False}
    return library_configuration(transformers.WhisperConfig, configuration, **changes)
