"""How emotions are read from encoder states, whatever of them is predicted."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sa2sr.config import ReadoutSettings, TextSettings
from sa2sr.network.encoder import valid_steps
from sa2sr.network.objectives.base import Objective
from sa2sr.network.objectives.text import TextBranch


class Readout(Objective):
    """(B, T', H) -> (B, outputs): masked convolutions, transformer block, mean and variance over time, linear layer."""

    def __init__(
        self, dimension: int, settings: ReadoutSettings, outputs: int, text: TextSettings | None = None
    ) -> None:
        """Make it; with ``text`` it reads the transcript too, whose encoder fuses both before the linear layer.

        Of a ``dimension`` of 0 nothing is read but the transcript.
        """
        super().__init__()
        channels = settings.channels if dimension else 0
        self.input_dropout = settings.input_dropout
        self.negative_slope = settings.negative_slope
        if channels:
            self.convolutions = nn.ModuleList(
                MaskedConvolution(size, channels, kernel, stride)
                for size, kernel, stride in zip((dimension, channels), settings.kernels, settings.strides, strict=True)
            )
            self.transformer = nn.TransformerEncoderLayer(
                channels, settings.heads, dim_feedforward=channels, dropout=settings.dropout, batch_first=True
            )
        self.text = TextBranch(text, channels, settings.heads) if text is not None else None
        self.output = nn.Linear(self.text.dimension if self.text is not None else 2 * channels, outputs)

    def read(self, states: Tensor, lengths: Tensor, texts: Sequence[str | None] | None = None) -> Tensor:
        """(B, T', H) -> (B, outputs), in single precision.

        Args:
            states: that are read
            lengths: (B,)
            texts: what is said, for a readout that reads it; none is known by default
        """
        texts = texts if texts is not None else [None] * len(lengths)
        if self.text is not None and self.text.fusion is None:
            return self.output(self.text.alone(texts)).float()  # type: ignore[no-any-return]
        states = functional.dropout(states, self.input_dropout, self.training)
        for convolution in self.convolutions:
            states, lengths = convolution(states, lengths)
        valid = valid_steps(lengths, states.shape[1]).unsqueeze(-1)  # (B, T'', 1)
        states = functional.leaky_relu(normalise_samples(states.float(), valid), self.negative_slope)
        states = self.transformer(states, src_key_padding_mask=~valid.squeeze(-1)).float()
        voice = torch.cat(moments(states, valid, dim=(1,)), -1)
        if self.text is not None:
            voice = self.text(states, valid, voice, texts)
        return self.output(voice).float()  # type: ignore[no-any-return]


class MaskedConvolution(nn.Module):
    """A strided convolution over valid frames only: an output frame never sees padding.

    An utterance shorter than the kernel is continued with zeros, and gives one frame.
    """

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(inputs, channels, kernel, stride)

    def forward(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, C) and (B,) -> (B, T_out, channels), 0 past the end, and (B,) new lengths."""
        (kernel,), (stride,) = self.convolution.kernel_size, self.convolution.stride
        states = states.masked_fill(~valid_steps(lengths, states.shape[1]).unsqueeze(-1), 0)
        missing = max(0, kernel - states.shape[1])
        outputs = self.convolution(functional.pad(states.transpose(1, 2), (0, missing))).transpose(1, 2)
        lengths = torch.div(lengths - kernel, stride, rounding_mode="floor").clamp(min=0) + 1
        return outputs * valid_steps(lengths, outputs.shape[1]).unsqueeze(-1), lengths


def moments(states: Tensor, valid: Tensor, dim: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and variance (1/N) of (B, T, C) states over ``dim`` where ``valid`` (B, T, 1)."""
    count = valid.expand_as(states).sum(dim, keepdim=True)
    mean = (states * valid).sum(dim, keepdim=True) / count
    variance = ((states - mean) * valid).square().sum(dim, keepdim=True) / count
    return mean.squeeze(dim), variance.squeeze(dim)


def normalise_samples(states: Tensor, valid: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Mean 0 and variance 1 over the valid frames and channels of each utterance, 0 past its end: (B, T, C)."""
    mean, variance = moments(states, valid, dim=(1, 2))
    centred = (states - mean[:, None, None]) * valid
    return centred * torch.rsqrt(variance + epsilon)[:, None, None]
