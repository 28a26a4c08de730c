import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sa2sr.audio import AudioInfo
from sa2sr.corpora import inspection
from sa2sr.corpora.inspection import inspect
from sa2sr.errors import AudioError

# What Python runs when it starts, in the processes that look at files too: a decoder with a fault in its C library.
FRAGILE = """
import os, time
import sa2sr.audio

really = sa2sr.audio.verify

def verify(path):
    if path.name == "fatal.wav":
        os._exit(1)
    if path.name == "slow.wav":
        (path.parent / "begun").touch()
        time.sleep(0.2)
    return really(path)

sa2sr.audio.verify = verify
"""


@pytest.fixture
def fragile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started from now on have the fault."""
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(FRAGILE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "start"), *filter(None, sys.path)]))


def test_processes_find_the_same_as_one(tmp_path, write_speech, monkeypatch) -> None:
    paths = [write_speech(tmp_path / f"{number}.flac", 0.01 * (1 + number)) for number in range(10)]
    paths[3].write_bytes(paths[3].read_bytes()[:60])
    paths.append(tmp_path / "missing.wav")
    monkeypatch.setattr(inspection, "_CHUNK", 3)
    alone = inspect(paths, decode=True, jobs=1)
    together = inspect(paths, decode=True, jobs=2)
    assert set(alone) == set(paths)
    assert {path: str(found) for path, found in alone.items()} == {path: str(found) for path, found in together.items()}
    assert alone[paths[4]] == AudioInfo(16_000, 800, 1)
    assert isinstance(together[paths[3]], AudioError)
    assert isinstance(together[tmp_path / "missing.wav"], AudioError)


@pytest.mark.usefixtures("fragile")
def test_a_file_that_kills_the_decoder_is_lost_alone(tmp_path, write_speech, monkeypatch) -> None:
    paths = [write_speech(tmp_path / f"{name}.wav") for name in ("a", "b", "fatal", "c", "d", "e")]
    monkeypatch.setattr(inspection, "_CHUNK", 2)
    found = inspect(paths, decode=True, jobs=2)
    assert {path.stem for path in paths if isinstance(found[path], AudioError)} == {"fatal"}
    assert "kills" in str(found[paths[2]])


@pytest.mark.usefixtures("fragile")
def test_an_interruption_is_answered_at_once(tmp_path, write_speech) -> None:
    """Not when all that is waiting has been decoded, which would take a minute."""
    write_speech(tmp_path / "slow.wav")
    (tmp_path / "inspect.py").write_text(
        "from pathlib import Path\n"
        "from sa2sr.corpora import inspection\n"
        "if __name__ == '__main__':\n"
        "    inspection._CHUNK = 2\n"
        f"    inspection.inspect([Path({str(tmp_path / 'slow.wav')!r})] * 600, decode=True, jobs=2)\n"
    )
    process = subprocess.Popen([sys.executable, str(tmp_path / "inspect.py")], stderr=subprocess.DEVNULL)
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
