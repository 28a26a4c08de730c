"""Labels of cuts, what is left out and why, and manifests that say what cannot be."""

import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sa2sr.audio import AudioInfo, change_speed
from sa2sr.config import DIMENSIONS, FrontEnd, Scale
from sa2sr.cuts import Cut, load_waveform, make_cut, write_cuts
from sa2sr.errors import AudioError, CorpusError
from sa2sr.network.objectives import Ctc, Emotion, Sentiment
from sa2sr.speech.features import extract, stack
from sa2sr.speech.text import ctc_steps
from sa2sr.speech.utterances import Utterance, UtteranceSet, read_utterances, usable

SEVEN = Scale(name="1-7", low=1, high=7)
FIVE = Scale(name="1-5", low=1, high=5)
TASKS = {"ctc": Ctc, "sentiment": Sentiment, "emotion": Emotion}
LIMITS: dict[str, Any] = {"shortest": 0.1, "longest": 35.0}
FRONTEND = FrontEnd()

Read = Callable[..., UtteranceSet]


def cut(name: str = "a", seconds: float = 2.0, **labels: Any) -> Cut:
    """A cut of audio that need not be there, since labels alone are read."""
    return make_cut(name, "/nowhere/a.wav", AudioInfo(16_000, round(seconds * 16_000), 1), **labels)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """``read(cuts, more_cuts)`` writes one manifest each, and reads them."""

    def of(*manifests: list[Cut]) -> UtteranceSet:
        paths = [tmp_path / f"{number}.jsonl.gz" for number in range(len(manifests))]
        for path, cuts in zip(paths, manifests, strict=True):
            write_cuts(path, cuts)
        return read_utterances(paths)

    return of


def test_labels_arrive(read: Read) -> None:
    labelled = cut(
        text="It’s FINE, really.",  # noqa: RUF001
        speaker="s1",
        gender="female",
        ratings={"activation": 2, "dominance": 6.5},
        scale=SEVEN,
        custom={"sentiment": [0.1, 0.2, 0.7]},
    )
    data = read([labelled], [cut("b", 3.0)])
    one, bare = data.utterances
    assert (one.name, one.seconds, one.text) == ("a", 2.0, "it's fine really")
    assert (one.speaker, one.gender) == ("s1", "female")
    assert one.sentiment == (0.1, 0.2, 0.7)
    np.testing.assert_array_equal(one.ratings, (2, math.nan, 6.5))
    assert one.scale == data.scale == SEVEN
    assert one.cut.to_dict() == labelled.to_dict()
    assert (bare.text, bare.sentiment, bare.scale, bare.speaker, bare.gender) == (None,) * 5
    assert all(map(math.isnan, bare.ratings))
    assert data.left_out == Counter()
    assert data.hours == pytest.approx(5 / 3600)


def test_a_cut_without_a_supervision_is_an_utterance_without_labels(read: Read) -> None:
    bare = cut()
    bare.supervisions = []
    assert read([bare]).utterances[0].text is None


def test_what_is_left_out_is_counted(read: Read) -> None:
    cuts = [
        cut("a", text="fine"),
        cut("a", text="the same name"),
        cut("high", ratings={"valence": 7.5}, scale=SEVEN),
        cut("edge", ratings={"valence": 7.0}, scale=SEVEN),
        cut("low", ratings={"valence": 3, "activation": 0.9}, scale=SEVEN),
    ]
    data = read(cuts, [cut("edge", text="again")])
    assert [u.name for u in data.utterances] == ["a", "edge"]
    assert data.left_out == {"id occurs twice": 2, "rating outside its scale": 2}


def test_ratings_on_different_scales_are_not_mixed(read: Read) -> None:
    with pytest.raises(CorpusError, match=r"different scales: a has .*1-7.*, b has .*1-5"):
        read([cut("a", ratings={"valence": 3}, scale=SEVEN)], [cut("b", ratings={"valence": 3}, scale=FIVE)])
    # A scale without ratings means nothing.
    assert (
        read([cut("a", ratings={"valence": 3}, scale=FIVE), cut("b", custom={"scale": SEVEN.model_dump()})]).scale
        == FIVE
    )


def test_no_cuts_are_an_error(read: Read) -> None:
    with pytest.raises(CorpusError, match=r"0\.jsonl\.gz.*no cuts"):
        read([])
    with pytest.raises(CorpusError, match="no manifest"):
        read()


@pytest.mark.parametrize(
    "sentiment",
    [[0.5, 0.5], [0.2, 0.3, 0.1, 0.4], [0.5, 0.5, 0.5], [-0.5, 0.5, 1], ["0.1", "0", "0.9"], "ok", 1, {}, [1e999] * 3],
)  # fmt: skip
def test_sentiment_must_be_three_probabilities(read: Read, sentiment: Any) -> None:
    with pytest.raises(CorpusError, match="cut a: sentiment must be three probabilities"):
        read([cut(custom={"sentiment": sentiment})])


