"""The conformer (Gulati et al., 2020) over stacked frames: attention to the whole utterance, convolution nearby.

Two things differ from the paper, so that an utterance has the same states in any company: layers are normalised, not
batches, and positions enter as rotations of queries and keys (Su et al., 2021), which know distances alone.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sa2sr.config import EncoderSettings
from sa2sr.network.encoder import valid_steps

_EXPANSION = 4  # of the feed-forward layers
_BASE = 10_000.0  # the slowest rotation turns once in about this many steps


class ConformerEncoder(nn.Module):
    """(B, T', D) -> (B, T', H) with H = ``units``."""

    def __init__(self, dimension: int, settings: EncoderSettings) -> None:
        super().__init__()
        self.dimension = settings.units  # H
        self.input = nn.Linear(dimension, self.dimension)
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(_Block(settings) for _ in range(settings.layers))

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """As :meth:`sa2sr.network.encoder.LstmEncoder.forward`."""
        valid = valid_steps(lengths, frames.shape[1])  # (B, T')
        states = self.dropout(self.input(frames.masked_fill(~valid.unsqueeze(-1), 0)))
        for layer in self.layers:
            states = layer(states, valid)
        return states * valid.unsqueeze(-1)  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Half a feed-forward layer, attention, convolution, half a feed-forward layer; each is added to what it reads."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.before = _feed_forward(settings)
        self.attention = _Attention(settings)
        self.convolution = _Convolution(settings)
        self.after = _feed_forward(settings)
        self.norm = nn.LayerNorm(settings.units)

    def forward(self, states: Tensor, valid: Tensor) -> Tensor:
        states = states + 0.5 * self.before(states)
        states = states + self.attention(states, valid)
        states = states + self.convolution(states, valid)
        states = states + 0.5 * self.after(states)
        return self.norm(states)  # type: ignore[no-any-return]


def _feed_forward(settings: EncoderSettings) -> nn.Sequential:
    units = settings.units
    return nn.Sequential(
        nn.LayerNorm(units),
        nn.Linear(units, _EXPANSION * units),
        nn.SiLU(),
        nn.Dropout(settings.dropout),
        nn.Linear(_EXPANSION * units, units),
        nn.Dropout(settings.dropout),
    )


class _Attention(nn.Module):
    """Self-attention of several heads to the valid steps."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.heads = settings.heads
        self.norm = nn.LayerNorm(settings.units)
        self.projections = nn.Linear(settings.units, 3 * settings.units)
        self.output = nn.Linear(settings.units, settings.units)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, states: Tensor, valid: Tensor) -> Tensor:
        projected = self.projections(self.norm(states)).unflatten(-1, (3, self.heads, -1))  # (B, T', 3, heads, width)
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)  # (B, heads, T', width) each
        queries, keys = rotate(queries), rotate(keys)
        attended = functional.scaled_dot_product_attention(queries, keys, values, valid[:, None, None])
        return self.dropout(self.output(attended.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


class _Convolution(nn.Module):
    """A gate, a convolution of each channel over nearby steps, and a mix of the channels."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        units, kernel = settings.units, settings.kernel
        self.norm = nn.LayerNorm(units)
        self.gated = nn.Linear(units, 2 * units)
        self.nearby = nn.Conv1d(units, units, kernel, padding=kernel // 2, groups=units)
        self.inner_norm = nn.LayerNorm(units)
        self.output = nn.Linear(units, units)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, states: Tensor, valid: Tensor) -> Tensor:
        gated = functional.glu(self.gated(self.norm(states)))
        # Past the end is silence, whatever the padding has become on the way.
        nearby = self.nearby(gated.masked_fill(~valid.unsqueeze(-1), 0).transpose(1, 2)).transpose(1, 2)
        return self.dropout(self.output(functional.silu(self.inner_norm(nearby))))  # type: ignore[no-any-return]


def rotate(vectors: Tensor) -> Tensor:
    """Turn the pairs of features of (..., T', width) by angles that grow with time, each pair at a speed of its own.

    The inner product of a turned query and a turned key depends on the two and on how far apart they are.
    """
    half = vectors.shape[-1] // 2
    speeds = _BASE ** -(torch.arange(half, device=vectors.device) / half)
    angles = torch.arange(vectors.shape[-2], device=vectors.device)[:, None] * speeds  # (T', half)
    first, second = vectors.float().chunk(2, -1)
    turned = torch.cat([first * angles.cos() - second * angles.sin(), first * angles.sin() + second * angles.cos()], -1)
    return turned.to(vectors.dtype)
