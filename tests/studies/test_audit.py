import csv
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from sa2sr.audio import resample
from sa2sr.cli import app
from sa2sr.config import DIMENSIONS, FrontEnd, Scale
from sa2sr.corpora.espeak import speak
from sa2sr.corpora.voices import VOICES
from sa2sr.errors import CorpusError, ModelError, UserError
from sa2sr.inference import load
from sa2sr.metrics import bootstrap
from sa2sr.speech.features import extract
from sa2sr.studies.audit import named_models, read_audit, run_audit
from sa2sr.studies.audit_measures import Resampling, Shift, effect, effects, shift_beyond
from sa2sr.studies.audit_report import audit_document
from sa2sr.studies.audit_sentences import LANGUAGE, NEAR_COPIES, PROSODY, SENTIMENTS, TRIPLES, utterances_of, voices_of
from sa2sr.studies.rendering import markdown

RandomModel = Callable[..., Path]
Floats = NDArray[np.float64]

SEVEN = Scale(name="1-7", low=1, high=7)
UNIT = Scale(name="0-1", low=0, high=1)
FEW = Resampling(resamples=200)


def said(
    carriers: int = 12,
    voices: int = 8,
    *,
    positive: float = 0.0,
    negative: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
) -> Floats:
    """Predictions on 0 to 1 of known shifts, (carriers, 3, voices), which differ by carrier and by voice."""
    random = np.random.default_rng(seed)
    base = 0.5 + 0.05 * random.standard_normal((carriers, 1, 1)) + 0.1 * random.standard_normal((1, 1, voices))
    shifts = np.array([positive, 0.0, negative])[None, :, None]
    return base + shifts + noise * random.standard_normal((carriers, 3, voices))


def bounds(shift: Shift) -> Floats:
    each = (shift.positive, shift.negative, shift.positive_minus_negative)
    return np.array([[own.value, own.low, own.high] for own in each], float)


# --- What is computed from predictions --------------------------------------------------------------------------------


def test_shifts_are_recovered() -> None:
    found = effect(said(positive=0.15, negative=-0.14), UNIT, FEW)
    np.testing.assert_allclose(bounds(found.unit), np.repeat([[0.15], [-0.14], [0.29]], 3, axis=1), atol=1e-12)
    assert found.positive_rises.value == found.negative_falls.value == 1
    noisy = effect(said(40, 20, positive=0.15, negative=-0.14, noise=0.05), UNIT, FEW)
    for interval, truth in zip(bounds(noisy.unit), (0.15, -0.14, 0.29), strict=True):
        assert interval[1] < truth < interval[2]
        assert interval[2] - interval[1] < 0.03


def test_both_scales_say_the_same() -> None:
    unit = said(positive=0.1, negative=-0.2, noise=0.1)
    on_one, on_seven = effect(unit, UNIT, FEW), effect(1 + 6 * unit, SEVEN, FEW)
    np.testing.assert_allclose(bounds(on_seven.unit), bounds(on_one.unit), atol=1e-12)
    np.testing.assert_allclose(bounds(on_seven.points), 6 * bounds(on_one.points), atol=1e-12)
    np.testing.assert_allclose(bounds(on_one.points), bounds(on_one.unit), atol=1e-12)


def test_who_hears_no_words_shifts_by_nothing() -> None:
    found = effect(said(), UNIT, FEW)
    np.testing.assert_allclose(bounds(found.unit), 0, atol=1e-15)
    constant = effect(np.full((5, 3, 4), 0.5), UNIT, FEW)
    assert (constant.positive_rises.value, constant.negative_falls.value, constant.auc.value) == (0.5, 0.5, 0.5)


def test_shares_and_auc_beside_their_definitions() -> None:
    values = said(positive=0.05, negative=-0.02, noise=0.1, seed=3).round(1)  # so that there are ties
    found = effect(values, UNIT, FEW)
    positive, neutral, negative = values.transpose(1, 0, 2)
    assert (positive == neutral).any()
    rises = [1.0 if p > n else 0.5 if p == n else 0.0 for p, n in zip(positive.flat, neutral.flat, strict=True)]
    falls = [1.0 if p < n else 0.5 if p == n else 0.0 for p, n in zip(negative.flat, neutral.flat, strict=True)]
    assert found.positive_rises.value == pytest.approx(np.mean(rises))
    assert found.negative_falls.value == pytest.approx(np.mean(falls))
    truth = [1] * positive.size + [0] * negative.size
    assert found.auc.value == pytest.approx(roc_auc_score(truth, np.concatenate([positive.ravel(), negative.ravel()])))