@pytest.mark.parametrize("scale", [{"low": 5, "high": 1}, {"low": "x"}, "1-7", 7, {"name": "\x1b[2J"}, {"more": 1}])
def test_a_scale_must_be_one(read: Read, scale: Any) -> None:
    with pytest.raises(CorpusError, match="cut a, scale"):
        read([cut(custom={"valence": 3.0, "scale": scale})])


@pytest.mark.parametrize("rating", [None, "high", [3], math.nan, math.inf, 10**400])
def test_a_rating_that_is_no_number_is_unknown(read: Read, rating: Any) -> None:
    data = read([cut(custom={"valence": rating, "activation": 3, "scale": SEVEN.model_dump()})])
    np.testing.assert_array_equal(data.utterances[0].ratings, (3, math.nan, math.nan))


@pytest.mark.parametrize("field", ["text", "speaker", "gender"])
def test_words_must_be_words(tmp_path: Path, field: str) -> None:
    record = cut(text="fine").to_dict()
    path = tmp_path / "cuts.jsonl"
    for lie in ({"a": 1}, ["a"]):
        record["supervisions"][0][field] = lie
        path.write_text(json.dumps(record))
        with pytest.raises(CorpusError, match=f"{field} must be a string"):
            read_utterances([path])
    record["supervisions"][0][field] = 17
    path.write_text(json.dumps(record))
    found = getattr(read_utterances([path]).utterances[0], field)
    assert found == (None if field == "text" else "17")  # digits are no transcript


def test_durations_labels_and_reasons(read: Read) -> None:
    cuts = [
        cut("short", 0.05, text="a"),
        cut("long", 35.1, text="a"),
        cut("edges", 35.0, text="a"),
        cut("silent", 2.0, text="..."),
        cut("dense", 0.3, text="as many as thirty letters"),
        cut("rated", 0.3, ratings={"valence": 3}, scale=SEVEN),
    ]
    data = usable(read(cuts, [cut("rated")]), FRONTEND, TASKS, **LIMITS)
    assert [u.name for u in data.utterances] == ["edges", "rated"]
    assert data.scale == SEVEN
    assert data.left_out == {
        "id occurs twice": 1,
        "shorter than 0.1 s": 1,
        "longer than 35 s": 1,
        "no label for ctc or sentiment or emotion": 1,
        "too short for its ctc label": 1,
    }


def test_a_task_asks_for_its_own_label(read: Read) -> None:
    data = read(
        [
            cut("spoken", text="a"),
            cut("felt", custom={"sentiment": [1, 0, 0]}),
            cut("rated", ratings={"dominance": 3}, scale=SEVEN),
        ]
    )
    for task, name in (("ctc", "spoken"), ("sentiment", "felt"), ("emotion", "rated")):
        kept = usable(data, FRONTEND, {task: TASKS[task]}, **LIMITS)
        assert [u.name for u in kept.utterances] == [name]
        assert kept.left_out == {f"no label for {task}": 2}


def test_a_long_text_does_not_matter_to_other_tasks(read: Read) -> None:
    data = read([cut("dense", 0.3, text="as many as thirty letters", ratings={"valence": 3}, scale=SEVEN)])
    assert len(usable(data, FRONTEND, {"emotion": Emotion}, **LIMITS).utterances) == 1


def test_nothing_usable_is_an_error_that_says_why(read: Read) -> None:
    with pytest.raises(CorpusError, match=r"none of 3 utterances .* 2 x no label for ctc, 1 x longer than 35 s"):
        usable(read([cut("a"), cut("b"), cut("c", 40.0)]), FRONTEND, {"ctc": Ctc}, **LIMITS)


@given(samples=st.integers(1_600, 30_000), fastest=st.sampled_from([1.0, 1.1, 1.5]), spare=st.integers(-3, 3))
@settings(deadline=None, max_examples=60)
def test_what_is_kept_has_frames_for_its_text_at_the_highest_speed(samples: int, fastest: float, spare: int) -> None:
    waveform = np.random.default_rng(0).uniform(-0.3, 0.3, samples).astype(np.float32)
    frames = len(stack(extract(change_speed(waveform, fastest), FRONTEND), FRONTEND.stack))
    text = ("ab" * frames)[: frames + spare]
    seconds = samples / 16_000
    data = UtteranceSet([Utterance("a", cut(), seconds, text=text or "a")], Counter(), None)
    try:
        kept = usable(data, FRONTEND, {"ctc": Ctc}, **LIMITS, fastest=fastest)
    except CorpusError:
        assert spare >= 0  # at most the last, incomplete frame is not counted on
    else:
        assert ctc_steps(kept.utterances[0].text or "") <= frames


