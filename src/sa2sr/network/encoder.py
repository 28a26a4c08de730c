"""The speech encoder: stacked frames (B, T', D) to states (B, T', H)."""

from typing import Any

import torch
from torch import Tensor, nn

from sa2sr.config import EncoderSettings


class BiLstmEncoder(nn.Module):
    """Bidirectional LSTM layers that are fast on ragged batches.

    cuDNN is fastest on packed sequences. On a CPU these leave the fast path (about six times slower), so there each
    direction runs over the padded batch by itself, the backward one over sequences reversed within their lengths.
    Both paths use the same weights and agree to rounding. States past the end of an utterance are 0.
    """

    def __init__(self, dimension: int, settings: EncoderSettings) -> None:
        super().__init__()
        self.dimension = 2 * settings.units  # H
        self.dropout = settings.dropout
        self.layers = nn.ModuleList(
            nn.LSTM(dimension if layer == 0 else self.dimension, settings.units, batch_first=True, bidirectional=True)
            for layer in range(settings.layers)
        )

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Encode a batch.

        Args:
            frames: (B, T', D), padded at the end with anything
            lengths: (B,) stacked frames of each utterance, at least 1

        Returns:
            states: (B, T', H), 0 past the end
        """
        encode = self._packed if frames.is_cuda else self._padded
        return encode(frames, lengths)

    def _packed(self, frames: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(frames, lengths.cpu(), batch_first=True, enforce_sorted=False)
        for layer in self.layers:
            data, *order = layer(packed)[0]
            packed = nn.utils.rnn.PackedSequence(torch.dropout(data, self.dropout, self.training), *order)
        return nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, total_length=frames.shape[1])[0]

    def _padded(self, frames: Tensor, lengths: Tensor) -> Tensor:
        index = reversal(lengths, frames.shape[1])
        states, reversed_states = frames, reverse_within(frames, index)
        for layer in self.layers:
            ahead = _one_direction(layer, states, backward=False)
            behind = _one_direction(layer, reversed_states, backward=True)
            # Each direction is turned round once, half the features each: cheaper than turning their concatenation.
            states = torch.cat([ahead, reverse_within(behind, index)], -1)
            reversed_states = torch.cat([reverse_within(ahead, index), behind], -1)
            if self.dropout and self.training:
                kept = torch.empty_like(states).bernoulli_(1 - self.dropout).div_(1 - self.dropout)
                states, reversed_states = states * kept, reversed_states * reverse_within(kept, index)
        return states * valid_steps(lengths, frames.shape[1]).unsqueeze(-1)


def valid_steps(lengths: Tensor, steps: int) -> Tensor:
    """(B,) lengths to a (B, steps) mask that is true within them."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def reversal(lengths: Tensor, steps: int) -> Tensor:
    """Index (B, steps) that reverses each sequence within its length and leaves its padding in place."""
    ahead = torch.arange(steps, device=lengths.device)[None]
    return torch.where(ahead < lengths[:, None], lengths[:, None] - 1 - ahead, ahead)


def reverse_within(sequences: Tensor, index: Tensor) -> Tensor:
    """Apply :func:`reversal` to (B, T', D) sequences."""
    return _ReverseWithin.apply(sequences, index)  # type: ignore[no-any-return,no-untyped-call]


class _ReverseWithin(torch.autograd.Function):
    """A reversal is its own inverse, so its gradient is a reversal too, where autograd would add into zeros."""

    @staticmethod
    def forward(ctx: Any, sequences: Tensor, index: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(index)
        return _take_steps(sequences, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (index,) = ctx.saved_tensors
        return _take_steps(gradient, index), None


def _take_steps(sequences: Tensor, index: Tensor) -> Tensor:
    batch, steps, dimension = sequences.shape
    rows = index + torch.arange(batch, device=index.device)[:, None] * steps
    return sequences.reshape(batch * steps, dimension).index_select(0, rows.flatten()).view(batch, steps, dimension)


def _one_direction(layer: nn.LSTM, sequences: Tensor, *, backward: bool) -> Tensor:
    """One direction of a bidirectional layer: (B, T', D) -> (B, T', units)."""
    weights = layer._flat_weights[4:] if backward else layer._flat_weights[:4]
    zeros = sequences.new_zeros(1, sequences.shape[0], layer.hidden_size)
    return torch.lstm(sequences, (zeros, zeros), weights, True, 1, 0.0, layer.training, False, True)[0]
