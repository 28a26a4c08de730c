"""Batches: every item once, within the limits, the same from any beginning and with any number of workers."""

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sa2sr.audio import change_speed, probe
from sa2sr.config import Augmentation, Batches, FrontEnd, Scale
from sa2sr.cuts import load_waveform, make_cut
from sa2sr.speech.batches import (
    NO_AUGMENTATION,
    Batch,
    BatchLoader,
    BatchPlan,
    Item,
    SpeechDataset,
    collate,
    plain_batches,
    share,
)
from sa2sr.speech.features import extract, frame_count, stack
from sa2sr.speech.utterances import Utterance

FRONTEND = FrontEnd()
TRIPLED = Augmentation()
ONE_SPEED = Augmentation(speeds=(0.9, 1.0, 1.1), every_speed=False)
DURATIONS = st.lists(st.floats(0.1, 35), max_size=80)
LIMITS = st.builds(Batches, seconds=st.floats(0.5, 100), utterances=st.integers(1, 20), sorted_epochs=st.integers(0, 2))


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory, voice: Callable[..., NDArray[np.float32]]) -> list[Utterance]:
    """Eight utterances of 0.2 to 0.9 s with all labels; the audio of the last is missing."""
    folder = tmp_path_factory.mktemp("audio")
    found = []
    for number in range(8):
        path = folder / f"{number}.flac"
        soundfile.write(path, voice(0.2 + 0.1 * number, number), 16_000)
        cut = make_cut(f"u{number}", path, probe(path))
        sentiment = tuple(float(number % 3 == label) for label in range(3))
        found.append(
            Utterance(cut.id, cut, cut.duration, f"text {'ab'[number % 2]}", sentiment, (1.0, number, math.nan))
        )
    path.unlink()
    return found


def same(one: Batch, two: Batch) -> bool:
    tensors = ("frames", "lengths", "sentiment", "ratings")
    return (one.names, one.texts, one.seconds, one.failures) == (
        two.names,
        two.texts,
        two.seconds,
        two.failures,
    ) and all(torch.equal(getattr(one, t).nan_to_num(99), getattr(two, t).nan_to_num(99)) for t in tensors)


def check_limits(batches: Sequence[Sequence[Item]], durations: Sequence[float], limits: Batches) -> None:
    for batch in batches:
        longest = max(durations[item.index] / item.speed for item in batch)
        assert batch
        assert len(batch) == 1 or (len(batch) <= limits.utterances and len(batch) * longest <= limits.seconds)


@given(durations=DURATIONS, limits=LIMITS, seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 5))
@example(durations=[1.0] * 9, limits=Batches(utterances=4), seed=0, epoch=0)  # the last two are shared: 4, 3, 2
@settings(deadline=None)
def test_an_epoch_has_every_utterance_at_every_speed_once(
    durations: list[float], limits: Batches, seed: int, epoch: int
) -> None:
    batches = BatchPlan(durations, limits, TRIPLED, seed).epoch(epoch)
    items = Counter(item for batch in batches for item in batch)
    assert items == Counter(Item(epoch, i, s) for i in range(len(durations)) for s in (0.9, 1.0, 1.1))
    check_limits(batches, durations, limits)


