"""The demo corpus keeps its promises: what is held out, where the valence is, and the same bytes at every call."""

from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest

from sa2sr.config import ALPHABET, DIMENSIONS
from sa2sr.corpora.demo import (
    FILLERS,
    NEUTRAL_WORDS,
    RATED_WORDS,
    SIZES,
    SPLITS,
    TEMPLATES,
    Size,
    demo_utterances,
    lexicon,
    make_demo_corpus,
    prosody_of,
    split_words,
)
from sa2sr.corpora.espeak import Prosody, speak
from sa2sr.corpora.spoken import SpokenUtterance
from sa2sr.cuts import custom_fields, load_waveform, read_cuts
from sa2sr.sentiment.vader import VaderTeacher
from sa2sr.speech.text import ctc_steps, normalise_text

SIZE_NAMES: list[Size] = ["full", "small", "tiny"]
ALL_RATED = {word for kinds in RATED_WORDS.values() for words in kinds.values() for word in words}


def by_split(size: Size, seed: int = 0) -> dict[str, list[SpokenUtterance]]:
    utterances = demo_utterances(size, seed)
    return {split: [u for u in utterances if u.split == split] for split in SPLITS}


def rated_words(utterances: list[SpokenUtterance]) -> set[str]:
    """Found in the texts, not believed from the fields."""
    return {word for utterance in utterances for word in utterance.text.split() if word in ALL_RATED}


def voices(utterances: list[SpokenUtterance]) -> set[str]:
    return {utterance.speaker for utterance in utterances}


