import contextlib
import gzip
import json
import random
from pathlib import Path

import lhotse
import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from sa2sr.audio import probe
from sa2sr.config import Scale
from sa2sr.cuts import Cut, custom_fields, load_waveform, make_cut, read_cuts, write_cuts
from sa2sr.errors import AudioError, CorpusError

SCALE = Scale(name="1-5", low=1, high=5)


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Two seconds of stereo noise at 16 kHz."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (32_000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "noise.wav", samples, 16_000, subtype="FLOAT")
    return tmp_path / "noise.wav"


def full_cut(noise: Path, name: str = "a") -> Cut:
    return make_cut(
        name,
        noise,
        probe(noise),
        text="Grüße — ok",
        speaker="s",
        gender="female",
        language="German",
        emotion="happy",
        ratings={"valence": 2.5, "activation": 3},
        scale=SCALE,
        start=0.5,
        duration=1.0,
        custom={"take": 2},
    )


def test_fields_arrive(noise: Path) -> None:
    cut = full_cut(noise)
    supervision = cut.supervisions[0]
    assert (supervision.text, supervision.speaker, supervision.gender) == ("Grüße — ok", "s", "female")
    assert supervision.language == "German"
    assert custom_fields(cut) == {
        "take": 2,
        "emotion": "happy",
        "activation": 3.0,
        "valence": 2.5,
        "scale": {"name": "1-5", "low": 1.0, "high": 5.0},
    }
    assert (cut.start, cut.duration) == (0.5, 1.0)
    assert Path(cut.recording.sources[0].source).is_absolute()


def test_ratings_without_a_scale_are_refused(noise: Path) -> None:
    with pytest.raises(ValueError, match="scale"):
        make_cut("a", noise, probe(noise), ratings={"valence": 3})


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_manifests_round_trip_and_lhotse_reads_them(noise: Path, tmp_path: Path, name: str) -> None:
    cuts = [full_cut(noise, "a"), make_cut("b", noise, probe(noise))]
    assert write_cuts(tmp_path / name, cuts) == 2
    assert [cut.to_dict() for cut in read_cuts(tmp_path / name)] == [cut.to_dict() for cut in cuts]
    theirs = list(CutSet.from_file(tmp_path / name))
    assert [cut.id for cut in theirs] == ["a", "b"]
    assert theirs[0].supervisions[0].custom == custom_fields(cuts[0])
    lhotse.utils.fastcopy(theirs[0])


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_the_same_cuts_give_the_same_bytes(noise: Path, tmp_path: Path, name: str) -> None:
    write_cuts(tmp_path / name, [full_cut(noise)])
    first = (tmp_path / name).read_bytes()
    (tmp_path / "other").mkdir()
    write_cuts(tmp_path / "other" / name, [full_cut(noise)])
    assert (tmp_path / "other" / name).read_bytes() == first