def test_what_is_missing_takes_its_pair_along() -> None:
    values = said(positive=0.1, negative=-0.1, noise=0.05)
    values[3, 0, 2] = values[5, 1, 1] = np.nan
    found = effect(values, UNIT, FEW)
    positive, neutral, negative = values.transpose(1, 0, 2)
    expected = [np.nanmean(positive - neutral), np.nanmean(negative - neutral), np.nanmean(positive - negative)]
    np.testing.assert_allclose(bounds(found.unit)[:, 0], expected)
    values[:, 2] = np.nan
    found = effect(values, UNIT, FEW)
    assert found.unit.positive.value is not None
    assert found.unit.negative.value is found.auc.value is None


def test_intervals_are_about_new_carriers_and_new_voices() -> None:
    """Nineteen in twenty cover the truth; intervals that resample the pairs one by one cover it far less often."""
    random = np.random.default_rng(0)
    times, carriers, voices, truth = 150, 20, 15, 0.1
    covered = Counter[str]()
    for seed in range(times):
        of_carriers = 0.05 * random.standard_normal((carriers, 1))
        of_voices = 0.05 * random.standard_normal((1, voices))
        shifts = truth + of_carriers + of_voices + 0.05 * random.standard_normal((carriers, voices))
        values = np.stack([shifts, np.zeros_like(shifts), np.full_like(shifts, np.nan)], axis=1)
        crossed = effect(values, UNIT, Resampling(resamples=200, seed=seed)).unit.positive
        assert crossed.low is not None
        assert crossed.high is not None
        naive = bootstrap(shifts.ravel(), np.ones(shifts.size), metric="ratio", resamples=200, seed=seed)
        covered["crossed"] += crossed.low <= truth <= crossed.high
        covered["naive"] += naive.low <= truth <= naive.high
    assert covered["crossed"] / times > 0.9
    assert covered["naive"] / times < 0.6


@pytest.mark.parametrize("axis", [0, 1])
def test_an_effect_of_one_side_alone_is_resampled_on_that_side_alone(axis: int) -> None:
    sizes = [10, 10]
    sizes[1 - axis] = 7
    own = np.random.default_rng(1).standard_normal(10)
    shifts = np.broadcast_to(np.expand_dims(own, 1 - axis), sizes)
    values = np.stack([shifts, np.zeros(sizes), np.zeros(sizes)], axis=1)
    crossed = effect(values, UNIT, Resampling(resamples=20_000)).unit.positive
    alone = bootstrap(own, np.ones(10), metric="ratio", resamples=20_000, seed=1)
    assert crossed.value == pytest.approx(alone.value)
    assert (crossed.low, crossed.high) == pytest.approx((alone.low, alone.high), abs=0.03)


def test_one_voice_has_no_interval() -> None:
    shift = effect(said(voices=1, positive=0.1, noise=0.1), UNIT, FEW).unit.positive
    assert shift.value is not None
    assert shift.low is shift.high is None
    assert math.isnan(shift.estimate.low)


def test_how_much_further_than_another_model() -> None:
    one = np.stack([said(positive=0.1, negative=-0.1, noise=0.1, seed=seed) for seed in range(3)], axis=-1)
    further = one + np.array([0.05, 0, -0.02])[None, :, None, None]
    beyond = shift_beyond(1 + 6 * further, SEVEN, one, UNIT, FEW)
    for name in DIMENSIONS:
        np.testing.assert_allclose(bounds(beyond[name]), np.repeat([[0.05], [-0.02], [0.07]], 3, axis=1), atol=1e-12)
    assert effects(one, UNIT, FEW)["valence"] == effect(one[..., 1], UNIT, FEW)


# --- What is said -----------------------------------------------------------------------------------------------------


def test_words_are_rated_as_they_are_meant() -> None:
    analyser = SentimentIntensityAnalyzer()
    for triple in TRIPLES:
        assert analyser.lexicon[triple.positive] >= 1.5
        assert analyser.lexicon[triple.negative] <= -1.3
        assert triple.neutral not in analyser.lexicon
        compound = [analyser.polarity_scores(triple.sentence(sentiment))["compound"] for sentiment in SENTIMENTS]
        assert compound[0] > 0.3
        assert compound[1] == 0
        assert compound[2] < -0.2
    assert len(TRIPLES) >= 36