@pytest.mark.parametrize("size", SIZE_NAMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_words_and_voices_are_held_out(size: Size, seed: int) -> None:
    parts = by_split(size, seed)
    assert {split: len(part) for split, part in parts.items()} == dict(SIZES[size].utterances)
    words = {split: rated_words(part) for split, part in parts.items()}
    assert not words["test-new-words"] & words["train"]
    assert not words["test-new-words"] & words["dev"]
    assert words["test-known-words"] == words["train"]
    assert not words["dev"] & words["train"]
    assert words["train"] | words["dev"] | words["test-new-words"] <= words["pretraining-train"]
    heard = {split: voices(part) for split, part in parts.items()}
    for test in ("test-known-words", "test-new-words"):
        others = heard["pretraining-train"] | heard["pretraining-dev"] | heard["train"] | heard["dev"]
        assert not heard[test] & others
    assert not heard["pretraining-dev"] & heard["pretraining-train"]
    assert not heard["dev"] & heard["train"]
    assert not heard["dev"] & heard["pretraining-train"]
    texts = Counter(utterance.text for part in parts.values() for utterance in part)
    assert max(texts.values()) == 1
    for split in ("train", "dev", "test-known-words", "test-new-words"):
        signs = Counter(np.sign(lexicon()[word]) for word in words[split])
        assert signs[1.0] == signs[-1.0] > 0


def test_seeds_hold_out_other_words_and_one_seed_is_one_corpus() -> None:
    assert demo_utterances("small", 3) == demo_utterances("small", 3)
    assert demo_utterances("small", 3) != demo_utterances("small", 4)
    held_out = [{word.text for word in split_words("full", Random(seed))["test-new-words"]} for seed in range(5)]
    assert len({frozenset(words) for words in held_out}) == 5


@pytest.mark.parametrize("size", SIZE_NAMES)
def test_sentences_are_short_and_plain(size: Size) -> None:
    for utterance in demo_utterances(size):
        assert 3 <= len(utterance.text.split()) <= 8
        assert normalise_text(utterance.text) == utterance.text
        assert set(utterance.text) <= set(ALPHABET)
        assert " a a" not in f" {utterance.text}"


def test_the_lexicon_rates_the_rated_words_and_no_other() -> None:
    for polarity, kinds in RATED_WORDS.items():
        for words in kinds.values():
            for word in words:
                assert abs(lexicon()[word]) >= 1.5, word
                assert (lexicon()[word] > 0) == (polarity == "positive")
    assert {kind: len(words) for kind, words in RATED_WORDS["positive"].items()} == {
        kind: len(words) for kind, words in RATED_WORDS["negative"].items()
    }
    others = [*FILLERS.values(), *NEUTRAL_WORDS.values(), *TEMPLATES.values()]
    assert not [word for texts in others for text in texts for word in text.split() if word in lexicon()]
    stems = Counter(word[:4] for word in ALL_RATED)
    assert not [stem for stem, count in stems.items() if count > 1]


def test_the_teacher_reads_what_the_sentences_are_made_of() -> None:
    utterances = demo_utterances("small")
    predicted = VaderTeacher().probabilities([utterance.text for utterance in utterances]).argmax(1)
    expected = [1 + int(np.sign(lexicon().get(u.custom.get("rated_word", ""), 0))) for u in utterances]
    assert predicted.tolist() == expected
    assert np.abs(np.diff(sorted(Counter(expected).values()))).max() <= 2 * len(SPLITS)  # balanced


def test_ratings() -> None:
    parts = by_split("full")
    assert not any(u.ratings or u.scale for split in SPLITS[:2] for u in parts[split])
    for split in SPLITS[2:]:
        for utterance in parts[split]:
            assert set(utterance.ratings) == set(DIMENSIONS)
            assert utterance.scale is not None
            assert all(utterance.scale.low <= value <= utterance.scale.high for value in utterance.ratings.values())
    rated = [u for split in SPLITS[2:] for u in parts[split]]
    values = {name: np.array([u.ratings[name] for u in rated]) for name in DIMENSIONS}
    words = np.array([lexicon().get(u.custom.get("rated_word", ""), 0) for u in rated])
    voice = np.array(
        [[getattr(u.prosody, name) for name in ("rate_wpm", "pitch", "pitch_range", "volume")] for u in rated]
    )
    assert np.corrcoef(words, values["valence"])[0, 1] > 0.95
    for name in ("activation", "dominance"):
        design = np.column_stack([voice, np.ones(len(voice))])
        fitted = design @ np.linalg.lstsq(design, values[name], rcond=None)[0]
        assert np.corrcoef(fitted, values[name])[0, 1] > 0.95
        assert abs(np.corrcoef(words, values[name])[0, 1]) < 0.1
    # nothing of the valence is in the voice
    fitted = design @ np.linalg.lstsq(design, values["valence"], rcond=None)[0]
    assert np.corrcoef(fitted, values["valence"])[0, 1] < 0.15


def test_prosody_follows_activation_and_dominance() -> None:
    calm, lively = prosody_of(-1, 0), prosody_of(1, 0)
    assert lively.rate_wpm > 1.4 * calm.rate_wpm
    assert lively.pitch > calm.pitch
    meek, strong = prosody_of(0, -1), prosody_of(0, 1)
    assert strong.pitch_range > meek.pitch_range
    assert strong.pitch < meek.pitch
    assert strong.volume > meek.volume
    for activation in (-1, 1):
        for dominance in (-1, 1):
            assert isinstance(prosody_of(activation, dominance), Prosody)  # within the engine's limits


def test_speech_is_long_enough_for_ctc() -> None:
    for utterance in sorted(demo_utterances("full"), key=lambda u: len(u.text) * u.prosody.rate_wpm)[-20:]:
        samples, rate = speak(utterance.text, utterance.voice, utterance.prosody)
        assert len(samples) / rate / 0.030 > 1.1 * ctc_steps(utterance.text)  # frames of 30 ms, also at speed 1.1


def test_make_demo_corpus(tmp_path: Path) -> None:
    manifests = make_demo_corpus(tmp_path / "a", "tiny", jobs=1)
    assert list(manifests) == list(SPLITS)
    again = make_demo_corpus(tmp_path / "b", "tiny", jobs=1)
    for split, path in manifests.items():
        cuts, others = list(read_cuts(path)), list(read_cuts(again[split]))
        assert len(cuts) == SIZES["tiny"].utterances[split]
        for cut, other in zip(cuts, others, strict=True):
            assert cut.supervisions[0].to_dict() == other.supervisions[0].to_dict()
            sources = [Path(each.recording.sources[0].source) for each in (cut, other)]
            assert sources[0].read_bytes() == sources[1].read_bytes()
            assert ("valence" in custom_fields(cut)) == (not split.startswith("pretraining"))
        waveform = load_waveform(cuts[0], 16_000)
        assert np.abs(waveform).max() < 1
        assert np.sqrt(np.mean(waveform**2)) > 0.005
