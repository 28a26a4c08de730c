"""Which utterances are trained on together, and the tensors that they become.

Everything random is a function of the seed, the epoch and the item, never of what was drawn before. A training can
therefore begin at any batch of any epoch and see what it would have seen, whatever the number of workers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sa2sr.audio import change_speed
from sa2sr.config import Augmentation, Batches, FrontEnd
from sa2sr.cuts import load_waveform
from sa2sr.errors import AudioError
from sa2sr.speech.augmentation import mask, mask_waveform
from sa2sr.speech.conditions import rerecord
from sa2sr.speech.features import extract, stack
from sa2sr.speech.utterances import Utterance

NO_AUGMENTATION = Augmentation(speeds=(1.0,), probability=0.0)

FrameSource = Callable[[int, float], NDArray[np.floating]]  # (position of an utterance, speed) -> (T, filters)


@dataclass(frozen=True)
class Batch:
    """B utterances. Labels that are not known are None or NaN; so are all of an utterance that cannot be read."""

    names: list[str]
    frames: Tensor  # (B, T', D) float32, 0 past the end; (B, samples, 1) of waveforms
    lengths: Tensor  # (B,) stacked frames, or samples
    texts: list[str | None]
    sentiment: Tensor  # (B, 3) probabilities
    ratings: Tensor  # (B, 3) activation, valence, dominance
    seconds: float  # of speech, padding not counted
    failures: dict[int, str] = field(default_factory=dict)  # row -> why its audio cannot be read
    corpora: Tensor | None = None  # (B,) their numbers; None: all are of one
    speakers: list[str | None] | None = None  # None: of none it is known
    categories: list[str | None] | None = None  # likewise

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("frames", "lengths", "sentiment", "ratings")}
        corpora = None if self.corpora is None else self.corpora.to(device)
        return replace(self, corpora=corpora, **moved)


@dataclass(frozen=True)
class Item:
    """One utterance at one speed in one epoch."""

    epoch: int
    index: int  # of the utterance
    speed: float
    blank: bool = False  # neither frames nor labels: what a process gets that has no share of a small batch
    copy: int = 0  # of an utterance that an epoch has several times; each is masked in another way


class BatchPlan:
    """The batches of every epoch: utterances of similar duration, in random order, the same for the same seed."""

    def __init__(
        self,
        seconds: Sequence[float],
        batches: Batches,
        augmentation: Augmentation,
        seed: int,
        corpora: Sequence[int] | None = None,
    ) -> None:
        """Plan.

        Args:
            seconds: of each utterance
            batches: their limits, and how far the corpora are balanced
            augmentation: for the speeds
            seed: of all that is random
            corpora: the number of each utterance's corpus; by default all are of one
        """
        self.seconds = np.asarray(seconds, float)
        self.corpora = np.asarray(corpora if corpora is not None else np.zeros(len(self.seconds)), int)
        self.batches = batches
        self.augmentation = augmentation
        self.seed = seed

    def epoch(self, epoch: int) -> list[list[Item]]:
        """The batches of epoch 0, 1, ..."""
        random = np.random.default_rng([self.seed, epoch])
        speeds = np.array(self.augmentation.speeds)
        index, copy = self._drawn(random)
        if self.augmentation.every_speed:
            speed = np.tile(speeds, len(index))
            index, copy = (np.repeat(each, len(speeds)) for each in (index, copy))
        else:
            speed = random.choice(speeds, len(index))
        durations = self.seconds[index] / speed
        # A little noise in the order changes the company of an utterance from epoch to epoch, at little padding.
        order = np.argsort(durations * random.uniform(0.95, 1.05, len(durations)), kind="stable")
        groups = _pack(durations[order], self.batches)
        if epoch >= self.batches.sorted_epochs:
            groups = [groups[i] for i in random.permutation(len(groups))]
        return [
            [Item(epoch, int(index[i]), float(speed[i]), copy=int(copy[i])) for i in order[group]] for group in groups
        ]

    def _drawn(self, random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The utterances of an epoch and the numbers of their copies, about as many in all as there are.

        With a balance b a corpus of n utterances has a share in proportion to n^(1 - b). Whole copies go to all of its
        utterances, and what remains to some that are drawn.
        """
        numbers, sizes = np.unique(self.corpora, return_counts=True)
        shares = sizes ** (1 - self.batches.balance)
        wanted = np.rint(len(self.seconds) * shares / shares.sum()).astype(int).clip(1)
        copies = np.zeros(len(self.seconds), int)
        for number, whole, rest in zip(numbers, *np.divmod(wanted, sizes), strict=True):
            own = np.flatnonzero(self.corpora == number)
            copies[own] = whole
            if rest:
                copies[random.choice(own, rest, replace=False)] += 1
        index = np.repeat(np.arange(len(copies)), copies)
        return index, np.arange(len(index)) - np.repeat(copies.cumsum() - copies, copies)


def share(batch: Sequence[Item], rank: int, processes: int) -> list[Item]:
    """What one of several processes gets of a batch, at least one item, for all must take part in a step."""
    return list(batch[rank::processes]) or [replace(batch[0], blank=True)]