def test_twins_differ_by_one_word() -> None:
    for triple in TRIPLES:
        sentences = [triple.sentence(sentiment).split() for sentiment in SENTIMENTS]
        for first, second in pairwise(sentences):
            assert [a == b for a, b in zip(first, second, strict=True)].count(False) == 1
        for words in sentences:
            assert all(re.fullmatch("[a-z]+", word) for word in words)
            for article, following in pairwise(words):
                assert article not in ("a", "an") or (article == "an") == (following[0] in "aeio")


def test_nothing_is_said_twice() -> None:
    words = [triple.word(sentiment) for triple in TRIPLES for sentiment in SENTIMENTS]
    stems = Counter(word[:6].removesuffix("ed").removesuffix("s") for word in words)
    assert stems.most_common(1)[0][1] == 1
    assert len({triple.carrier for triple in TRIPLES}) == len(TRIPLES)


def test_twins_take_equally_long() -> None:
    seconds = np.array(
        [
            [len(speak(triple.sentence(sentiment), f"{LANGUAGE}+f4", PROSODY)[0]) for sentiment in SENTIMENTS]
            for triple in TRIPLES
        ]
    )
    ratios = seconds / seconds[:, [1]]
    assert np.abs(np.log(ratios)).max() < np.log(1.15)
    np.testing.assert_allclose(seconds.sum(axis=0), seconds.sum(axis=0).mean(), rtol=0.01)


def test_voices_differ() -> None:
    names = [name for group in voices_of("distinct").values() for name in group]
    assert len(names) >= 40
    assert set(names) | NEAR_COPIES == {name for group in VOICES.values() for name in group}
    frames = {}
    for name in names:
        samples, rate = speak("the teacher found a wooden table", f"{LANGUAGE}+{name}", PROSODY)
        frames[name] = extract(resample(samples, rate, 16_000), FrontEnd())
    for index, name in enumerate(names):
        for other in names[:index]:
            count = min(len(frames[name]), len(frames[other]))
            apart = frames[name][:count] - frames[other][:count]
            assert np.sqrt(np.mean(apart**2)) > 0.35, (name, other)


def test_every_sentence_by_every_voice_in_one_prosody() -> None:
    groups = voices_of("distinct")
    utterances = utterances_of(TRIPLES, groups)
    voices = sum(map(len, groups.values()))
    assert len({each.name for each in utterances}) == len(utterances) == 3 * len(TRIPLES) * voices
    assert {each.prosody for each in utterances} == {PROSODY}
    assert all(each.split in groups and each.speaker in groups[each.split] for each in utterances)  # type: ignore[index]
    assert voices_of("Andy, f1") == {"training": (), "development": ("f1",), "test": ("Andy",)}
    with pytest.raises(CorpusError, match="Andi"):
        voices_of("Andi")


# --- The whole --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("speech")


def command(speech: Path, *arguments: str | Path) -> list[str]:
    fixed = ["--sentences", "2", "--voices", "Andy,f1", "--speech", speech, "--resamples", "50", "--jobs", "1"]
    return ["audit", *map(str, (*arguments, *fixed))]


