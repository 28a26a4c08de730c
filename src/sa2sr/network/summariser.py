"""From the states of an utterance to one vector: (B, T', H) -> (B, units), padding left out."""

import torch
from torch import Tensor, nn

from sa2sr.network.encoder import valid_steps


class LastState(nn.Module):
    """One LSTM; the state after the last valid frame: (B, T', H) -> (B, units)."""

    def __init__(self, dimension: int, units: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dimension, units, batch_first=True)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """As the class says."""
        outputs = self.lstm(states)[0]
        last: Tensor = outputs[torch.arange(len(lengths), device=lengths.device), lengths - 1]
        return last


class AttentionPooling(nn.Module):
    """A learnt weighting of the valid frames, for corpora too small for a recurrent one: (B, T', H) -> (B, units)."""

    def __init__(self, dimension: int, units: int) -> None:
        super().__init__()
        self.values = nn.Linear(dimension, units)
        self.scores = nn.Linear(units, 1)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """As the class says."""
        values = torch.tanh(self.values(states))  # (B, T', units)
        scores = self.scores(values).float()
        scores = scores.masked_fill(~valid_steps(lengths, states.shape[1]).unsqueeze(-1), float("-inf"))
        pooled: Tensor = (scores.softmax(1) * values).sum(1)
        return pooled


SUMMARISERS: dict[str, type[LastState] | type[AttentionPooling]] = {"lstm": LastState, "attention": AttentionPooling}
