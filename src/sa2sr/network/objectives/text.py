"""Words beside the voice: a small encoder of transcripts, and ways to fuse it with states of speech."""

import zlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sa2sr.config import ALPHABET, EncoderSettings, TextSettings
from sa2sr.network.encoder import LstmEncoder, valid_steps

_CHARACTERS = {character: number for number, character in enumerate(ALPHABET, start=1)}
_MOST_TOKENS = 2_000  # of a text that are read


class TextBranch(nn.Module):
    """A BiLSTM over the words or characters of a transcript, fused with the voice: (B, ``dimension``).

    Words have embeddings by their hash, so that there is no vocabulary; words that share one are told apart by their
    company alone. A text that is not known, or empty, is one token of its own.
    """

    def __init__(self, settings: TextSettings, channels: int, heads: int) -> None:
        """Make it; without ``channels`` of the voice it gives the mean over the words."""
        super().__init__()
        self.settings = settings
        tokens = len(ALPHABET) if settings.unit == "character" else settings.buckets
        self.embedding = nn.Embedding(1 + tokens, settings.size)
        self.dropout = nn.Dropout(settings.dropout)
        self.encoder = LstmEncoder(settings.size, EncoderSettings(layers=1, units=settings.units))
        self.fusion = FUSIONS[settings.fusion](channels, self.encoder.dimension, heads) if channels else None
        self.dimension = self.fusion.dimension if self.fusion is not None else self.encoder.dimension

    def forward(self, states: Tensor, valid: Tensor, voice: Tensor, texts: Sequence[str | None]) -> Tensor:
        """Fuse.

        Args:
            states: of speech, (B, T, C)
            valid: (B, T, 1), within the utterances
            voice: what is known of the voice, (B, 2 C)
            texts: B of them, in the alphabet of the recogniser; None where unknown
        """
        assert self.fusion is not None
        fused: Tensor = self.fusion(states, valid, voice, *self._words(texts))
        return fused

    def alone(self, texts: Sequence[str | None]) -> Tensor:
        """The mean over the words of B texts, whatever the voice: (B, 2 U)."""
        return mean_where(*self._words(texts))

    def _words(self, texts: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        """Encoded tokens (B, L, 2 U), and which of them are said (B, L, 1)."""
        device = self.embedding.weight.device
        numbers = [self._numbers(text or "") for text in texts]
        lengths = torch.tensor([len(each) for each in numbers], device=device)
        tokens = nn.utils.rnn.pad_sequence([torch.tensor(each) for each in numbers], batch_first=True)
        words = self.encoder(self.dropout(self.embedding(tokens.to(device))), lengths).float()
        return self.dropout(words), valid_steps(lengths, words.shape[1]).unsqueeze(-1)

    def _numbers(self, text: str) -> list[int]:
        if self.settings.unit == "character":
            numbers = [_CHARACTERS[character] for character in text if character in _CHARACTERS]
        else:
            numbers = [1 + zlib.crc32(word.encode()) % self.settings.buckets for word in text.split()]
        return numbers[:_MOST_TOKENS] or [0]


class Concatenation(nn.Module):
    """The voice, and the mean over the words."""

    def __init__(self, channels: int, size: int, heads: int) -> None:
        super().__init__()
        self.dimension = 2 * channels + size

    def forward(self, states: Tensor, valid: Tensor, voice: Tensor, words: Tensor, said: Tensor) -> Tensor:
        """(B, 2 C) and (B, L, S) -> (B, 2 C + S)."""
        return torch.cat([voice, mean_where(words, said)], -1)


class Gate(nn.Module):
    """Each feature is of the voice or of the words, or in between, as both say (Arevalo et al., 2017)."""

    def __init__(self, channels: int, size: int, heads: int) -> None:
        super().__init__()
        self.dimension = 2 * channels
        self.voice, self.words = nn.Linear(2 * channels, 2 * channels), nn.Linear(size, 2 * channels)
        self.gate = nn.Linear(2 * channels + size, 2 * channels)

    def forward(self, states: Tensor, valid: Tensor, voice: Tensor, words: Tensor, said: Tensor) -> Tensor:
        """(B, 2 C) and (B, L, S) -> (B, 2 C)."""
        mean = mean_where(words, said)
        gate = self.gate(torch.cat([voice, mean], -1)).sigmoid()
        fused: Tensor = gate * self.voice(voice).tanh() + (1 - gate) * self.words(mean).tanh()
        return fused


class Attention(nn.Module):
    """Each word finds its speech by attention over the utterance; then the mean over the words."""

    def __init__(self, channels: int, size: int, heads: int) -> None:
        super().__init__()
        self.dimension = 3 * channels + size
        self.query = nn.Linear(size, channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, states: Tensor, valid: Tensor, voice: Tensor, words: Tensor, said: Tensor) -> Tensor:
        """(B, T, C), (B, 2 C) and (B, L, S) -> (B, 3 C + S)."""
        found, _ = self.attention(
            self.query(words), states, states, key_padding_mask=~valid.squeeze(-1), need_weights=False
        )
        return torch.cat([voice, mean_where(torch.cat([found.float(), words], -1), said)], -1)


FUSIONS: dict[str, Callable[[int, int, int], Concatenation | Gate | Attention]] = {
    "concatenation": Concatenation,
    "gate": Gate,
    "attention": Attention,
}


def mean_where(words: Tensor, said: Tensor) -> Tensor:
    """Mean of (B, L, S) over the tokens that are said, (B, L, 1): (B, S)."""
    return (words * said).sum(1) / said.sum(1)
