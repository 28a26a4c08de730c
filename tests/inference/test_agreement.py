"""What an export loses, measured by a command."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from sa2sr.audio import probe
from sa2sr.cli import main
from sa2sr.config import DIMENSIONS, Scale
from sa2sr.cuts import make_cut, write_cuts
from sa2sr.errors import CorpusError
from sa2sr.inference import load
from sa2sr.inference.agreement import check_agreement
from sa2sr.inference.export import export

Voice = Callable[..., NDArray[np.float32]]
SCALE = Scale(name="1-7", low=1, high=7)


@pytest.fixture(scope="module")
def model(random_model: Callable[..., Path]) -> Path:
    return random_model(heads=("ctc", "emotion"), gain=4)


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory, voice: Voice, model: Path) -> Path:
    """Eight utterances whose ratings are near the predictions; dominance is not rated."""
    folder, random = tmp_path_factory.mktemp("cuts"), np.random.default_rng(0)
    made = []
    for number in range(8):
        path = folder / f"{number}.wav"
        soundfile.write(path, voice(1 + number / 4, number), 16_000)
        (row,) = load(model, engine="torch").predict(path)
        ratings = {name: float(np.clip(getattr(row, name) + random.normal(0, 0.2), 1, 7)) for name in DIMENSIONS[:2]}
        made.append(make_cut(str(number), path, probe(path), ratings=ratings, scale=SCALE))
    (folder / "0.wav").unlink()
    write_cuts(folder / "cuts.jsonl.gz", made)
    return folder / "cuts.jsonl.gz"


def test_what_is_measured(model: Path, cuts: Path, tmp_path: Path) -> None:
    out = export(model, tmp_path / "out")
    found = check_agreement(model, out, [cuts])
    assert (found["utterances"], len(found["failures"])) == (7, 1)
    assert found == json.loads((out / "agreement.json").read_text())
    files = [cuts.parent / f"{number}.wav" for number in range(1, 8)]
    tables = {
        "torch": load(model, engine="torch").predict(files),
        "fp32": load(out).predict(files),
        "int8": load(out, int8=True).predict(files),
    }
    for name in ("fp32", "int8"):
        for dimension in DIMENSIONS:
            moved = np.abs(tables[name].column(dimension) - tables["torch"].column(dimension))
            # Tables have six decimals.
            assert found[name][dimension]["largest_difference"] == pytest.approx(moved.max(), abs=2e-6)
        assert "cost" not in found[name]["dominance"]
        assert found[name]["valence"]["rated"] == 7
        assert found[name]["valence"]["cost"] == found[name]["valence"]["ccc_torch"] - found[name]["valence"]["ccc"]
    assert found["fp32"]["transcripts_cer"] == 0
    assert found["fp32"]["valence"]["largest_difference"] < 1e-4 < found["int8"]["valence"]["largest_difference"]


def test_the_command_fails_where_too_much_is_lost(
    model: Path,
    cuts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    random_model: Callable[..., Path],
) -> None:
    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["sa2sr", "export", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        return int(exit_.value.code or 0)

    assert run(model, tmp_path / "fine", "--no-int8", "--check", cuts) == 0
    printed = capsys.readouterr().out
    assert "fp32 valence: at most" in printed
    assert "CCC" in printed
    # The graphs of one model do not agree with another.
    other = random_model(heads=("ctc", "emotion"), gain=4, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sa2sr.inference.export.export", lambda _, out, **options: export(other, out))
        assert run(model, tmp_path / "other", "--check", cuts) == 1
    assert "more is lost than should be" in capsys.readouterr().err


def test_cuts_without_audio(model: Path, cuts: Path, tmp_path: Path) -> None:
    content = cuts.parent / "none.jsonl.gz"
    info = probe(cuts.parent / "1.wav")
    write_cuts(content, [make_cut("a", cuts.parent / "gone.wav", info, ratings={"valence": 3}, scale=SCALE)])
    with pytest.raises(CorpusError, match="no audio can be read"):
        check_agreement(model, export(model, tmp_path / "out"), [content])
