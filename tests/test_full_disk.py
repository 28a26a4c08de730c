"""What cannot be written is named in one line, by commands in processes whose files may not grow beyond a limit."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from sa2sr.audio import probe
from sa2sr.config import Scale
from sa2sr.cuts import make_cut, write_cuts

LIMIT = 2_000  # bytes of a file


def limited(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sa2sr", *map(str, arguments)],
        env=os.environ | {"PATH": ""},  # no git, which would leave a lock behind when it cannot write its index
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)),
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("verb", ["evaluate", "predict", "pack"])
def test_a_file_that_cannot_be_written(
    verb: str, random_model: Callable[..., Path], voice: Callable[..., object], tmp_path: Path
) -> None:
    model, out = random_model(), tmp_path / "out"
    soundfile.write(tmp_path / "clip.wav", voice(0.5), 16_000)
    clip = tmp_path / "clip.wav"
    write_cuts(
        tmp_path / "test.jsonl",
        (
            make_cut(f"utterance-{n}", clip, probe(clip), ratings={"valence": 1.0 + n / 20}, scale=Scale())
            for n in range(60)
        ),
    )
    given = {path for path in tmp_path.rglob("*") if path.is_file()}
    arguments: dict[str, tuple[str | Path, ...]] = {
        "evaluate": (model, tmp_path / "test.jsonl", "--out", out, "--resamples", "1"),
        "predict": (*[clip] * 60, "--model", model, "--out", tmp_path / "out.csv", "--window", "0.3", "--hop", "0.1"),
        "pack": (model, out),
    }
    answer = limited(verb, *arguments[verb])
    assert answer.returncode == 2, answer.stderr
    assert "Traceback" not in answer.stderr
    line = answer.stderr.strip().splitlines()[-1]
    assert line.startswith(f"sa2sr: {tmp_path / 'out'}")
    assert line.endswith(("File too large", "(File too large)"))
    left = {path.name for path in tmp_path.rglob("*") if path.is_file() and path not in given}
    assert left == ({"out.csv.partial", "out.csv.journal"} if verb == "predict" else set())  # for --resume


@pytest.mark.parametrize("arguments", [("recipe", "sa2sr-small"), ("--help",)])
def test_a_terminal_s_file_on_a_full_disk(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(
            [sys.executable, "-m", "sa2sr", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=300
        )
    assert (answer.returncode, answer.stderr) == (2, "sa2sr: No space left on device\n")