@pytest.mark.parametrize("real", [0.5, 20.0])
def test_audio_of_another_duration_than_its_manifest_says_is_refused(tmp_path: Path, real: float) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(round(real * 16_000)), 16_000)
    promised = make_cut("a", tmp_path / "a.flac", AudioInfo(16_000, 16_000 * 4, 1), text="fine")
    with pytest.raises(AudioError, match=r"a\.flac: .* manifest"):
        load_waveform(promised, 16_000)


def test_all_dimensions_are_read_in_order(read: Read) -> None:
    ratings = dict(zip(DIMENSIONS, (1.0, 2.0, 3.0), strict=True))
    assert read([cut(ratings=ratings, scale=SEVEN)]).utterances[0].ratings == (1.0, 2.0, 3.0)


# --- Several corpora --------------------------------------------------------------------------------------------------


def test_a_folder_of_manifests_is_a_corpus_named_by_what_tells_it_from_the_others(tmp_path: Path) -> None:
    names = ("ravdess/parts/train", "words/parts/train", "ravdess/parts/more", "iemocap/train")
    paths = [tmp_path / f"{name}.jsonl" for name in names]
    for number, path in enumerate(paths):
        write_cuts(path, [cut(f"u{number}")])
    data = read_utterances(paths)
    assert [u.corpus.number for u in data.utterances] == [0, 1, 0, 2]
    assert [u.corpus.name for u in data.utterances] == ["ravdess/parts", "words/parts", "ravdess/parts", "iemocap"]
    assert {corpus.name: [u.name for u in part] for corpus, part in data.corpora.items()} == {
        "ravdess/parts": ["u0", "u2"],
        "words/parts": ["u1"],
        "iemocap": ["u3"],
    }
    assert [u.corpus.name for u in read_utterances(paths[2:]).utterances] == ["parts", "iemocap"]


def test_a_cut_may_name_its_corpus(tmp_path: Path) -> None:
    def of(name: str, corpus: str | None) -> Cut:
        return cut(name, custom={"corpus": corpus} if corpus else {})

    one = [of("a", "ravdess"), of("b", None), of("c", "ravdess")]  # where some don't, they are of the same
    two = [of("d", None), of("e", "emobank"), of("f", "ravdess"), of("g", None)]  # or of the folder
    write_cuts(tmp_path / "one.jsonl", one)
    write_cuts(tmp_path / "two.jsonl", two)
    data = read_utterances([tmp_path / "one.jsonl", tmp_path / "two.jsonl"])
    assert [u.corpus.name for u in data.utterances] == [
        *("ravdess", "ravdess", "ravdess"),
        *(tmp_path.name, "emobank", "ravdess", tmp_path.name),
    ]
    assert [u.corpus.number for u in data.utterances] == [0, 0, 0, 1, 2, 0, 1]


@given(st.lists(st.floats(1, 5), min_size=3, max_size=3), st.floats(-10, 10), st.floats(0.5, 20))
def test_ratings_on_another_scale_are_mapped_linearly(ratings: list[float], low: float, width: float) -> None:
    target = Scale(name="other", low=low, high=low + width)
    labelled = cut(ratings=dict(zip(DIMENSIONS, ratings, strict=True)), scale=FIVE)
    with tempfile.TemporaryDirectory() as folder:
        write_cuts(Path(folder) / "a.jsonl", [labelled, cut("b", ratings={"valence": 3.0}, scale=target)])
        if low <= 3 <= low + width:
            mapped, kept = read_utterances([Path(folder) / "a.jsonl"], target).utterances
            assert (kept.ratings[1], kept.scale) == (3.0, target)
        else:
            (mapped,) = read_utterances([Path(folder) / "a.jsonl"], target).utterances
    assert mapped.scale == target
    assert mapped.ratings == pytest.approx(np.interp(ratings, [1, 5], [low, low + width]), abs=1e-9)


def test_scales_are_mapped_when_asked_alone(read: Read, tmp_path: Path) -> None:
    cuts = [cut("a", ratings={"valence": 3.0}, scale=FIVE), cut("b", ratings={"valence": 3.0}, scale=SEVEN), cut("c")]
    with pytest.raises(CorpusError, match=r"different scales: .*finetuning\.scale.*--map-scale"):
        read(cuts)
    data = read_utterances([tmp_path / "0.jsonl.gz"], SEVEN)
    assert data.scale == SEVEN
    assert [u.ratings[1] for u in data.utterances] == pytest.approx([4.0, 3.0, math.nan], nan_ok=True)
    # What is outside its own scale is left out as ever, though it would be inside the other.
    write_cuts(tmp_path / "wrong.jsonl", [cut("a", ratings={"valence": 6.0}, scale=FIVE), cut("b")])
    assert read_utterances([tmp_path / "wrong.jsonl"], SEVEN).left_out == {"rating outside its scale": 1}
