"""Examples do what they say."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import sa2sr
from sa2sr.audio import probe
from sa2sr.config import Scale
from sa2sr.cuts import make_cut, write_cuts

RandomModel = Callable[..., Path]
Voice = Callable[..., NDArray[np.float32]]
SCALE = Scale(name="1-7", low=1, high=7)
EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str | Path, pipe: bytes = b"") -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    found = subprocess.run(command, input=pipe, capture_output=True, timeout=300)
    assert found.returncode == 0, found.stderr.decode()
    return found.stdout.decode()


def test_group_difference(random_model: RandomModel, voice: Voice, tmp_path: Path) -> None:
    model, lines = random_model(gain=3), ["file,speaker,group"]
    for number in range(8):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, voice(1.0, number), 16_000)
        lines.append(f"{path},s{number % 4},{'ab'[number % 2]}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    printed = run("group_difference.py", tmp_path / "table.csv", model).splitlines()
    assert printed[0] == "a (2 speakers) minus b (2), scale 1-7"
    valence = sa2sr.load(model).predict([tmp_path / f"{n}.wav" for n in range(8)]).column("valence")
    name, difference, low, high = printed[2].replace("[", "").replace("]", "").replace(",", "").split()
    assert name == "valence"
    assert float(difference) == pytest.approx(valence[::2].mean() - valence[1::2].mean(), abs=0.01)
    assert float(low) <= float(difference) <= float(high)


def test_live_alert(random_model: RandomModel, voice: Voice) -> None:
    loud = np.concatenate([voice(20.0, 1), np.zeros(10 * 16_000, np.float32), voice(20.0, 2)])
    pipe = (loud * 32_000).astype("<i2").tobytes()
    model = random_model()
    rows = sa2sr.load(model).stream(16_000).push(np.frombuffer(pipe, "<i2"))
    assert isinstance(rows[4], sa2sr.Row)
    always = run("live_alert.py", "1.01", model, pipe=pipe).splitlines()
    assert [json.loads(line)["at"] for line in always] == [rows[4].end]
    assert run("live_alert.py", "0", model, pipe=pipe) == ""


def test_lowest_valence(random_model: RandomModel, voice: Voice, tmp_path: Path) -> None:
    (tmp_path / "calls").mkdir()
    for number in range(3):
        soundfile.write(tmp_path / "calls" / f"{number}.wav", voice(7.0, number), 16_000)
    model = random_model(gain=3)
    table = sa2sr.load(model).predict(tmp_path / "calls", window=6, hop=3)
    means = {file: np.mean([r.valence for r in table if r.file == file]) for file in {r.file for r in table}}
    printed = run("lowest_valence.py", tmp_path / "calls", "2", model).splitlines()
    assert [line.split()[1] for line in printed[1:]] == sorted(means, key=lambda file: means[file])[:2]


def test_emotions_and_recording_conditions(random_model: RandomModel, voice: Voice, tmp_path: Path) -> None:
    """Both tables, and the row without a change against what the model predicts of the files."""
    model, files, cuts = random_model(gain=3), [], []
    for number in range(8):
        files.append(tmp_path / f"{number}.wav")
        soundfile.write(files[-1], voice(1.0, number), 16_000, subtype="FLOAT")
        ratings = {"activation": 1 + 0.5 * number, "valence": 5 - 0.3 * number}
        emotion = ("angry", "happy", "sad", "sad")[number % 4]
        cut = make_cut(str(number), files[-1], probe(files[-1]), emotion=emotion, ratings=ratings, scale=SCALE)
        cuts.append(cut)
    write_cuts(tmp_path / "cuts.jsonl", cuts)
    table = sa2sr.load(model).predict(files)

    heading, _, first, *others = run("recording_conditions.py", tmp_path / "cuts.jsonl", model).splitlines()
    assert "activation CCC" in heading
    assert len(others) == 10
    assert all(row.count("|") == heading.count("|") for row in others)
    name, activation, valence, dominance, angry, happy, *still = first.strip("| ").split(" | ")
    assert (name, still) == ("as recorded", ["0.000", "0.000"])
    cut_off, *_, by = others[0].strip("| ").split(" | ")
    later = [sa2sr.load(model).predict(voice(1.0, number)[240:], 16_000)[0].valence for number in range(8)]
    assert cut_off == "15 ms cut off in front"
    assert float(by) == pytest.approx(np.abs(table.column("valence") - later).mean(), abs=6e-4)
    for printed, dimension, truth in (
        (activation, "activation", 1 + 0.5 * np.arange(8)),
        (valence, "valence", 5 - 0.3 * np.arange(8)),
    ):
        predicted = table.column(dimension)
        (spread, shared), (_, true_spread) = np.cov(predicted, truth, bias=True)
        expected = 2 * shared / (spread + true_spread + (predicted.mean() - truth.mean()) ** 2)
        assert float(printed) == pytest.approx(expected, abs=6e-4)
    assert dominance == "nan"
    heard = table.column("activation")
    for printed, start in ((angry, 0), (happy, 1)):
        pairs = [heard[high] > heard[low] for high in (start, start + 4) for low in (2, 3, 6, 7)]
        assert float(printed) == pytest.approx(np.mean(pairs))

    def printed_auc(*pairs: object) -> str:
        rows = run("emotions_apart.py", *pairs).splitlines()
        return next(row for row in rows if row.startswith("| angry above sad: 6 |")).split("|")[2].split()[0]

    assert printed_auc(tmp_path / "cuts.jsonl", model) == angry
    for part in (0, 1):
        write_cuts(tmp_path / f"{part}.jsonl", cuts[4 * part : 4 * part + 4])
    assert printed_auc(tmp_path / "0.jsonl", model, tmp_path / "1.jsonl", model) == angry  # parts of a whole