@given(durations=DURATIONS, limits=LIMITS, seed=st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_without_tripling_every_utterance_comes_once_at_some_speed(
    durations: list[float], limits: Batches, seed: int
) -> None:
    batches = BatchPlan(durations, limits, ONE_SPEED, seed).epoch(0)
    assert sorted(item.index for batch in batches for item in batch) == list(range(len(durations)))
    assert {item.speed for batch in batches for item in batch} <= {0.9, 1.0, 1.1}
    check_limits(batches, durations, limits)


def test_a_drawn_speed_is_any_of_them() -> None:
    items = [item for batch in BatchPlan([1.0] * 3_000, Batches(), ONE_SPEED, 0).epoch(0) for item in batch]
    counts = Counter(item.speed for item in items)
    assert len(counts) == 3
    assert all(abs(count - 1_000) < 5 * math.sqrt(3_000 * 2 / 9) for count in counts.values())


@given(durations=DURATIONS, limits=LIMITS, seed=st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_epochs_depend_on_the_seed_alone_not_on_those_before(
    durations: list[float], limits: Batches, seed: int
) -> None:
    plan = BatchPlan(durations, limits, TRIPLED, seed)
    in_order = [plan.epoch(epoch) for epoch in range(3)]
    assert BatchPlan(durations, limits, TRIPLED, seed).epoch(2) == in_order[2]
    assert plan.epoch(0) == in_order[0]


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    balance=st.floats(0, 1),
    augmentation=st.sampled_from([TRIPLED, ONE_SPEED]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_a_balanced_epoch_has_of_each_corpus_in_proportion_to_its_size_to_a_power(
    sizes: list[int], balance: float, augmentation: Augmentation, seed: int
) -> None:
    corpora = [number for number, size in enumerate(sizes) for _ in range(size)]
    random.Random(seed).shuffle(corpora)
    plan = BatchPlan([1.0] * len(corpora), Batches(balance=balance), augmentation, seed, corpora)
    epoch = plan.epoch(1)
    assert epoch == plan.epoch(1)
    items = [item for batch in epoch for item in batch]
    times = 3 if augmentation is TRIPLED else 1
    shares = [size ** (1 - balance) for size in sizes]
    for number, (size, share_) in enumerate(zip(sizes, shares, strict=True)):
        own = Counter(item.index for item in items if corpora[item.index] == number)
        wanted = max(1, len(corpora) * share_ / sum(shares))
        assert abs(own.total() / times - wanted) <= 0.5 + 1e-9
        # As evenly as can be: each utterance as often as the others, or once more.
        counts = [own[index] for index in range(len(corpora)) if corpora[index] == number]
        assert len(counts) == size
        assert max(counts) - min(counts) <= times
    # Every item of an epoch is another one, so that copies are masked differently.
    assert len({(item.index, item.speed, item.copy) for item in items}) == len(items) or augmentation is ONE_SPEED
    assert len({(item.index, item.copy) for item in items}) == len(items) / times


def test_without_balance_an_epoch_is_what_it_is_without_corpora() -> None:
    durations, corpora = [1.0, 2.0, 3.0] * 7, [0, 1, 1] * 7
    for augmentation in (TRIPLED, ONE_SPEED):
        plan = BatchPlan(durations, Batches(), augmentation, 5, corpora)
        assert plan.epoch(3) == BatchPlan(durations, Batches(), augmentation, 5).epoch(3)


def test_large_corpora_are_heard_out_over_the_epochs() -> None:
    plan = BatchPlan([1.0] * 110, Batches(balance=1), NO_AUGMENTATION, 0, [0] * 10 + [1] * 100)
    heard = [{item.index for batch in plan.epoch(epoch) for item in batch} for epoch in range(12)]
    assert all(len(each & set(range(10, 110))) == 55 for each in heard)
    assert set.union(*heard) == set(range(110))


def test_copies_are_masked_in_other_ways(utterances: list[Utterance]) -> None:
    dataset = SpeechDataset(utterances, FRONTEND, Augmentation(probability=1), seed=3)
    frames = [dataset[Item(0, 6, 1.0, copy=copy)][1] for copy in range(3)]
    assert len({each.tobytes() for each in frames}) == 3
    np.testing.assert_array_equal(frames[0], dataset[Item(0, 6, 1.0)][1])


def test_epochs_and_seeds_differ() -> None:
    durations = np.random.default_rng(0).uniform(1, 10, 200).tolist()
    plans = [
        tuple(
            tuple(item.index for item in batch) for batch in BatchPlan(durations, Batches(), TRIPLED, seed).epoch(epoch)
        )
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert len(set(plans)) == 3
    # Not the order of the batches alone changes, but also who is with whom.
    assert len({frozenset(map(frozenset, plan)) for plan in plans}) == 3


def test_batches_hold_similar_durations_and_come_in_random_order() -> None:
    durations = np.random.default_rng(0).gamma(3, 3, 2_000).clip(1, 35)
    batches = BatchPlan(durations.tolist(), Batches(), NO_AUGMENTATION, 0).epoch(0)
    longest = [max(durations[item.index] for item in batch) for batch in batches]
    padded = sum(long * len(batch) for long, batch in zip(longest, batches, strict=True))
    assert padded < 1.1 * durations.sum()
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.3


def test_the_first_epochs_may_go_from_short_to_long() -> None:
    durations = np.random.default_rng(0).uniform(1, 20, 500)
    plan = BatchPlan(durations.tolist(), Batches(sorted_epochs=1), NO_AUGMENTATION, 0)
    means = [[np.mean([durations[item.index] for item in batch]) for batch in plan.epoch(epoch)] for epoch in (0, 1)]
    assert means[0] == sorted(means[0])
    assert means[1] != sorted(means[1])


def test_the_last_batch_is_not_much_smaller_than_the_others() -> None:
    sizes = [len(batch) for batch in plain_batches([1.0] * 65, Batches(utterances=32))]
    assert sizes == [32, 16, 17]


@given(durations=DURATIONS, limits=LIMITS)
@example(durations=[1.0] * 10 + [5.0], limits=Batches(seconds=10))  # the last two must not be shared: 6 x 5 s
@settings(deadline=None)
def test_evaluation_has_every_utterance_once_as_it_is(durations: list[float], limits: Batches) -> None:
    batches = plain_batches(durations, limits)
    items = [item for batch in batches for item in batch]
    assert sorted(items, key=lambda item: item.index) == [Item(0, i, 1.0) for i in range(len(durations))]
    assert [durations[item.index] for item in items] == sorted(durations)
    check_limits(batches, durations, limits)


@given(size=st.integers(1, 20), processes=st.integers(1, 8))
@settings(deadline=None)
def test_processes_share_a_batch_completely_and_evenly(size: int, processes: int) -> None:
    batch = [Item(0, index, 1.0) for index in range(size)]
    shares = [share(batch, rank, processes) for rank in range(processes)]
    assert sorted(item.index for part in shares for item in part if not item.blank) == list(range(size))
    assert all(len(part) >= 1 for part in shares)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(len(part) == 1 for part in shares if any(item.blank for item in part))


def test_frames_of_an_item(utterances: list[Utterance]) -> None:
    dataset = SpeechDataset(utterances, FRONTEND)
    for index, utterance in enumerate(utterances[:-1]):
        _, frames, failure = dataset[Item(0, index, 1.0)]
        waveform = soundfile.read(utterance.cut.recording.sources[0].source, dtype="float32")[0]
        np.testing.assert_array_equal(frames, stack(extract(waveform, FRONTEND), 3))
        assert failure is None


def test_waveforms_in_place_of_frames(utterances: list[Utterance]) -> None:
    frontend = FrontEnd(kind="waveform", step_ms=20, stack=1)
    waveform = load_waveform(utterances[2].cut, frontend.sampling_rate)
    plain = SpeechDataset(utterances, frontend)[Item(0, 2, 1.0)][1]
    assert np.array_equal(plain, waveform[:, None])
    faster = SpeechDataset(utterances, frontend)[Item(0, 2, 1.25)][1]
    assert np.array_equal(faster, change_speed(waveform, 1.25)[:, None])
    masks = Augmentation(speeds=(1.0,), probability=1.0, time_width=5, time_fraction=1.0)
    masked = SpeechDataset(utterances, frontend, masks)[Item(0, 2, 1.0)][1]
    silent = (masked == 0) & (plain != 0)
    assert 0 < silent.sum() <= masks.time_masks * 5 * 320
    assert np.array_equal(masked[~silent], plain[~silent])
    batch = collate([SpeechDataset(utterances, frontend)[Item(0, n, 1.0)] for n in (1, 2)])
    assert batch.frames.shape == (2, int(batch.lengths.max()), 1)
    assert int(batch.lengths[1]) == len(waveform)
    assert not batch.frames[1, len(waveform) :].any()


def test_speed_changes_the_duration(utterances: list[Utterance]) -> None:
    dataset = SpeechDataset(utterances, FRONTEND)
    for index, utterance in enumerate(utterances[:-1]):
        for speed in (0.9, 1.0, 1.1):
            steps = frame_count(round(utterance.seconds * 16_000 / speed), FRONTEND)
            assert dataset[Item(0, index, speed)][1].shape == (math.ceil(steps / 3), 120)


def test_masks_depend_on_seed_epoch_utterance_and_speed_alone(utterances: list[Utterance]) -> None:
    always = Augmentation(probability=1)
    items = [Item(epoch, index, speed) for epoch in (0, 1) for index in range(7) for speed in (1.0, 1.1)]
    dataset = SpeechDataset(utterances, FRONTEND, always, seed=3)
    frames = {item: dataset[item][1] for item in items}
    again = SpeechDataset(utterances, FRONTEND, always, seed=3)
    for item in random.Random(0).sample(items, len(items)):
        np.testing.assert_array_equal(again[item][1], frames[item])

    def masked(frames: NDArray[np.float32]) -> bytes:
        return (frames[:6] == 0).tobytes()

    masks = [masked(part) for part in frames.values()]
    assert len(set(masks)) > 0.9 * len(masks)
    other = SpeechDataset(utterances, FRONTEND, always, seed=4)
    assert sum(masked(other[item][1]) != mask for item, mask in zip(items, masks, strict=True)) > 0.9 * len(masks)


def test_a_share_of_utterances_sounds_as_if_recorded_otherwise(utterances: list[Utterance]) -> None:
    """The rest is as the source has it, and the same utterance in the same epoch always sounds the same."""
    stored = extract(np.zeros(16_000, np.float32), FRONTEND)

    def source(index: int, speed: float) -> NDArray[np.float32]:
        return stored

    def heard(recording: float, seed: int = 3, epochs: int = 40) -> list[NDArray[np.float32]]:
        augmentation = Augmentation(recording=recording, probability=0.0)
        dataset = SpeechDataset(utterances, FRONTEND, augmentation, source=source, seed=seed)
        return [dataset[Item(epoch, index, 1.1)][1] for epoch in range(epochs) for index in range(7)]

    def is_stored(frames: NDArray[np.float32]) -> bool:
        return np.array_equal(frames, stack(stored, 3))

    assert all(is_stored(frames) for frames in heard(0.0, epochs=2))
    half, again = heard(0.5), heard(0.5)
    assert all(np.array_equal(*pair) for pair in zip(half, again, strict=True))
    assert np.mean([is_stored(frames) for frames in half]) == pytest.approx(0.5, abs=0.12)
    every = heard(1.0)
    assert not any(is_stored(frames) for frames in every)
    assert len({frames.tobytes() for frames in every}) > 0.9 * len(every)


def test_waveforms_sound_as_if_recorded_otherwise_too(utterances: list[Utterance]) -> None:
    frontend = FrontEnd(kind="waveform", step_ms=20, stack=1)
    dataset = SpeechDataset(utterances, frontend, Augmentation(recording=1.0, probability=0.0), seed=3)
    waveform = load_waveform(utterances[2].cut, frontend.sampling_rate)
    heard = [dataset[Item(epoch, 2, 1.0)][1] for epoch in range(20)]
    assert all(each.shape[1] == 1 and 0 < len(each) <= len(waveform) for each in heard)
    assert sum(np.array_equal(each[:, 0], waveform) for each in heard) < 5  # one in 32 stays as it is
    batch = collate([dataset[Item(epoch, 2, 1.0)] for epoch in range(4)])
    assert batch.lengths.tolist() == [len(each) for each in heard[:4]]
    assert bool(torch.isfinite(batch.frames).all())


def test_a_source_is_asked_for_the_utterance_and_the_speed(utterances: list[Utterance]) -> None:
    def source(index: int, speed: float) -> NDArray[np.float16]:
        return np.full((4, 40), index + speed, np.float16)

    _, frames, _ = SpeechDataset(utterances, FRONTEND, source=source)[Item(0, 2, 1.1)]
    assert frames.dtype == np.float32
    expected = np.full((2, 120), np.float16(3.1), np.float32)
    expected[1, 40:] = 0
    np.testing.assert_array_equal(frames, expected)


def test_a_batch(utterances: list[Utterance]) -> None:
    dataset = SpeechDataset(utterances, FRONTEND)
    items = [dataset[Item(0, index, 1.0)] for index in (5, 0, 2)]
    batch = collate(items)
    lengths = [len(frames) for _, frames, _ in items]
    assert batch.lengths.tolist() == lengths == [24, 7, 14]
    assert batch.frames.shape == (3, 24, 120)
    assert batch.frames.dtype == torch.float32
    for row, (_, frames, _) in zip(batch.frames, items, strict=True):
        np.testing.assert_array_equal(row[: len(frames)], frames)
        assert not row[len(frames) :].any()
    assert batch.names == ["u5", "u0", "u2"]
    assert batch.texts == ["text b", "text a", "text a"]
    assert batch.sentiment.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_array_equal(batch.ratings, [[1, 5, math.nan], [1, 0, math.nan], [1, 2, math.nan]])
    assert batch.seconds == pytest.approx(0.7 + 0.2 + 0.4)
    assert batch.failures == {}
    assert same(batch.to(torch.device("cpu")), batch)


def test_labels_that_are_missing_are_nan(utterances: list[Utterance]) -> None:
    bare = Utterance("bare", utterances[0].cut, 0.2, scale=Scale())
    batch = collate([SpeechDataset([bare], FRONTEND)[Item(0, 0, 1.0)]])
    assert batch.texts == [None]
    assert batch.sentiment.shape == batch.ratings.shape == (1, 3)
    assert batch.sentiment.isnan().all()
    assert batch.ratings.isnan().all()


def test_audio_that_cannot_be_read_costs_its_utterance_alone(utterances: list[Utterance]) -> None:
    dataset = SpeechDataset(utterances, FRONTEND, Augmentation(probability=1))
    batch = collate([dataset[Item(0, index, 1.0)] for index in (7, 3)])
    assert list(batch.failures) == [0]
    assert "7.flac: does not exist" in batch.failures[0]
    assert batch.names == ["u7", "u3"]
    assert batch.texts == [None, "text b"]
    assert batch.sentiment.isnan().all(1).tolist() == [True, False]
    assert batch.ratings[0].isnan().all()
    assert batch.lengths.tolist() == [1, 17]
    assert not batch.frames[0].any()
    assert batch.seconds == pytest.approx(0.5)
    np.testing.assert_array_equal(batch.frames[1], dataset[Item(0, 3, 1.0)][1])


def test_a_blank_item_has_neither_speech_nor_labels(utterances: list[Utterance]) -> None:
    batch = collate([SpeechDataset(utterances, FRONTEND)[Item(0, 1, 1.0, blank=True)]])
    assert batch.lengths.tolist() == [1]
    assert not batch.frames.any()
    assert batch.texts == [None]
    assert batch.sentiment.isnan().all()
    assert batch.ratings.isnan().all()
    assert batch.seconds == 0
    assert batch.failures == {}


def test_workers_load_the_same_batches_from_any_beginning(utterances: list[Utterance]) -> None:
    dataset = SpeechDataset(utterances, FRONTEND, Augmentation(probability=0.5), seed=1)
    plan = BatchPlan([u.seconds for u in utterances], Batches(seconds=2), dataset.augmentation, seed=1).epoch(0)
    here = list(BatchLoader(dataset)(plan))
    assert len(here) == len(plan) > 5
    assert {name for batch in here for name in batch.names} == {u.name for u in utterances}
    assert sum(len(batch.failures) for batch in here) == 3  # the missing file, at every speed
    assert all(same(one, two) for one, two in zip(BatchLoader(dataset)(plan[4:]), here[4:], strict=True))
    load = BatchLoader(dataset, workers=2)
    assert all(same(one, two) for one, two in zip(load(plan), here, strict=True))
    next(load(plan))  # a call that is left
    assert all(same(one, two) for one, two in zip(load(plan[4:]), here[4:], strict=True))