def test_the_command(random_model: RandomModel, speech: Path, tmp_path: Path) -> None:
    models = {
        "first": random_model(gain=4),
        "second": random_model(gain=4, seed=1, scale=Scale(name="0-10", low=0, high=10), mean=5.0),
        "deaf": random_model(spread=0.0),
    }
    named = [f"{name}={path}" for name, path in models.items()]
    unusable = [f"pretrained={random_model(heads=('ctc',))}", f"missing={tmp_path / 'missing'}"]
    out = tmp_path / "out"
    result = CliRunner().invoke(app, command(speech, *named, *unusable, "--out", out))
    assert result.exit_code == 1, result.output
    assert "failed: pretrained" in result.stderr
    audit = read_audit(out / "audit.json")
    assert [model.name for model in audit.models] == list(models)
    assert set(audit.failed) == {"pretrained", "missing"}
    assert (audit.design.utterances, audit.models[0].utterances) == (12, 12)
    assert audit.design.voices == {"development": ("f1",), "test": ("Andy",)}
    finer = audit.model_copy(update={"resampling": Resampling(level=0.975)})
    assert "In brackets, 97.5 % intervals" in markdown(audit_document(finer))
    assert (out / "pictures" / "audit-valence.png").read_bytes().startswith(b"\x89PNG")

    # The pairs, computed once more from the saved predictions
    with (out / "audit.csv").open(newline="") as file:
        rows = {(row["model"], row["carrier"], row["words"], row["voice"]): row for row in csv.DictReader(file)}
    assert len(rows) == 3 * 12
    for model in audit.models:
        for dimension in DIMENSIONS:
            for words in ("positive", "negative"):
                apart = [
                    float(row[dimension]) - float(rows[name, carrier, "neutral", voice][dimension])
                    for (name, carrier, own, voice), row in rows.items()
                    if name == model.name and own == words
                ]
                assert len(apart) == 4
                shift = getattr(model.effects[dimension].points, words)
                assert shift.value == pytest.approx(np.mean(apart), abs=1e-9)
                unit = getattr(model.effects[dimension].unit, words)
                assert unit.value == pytest.approx(np.mean(apart) / (model.scale.high - model.scale.low), abs=1e-9)
    assert audit.models[2].effects["valence"].unit.positive.value == 0
    assert audit.models[2].effects["valence"].auc.value == 0.5
    assert audit.models[0].effects["valence"].unit.positive.value != 0
    assert audit.models[0].beyond_first == {}
    further = [audit.models[index].effects["valence"].unit.positive.value or 0 for index in (0, 1)]
    assert audit.models[1].beyond_first["valence"].positive.value == pytest.approx(further[1] - further[0])

    # Every prediction belongs to its file
    model = load(models["first"])
    files = list((speech / "audio").iterdir())
    assert len(files) == 12
    for path in files:
        carrier, words, voice = path.name.split("-")[:3]
        row = rows["first", str(int(carrier)), words, voice]
        assert row["text"] == TRIPLES[int(carrier)].sentence(words)  # type: ignore[arg-type]
        predicted = model.predict(path)[0]
        for dimension in DIMENSIONS:
            assert float(row[dimension]) == pytest.approx(getattr(predicted, dimension), abs=1e-4)

    report = (out / "audit.md").read_text()
    assert "large wav2vec2, published | 0.150" in report
    assert all(f"{name} could not be audited" in report for name in audit.failed)


def test_again_gives_the_same(random_model: RandomModel, speech: Path, tmp_path: Path) -> None:
    """What is spoken already stays, what is lost is spoken again, and all bytes are the same."""
    model = f"own={random_model(gain=4)}"
    outs = [tmp_path / "1", tmp_path / "2"]
    assert CliRunner().invoke(app, command(speech, model, "--out", outs[0])).exit_code == 0
    lost, *kept = sorted((speech / "audio").iterdir())
    before, times = lost.read_bytes(), [path.stat().st_mtime_ns for path in kept]
    lost.unlink()
    assert CliRunner().invoke(app, command(speech, model, "--out", outs[1])).exit_code == 0
    assert lost.read_bytes() == before
    assert [path.stat().st_mtime_ns for path in kept] == times
    for name in ("audit.json", "audit.csv", "audit.md", "pictures/audit-valence.png"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()


def test_no_model_at_all(random_model: RandomModel, speech: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model can be audited\n  a: .*missing"):
        run_audit({"a": tmp_path / "missing"}, speech=tmp_path / "speech")
    assert not (tmp_path / "speech").exists()  # nothing is spoken for nothing
    result = CliRunner().invoke(app, command(speech, tmp_path / "missing"))
    assert isinstance(result.exception, ModelError)
    assert run_audit({"a": random_model()}, speech=speech, triples=TRIPLES[:1], voices="Andy", jobs=1).models


def test_names(tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    assert named_models(["x=runs/one", "runs/two/model", "runs/three"]) == {
        "x": Path("runs/one"),
        "two": Path("runs/two/model"),
        "three": Path("runs/three"),
    }
    assert named_models([str(tmp_path / "a=b")]) == {"a=b": tmp_path / "a=b"}
    assert list(named_models(["runs/one/x", "runs/two/x"])) == ["one/x", "two/x"]
    with pytest.raises(UserError, match="two models are called 'x'"):
        named_models(["x=one", "x=two"])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{", "is not JSON"), ("[1]", "is not a JSON object"), ('{"format": 2}', "format"), ('{"x": 1}', "unknown key")],
)
def test_what_is_no_audit_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "audit.json"
    path.write_text(content)
    with pytest.raises(UserError, match=complaint) as caught:
        read_audit(path)
    assert str(path) in str(caught.value)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        read_audit(path)


def test_prosody_is_written_as_it_was(random_model: RandomModel, speech: Path) -> None:
    audit = run_audit({"a": random_model()}, speech=speech, triples=TRIPLES[:1], voices="Andy", jobs=1)
    assert audit.design.prosody == asdict(PROSODY)
    assert json.loads(audit.model_dump_json())["resampling"]["level"] == 0.95