def test_a_manifest_is_replaced_only_as_a_whole(noise: Path, tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    write_cuts(path, [full_cut(noise)])
    before = path.read_bytes()

    def broken():  # type: ignore[no-untyped-def]
        yield full_cut(noise, "b")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_cuts(path, broken())
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cuts.jsonl.gz", "noise.wav"]


def test_waveforms_are_the_part_mixed_to_mono(noise: Path) -> None:
    samples, _ = soundfile.read(noise, dtype="float32")
    whole = load_waveform(make_cut("a", noise, probe(noise)), 16_000)
    assert np.allclose(whole, samples.mean(1), atol=1e-7)
    assert np.allclose(load_waveform(full_cut(noise), 16_000), samples[8_000:24_000].mean(1), atol=1e-7)
    assert len(load_waveform(full_cut(noise), 8_000)) == 8_000


def test_lhotse_loads_the_same_audio(noise: Path) -> None:
    cut = full_cut(noise)
    assert np.allclose(load_waveform(cut, 16_000), cut.load_audio().mean(0), atol=1e-6)


def test_one_channel_of_a_stereo_recording(noise: Path) -> None:
    samples, _ = soundfile.read(noise, dtype="float32")
    recording = make_cut("a", noise, probe(noise)).recording
    for channel in (0, 1):
        cut = lhotse.MonoCut("a", 0.0, 2.0, channel, recording=recording)
        assert np.allclose(load_waveform(cut, 16_000), samples[:, channel], atol=1e-7)


def test_transformed_recordings_are_left_to_lhotse(noise: Path) -> None:
    cut = make_cut("a", noise, probe(noise)).resample(8_000)
    waveform = load_waveform(cut, 8_000)
    assert len(waveform) == 16_000


def test_missing_audio_is_an_audio_error(noise: Path) -> None:
    cut = full_cut(noise)
    noise.unlink()
    with pytest.raises(AudioError, match=r"noise\.wav"):
        load_waveform(cut, 16_000)


def changed(noise: Path, **fields: object) -> str:
    return json.dumps(make_cut("a", noise, probe(noise)).to_dict() | fields)


@pytest.mark.parametrize(
    "line",
    ["nonsense", "[]", "{}", "3", "null", '"text"', '{"id": "a"}', '{"id": "a", "type": "MonoCut"}', "[" * 100_000],
)
def test_garbage_lines_are_named(noise: Path, tmp_path: Path, line: str) -> None:
    path = tmp_path / "cuts.jsonl"
    path.write_text(changed(noise) + "\n" + line + "\n")
    reader = read_cuts(path)
    assert next(reader).id == "a"
    with pytest.raises(CorpusError, match=r"cuts\.jsonl, line 2"):
        next(reader)


@pytest.mark.parametrize(
    "fields",
    [{"start": -1.0}, {"duration": 0.0}, {"duration": float("nan")}, {"start": float("inf")}, {"recording": None}],
)
def test_impossible_cuts_are_refused(noise: Path, tmp_path: Path, fields: dict[str, object]) -> None:
    (tmp_path / "cuts.jsonl").write_text(changed(noise, **fields) + "\n")
    with pytest.raises(CorpusError, match="line 1"):
        list(read_cuts(tmp_path / "cuts.jsonl"))


def test_a_manifest_runs_no_commands(noise: Path, tmp_path: Path) -> None:
    cut = make_cut("a", noise, probe(noise)).to_dict()
    witness = tmp_path / "ran"
    cut["recording"]["sources"] = [{"type": "command", "channels": [0, 1], "source": f"touch {witness}"}]
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cut) + "\n")
    with pytest.raises(CorpusError, match="must not run commands"):
        list(read_cuts(tmp_path / "cuts.jsonl"))
    assert not witness.exists()


def test_broken_files_are_named(noise: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"none\.jsonl: does not exist$"):
        list(read_cuts(tmp_path / "none.jsonl"))
    (tmp_path / "plain.jsonl.gz").write_text("not gzip\n")
    with pytest.raises(CorpusError, match=r"plain\.jsonl\.gz: is not a manifest of cuts"):
        list(read_cuts(tmp_path / "plain.jsonl.gz"))
    with pytest.raises(CorpusError, match=rf"{noise.name}: is not a manifest of cuts"):
        list(read_cuts(noise))
    with pytest.raises(CorpusError, match=r"cannot be read after line 0 \(Is a directory\)"):
        list(read_cuts(tmp_path))
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}\n')
    with pytest.raises(CorpusError, match=r"latin\.jsonl"):
        list(read_cuts(tmp_path / "latin.jsonl"))
    dice = random.Random(0)
    content = gzip.compress((changed(noise) + "\n").encode() * 100)
    for _ in range(30):  # cut short, or with a byte changed
        damaged = bytearray(content)
        damaged[dice.randrange(len(damaged))] ^= 1 + dice.randrange(255)
        (tmp_path / "cuts.jsonl.gz").write_bytes(dice.choice([damaged, content[: dice.randrange(len(content))]]))
        with contextlib.suppress(CorpusError):
            assert len(list(read_cuts(tmp_path / "cuts.jsonl.gz"))) in (0, 100)