def _pack(durations: NDArray[np.float64], settings: Batches) -> list[slice]:
    """Cut a sequence of roughly increasing durations into batches within the limits."""

    def fits(size: int, longest: float) -> bool:
        return size == 1 or (size <= settings.utterances and longest * size <= settings.seconds)

    groups: list[slice] = []
    start, longest = 0, 0.0
    for end, duration in enumerate(durations.tolist()):
        if not fits(end + 1 - start, max(longest, duration)):
            groups.append(slice(start, end))
            start, longest = end, 0.0
        longest = max(longest, duration)
    if start < len(durations):
        groups.append(slice(start, len(durations)))
    # A last batch of a few utterances would be noise: share the last two evenly, where that keeps the limits.
    if len(groups) > 1 and groups[-1].stop - groups[-1].start < (groups[-2].stop - groups[-2].start) // 2:
        first, last = groups[-2].start, groups[-1].stop
        middle = (first + last) // 2
        if fits(last - middle, durations[middle:].max()):
            groups[-2:] = [slice(first, middle), slice(middle, last)]
    return groups


class SpeechDataset(Dataset[tuple[Utterance, NDArray[np.float32], str | None]]):
    """Items to stacked, augmented frames."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        frontend: FrontEnd,
        augmentation: Augmentation = NO_AUGMENTATION,
        *,
        source: FrameSource | None = None,
        seed: int = 0,
    ) -> None:
        """Frames come from ``source`` (a feature store), or are computed from the audio when it is None."""
        self.utterances = utterances
        self.frontend = frontend
        self.augmentation = augmentation
        self.source = source
        self.seed = seed

    def __getitem__(self, item: Item) -> tuple[Utterance, NDArray[np.float32], str | None]:
        """The utterance, its frames (T', D) and, where the audio cannot be read, why."""
        utterance = self.utterances[item.index]
        if item.blank:
            return self._without_speech(utterance, None)
        state = [self.seed, item.epoch, item.index, round(item.speed * 1000)]
        random = np.random.default_rng(state + [item.copy] * (item.copy > 0))
        try:
            frames = self._frames(utterance, item, random)
        except AudioError as error:
            return self._without_speech(utterance, str(error))
        if self.augmentation.probability:
            if self.frontend.kind == "waveform":
                frames = mask_waveform(frames, self.augmentation, self.frontend.step_samples, random)
            else:
                frames = mask(frames, self.augmentation, random)
        return utterance, stack(frames, self.frontend.stack), None

    def _without_speech(
        self, utterance: Utterance, reason: str | None
    ) -> tuple[Utterance, NDArray[np.float32], str | None]:
        """The batch keeps its size; without labels the utterance takes part in no loss."""
        return Utterance(utterance.name, utterance.cut, 0.0), np.zeros((1, self.frontend.dimension), np.float32), reason

    def _frames(self, utterance: Utterance, item: Item, random: np.random.Generator) -> NDArray[np.float32]:
        rerecorded = self.augmentation.recording and random.random() < self.augmentation.recording
        if self.source is not None and not rerecorded:
            return self.source(item.index, item.speed).astype(np.float32)
        rate = self.frontend.sampling_rate
        waveform = change_speed(load_waveform(utterance.cut, rate), item.speed)
        return extract(rerecord(waveform, rate, random) if rerecorded else waveform, self.frontend)


def collate(items: Sequence[tuple[Utterance, NDArray[np.float32], str | None]]) -> Batch:
    """Pad to one batch."""
    utterances = [utterance for utterance, _, _ in items]
    lengths = [len(frames) for _, frames, _ in items]
    padded = torch.zeros(len(items), max(lengths), items[0][1].shape[1])
    for row, (_, frames, _) in zip(padded, items, strict=True):
        row[: len(frames)] = torch.from_numpy(frames)
    unknown = (float("nan"),) * 3
    return Batch(
        names=[u.name for u in utterances],
        frames=padded,
        lengths=torch.tensor(lengths),
        texts=[u.text for u in utterances],
        sentiment=torch.tensor([u.sentiment or unknown for u in utterances]),
        ratings=torch.tensor([u.ratings for u in utterances]),
        seconds=sum(u.seconds for u in utterances),
        failures={row: reason for row, (_, _, reason) in enumerate(items) if reason},
        corpora=torch.tensor([u.corpus.number for u in utterances]),
        speakers=[u.speaker for u in utterances],
        categories=[u.category for u in utterances],
    )


class BatchLoader:
    """Loads batches in order, with worker processes if asked to, which live as long as the loader."""

    def __init__(self, dataset: SpeechDataset, workers: int = 0) -> None:
        self._wanted: list[Sequence[Item]] = []
        self._loader = DataLoader(
            dataset,
            batch_sampler=self._wanted,  # type: ignore[arg-type]
            collate_fn=collate,
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            prefetch_factor=4 if workers else None,
            persistent_workers=workers > 0,
        )

    def __call__(self, batches: Sequence[Sequence[Item]]) -> Iterator[Batch]:
        """Load these; what an earlier call has not yielded is dropped."""
        self._wanted[:] = batches
        return iter(self._loader)


def plain_batches(seconds: Sequence[float], settings: Batches) -> list[list[Item]]:
    """Every utterance once at its own speed, sorted by duration: for evaluation."""
    order = np.argsort(np.asarray(seconds), kind="stable")
    groups = _pack(np.asarray(seconds, float)[order], settings)
    return [[Item(0, int(i), 1.0) for i in order[group]] for group in groups]
