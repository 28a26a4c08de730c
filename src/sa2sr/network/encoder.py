"""The speech encoder: stacked frames (B, T', D) to states (B, T', H)."""

from typing import Any

import torch
from torch import Tensor, nn

from sa2sr.config import EncoderSettings


class LstmEncoder(nn.Module):
    """LSTM layers, in both directions or forward alone, that are fast on ragged batches.

    cuDNN is fastest on packed sequences. On a CPU these leave the fast path (about six times slower), so there each
    direction runs over the padded batch by itself, the backward one over sequences reversed within their lengths.
    Both paths use the same weights and agree to rounding. States past the end of an utterance are 0.

    Forward alone a state depends on the frames up to its own, and H is ``units`` instead of twice as many.
    """

    def __init__(self, dimension: int, settings: EncoderSettings) -> None:
        super().__init__()
        self.both = settings.direction == "both"
        self.dimension = (1 + self.both) * settings.units  # H
        self.dropout = settings.dropout
        self.layers = nn.ModuleList(
            nn.LSTM(
                dimension if layer == 0 else self.dimension, settings.units, batch_first=True, bidirectional=self.both
            )
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
        for number, layer in enumerate(self.layers):
            if number:
                packed = packed._replace(data=torch.dropout(packed.data, self.dropout, self.training))
            packed = layer(packed)[0]
        return nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, total_length=frames.shape[1])[0]

    def _padded(self, frames: Tensor, lengths: Tensor) -> Tensor:
        sequences = frames.transpose(0, 1)  # (T', B, ...), as the kernel wants them
        states = self._both_directions(sequences, lengths) if self.both else self._forward_alone(sequences)
        return states.transpose(0, 1) * valid_steps(lengths, frames.shape[1]).unsqueeze(-1)

    def _both_directions(self, ahead: Tensor, lengths: Tensor) -> Tensor:
        index = reversal(lengths, len(ahead))
        behind = reverse_within(ahead, index)
        for number, layer in enumerate(self.layers):
            if number:
                # Each direction is turned round once, half the features each: cheaper than turning both together.
                reversed_ahead, reversed_behind = reverse_within(ahead, index), reverse_within(behind, index)
                ahead, behind = torch.cat([ahead, reversed_behind], -1), torch.cat([reversed_ahead, behind], -1)
                if self.dropout and self.training:
                    kept = torch.empty_like(ahead).bernoulli_(1 - self.dropout).div_(1 - self.dropout)
                    ahead, behind = ahead * kept, behind * reverse_within(kept, index)
            ahead = _one_direction(layer, ahead, "")
            behind = _one_direction(layer, behind, "_reverse")
        return torch.cat([ahead, reverse_within(behind, index)], -1)

    def _forward_alone(self, states: Tensor) -> Tensor:
        """Padding is at the end, where it reaches no state before it."""
        for number, layer in enumerate(self.layers):
            if number:
                states = torch.dropout(states, self.dropout, self.training)
            states = _one_direction(layer, states, "")
        return states


def valid_steps(lengths: Tensor, steps: int) -> Tensor:
    """(B,) lengths to a (B, steps) mask that is true within them."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def reversal(lengths: Tensor, steps: int) -> Tensor:
    """Which rows of (steps * B, D) turn each of B sequences round within its length and leave its padding in place."""
    step = torch.arange(steps, device=lengths.device)[:, None]
    sources = torch.where(step < lengths, lengths - 1 - step, step)  # (steps, B)
    return (sources * len(lengths) + torch.arange(len(lengths), device=lengths.device)).flatten()


def reverse_within(sequences: Tensor, index: Tensor) -> Tensor:
    """Apply :func:`reversal` to (T', B, D) sequences."""
    reversed_: Tensor = _ReverseWithin.apply(sequences, index)  # type: ignore[no-untyped-call]
    return reversed_


class _ReverseWithin(torch.autograd.Function):
    """A reversal is its own inverse, so its gradient is a reversal too, where autograd would add into zeros."""

    @staticmethod
    def forward(ctx: Any, sequences: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return sequences.flatten(0, 1).index_select(0, index).view(sequences.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return gradient.flatten(0, 1).index_select(0, index).view(gradient.shape), None


def _one_direction(layer: nn.Module, sequences: Tensor, suffix: str) -> Tensor:
    """One direction of an LSTM layer: (T', B, D) -> (T', B, units)."""
    weights = [getattr(layer, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    zeros = sequences.new_zeros(1, sequences.shape[1], weights[1].shape[1])
    return torch.lstm(sequences, (zeros, zeros), weights, True, 1, 0.0, layer.training, False, False)[0]
