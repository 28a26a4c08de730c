import multiprocessing
import os
from pathlib import Path

import pytest

from sa2sr.audio import AudioInfo
from sa2sr.corpora import inspection
from sa2sr.corpora.inspection import inspect
from sa2sr.errors import AudioError


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


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="the fault is handed on by forking")
def test_a_file_that_kills_the_decoder_is_lost_alone(tmp_path, write_speech, monkeypatch) -> None:
    paths = [write_speech(tmp_path / f"{number}.wav") for number in range(6)]
    really = inspection.verify

    def fragile(path: Path) -> AudioInfo:
        if path == paths[2]:
            os._exit(1)
        return really(path)

    monkeypatch.setattr(inspection, "_CHUNK", 2)
    monkeypatch.setattr(inspection, "verify", fragile)  # as a fault in a C library would do
    found = inspect(paths, decode=True, jobs=2)
    assert [path for path in paths if isinstance(found[path], AudioError)] == [paths[2]]
    assert "kills" in str(found[paths[2]])
