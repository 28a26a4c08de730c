from pathlib import Path

import pytest

from sa2sr.corpora.corpus import Problem
from sa2sr.corpora.scanning import AudioFinder, Folder, read_lines
from sa2sr.errors import CorpusError


def names(folder: Folder) -> list[str]:
    return [str(path.relative_to(folder.root)) for path in folder.files]


def test_loops_of_links_end_and_are_reported(tmp_path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.wav").touch()
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a" / "b", target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    folder = Folder(tmp_path)
    assert [name for name in names(folder) if name.endswith(".wav")] == ["a/b/x.wav"]
    assert sorted(Path(problem.item).name for problem in folder.problems) == ["again", "up"]


def test_linked_folders_outside_are_part_of_the_corpus(tmp_path) -> None:
    (tmp_path / "disk" / "dev-clean").mkdir(parents=True)
    (tmp_path / "disk" / "dev-clean" / "x.flac").touch()
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "dev-clean").symlink_to(tmp_path / "disk" / "dev-clean", target_is_directory=True)
    folder = Folder(tmp_path / "corpus")
    assert names(folder) == ["dev-clean/x.flac"]
    assert not folder.problems


def test_hidden_files_are_left_out(tmp_path) -> None:
    for name in ("b.wav", "a.WAV", "._b.wav", ".DS_Store", "notes.txt"):
        (tmp_path / name).touch()
    folder = Folder(tmp_path)
    assert names(folder) == ["a.WAV", "b.wav", "notes.txt"]
    assert [path.name for path in folder.audio()] == ["a.WAV", "b.wav"]


def test_a_folder_is_needed(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="is not a folder"):
        Folder(tmp_path / "file")


def test_audio_is_found_under_another_suffix(tmp_path) -> None:
    for name in ("a.opus", "b.MP3", "b.flac", "c.d.wav", "e.txt"):
        (tmp_path / name).touch()
    found = {
        name: AudioFinder().find(tmp_path / name).name
        for name in ("a.WAV", "a.opus", "b.wav", "c.d", "c.d.flac", "e.wav")
    }
    assert found == {
        "a.WAV": "a.opus",
        "a.opus": "a.opus",
        "b.wav": "b.flac",  # flac comes before mp3 in the list of suffixes
        "c.d": "c.d.wav",
        "c.d.flac": "c.d.wav",
        "e.wav": "e.wav",  # there is none, and the error shall name what the corpus names
    }
    assert AudioFinder().find(tmp_path / "no" / "a.wav", tmp_path / "a.wav") == tmp_path / "a.opus"


def test_accents_are_equal_however_they_are_composed(tmp_path) -> None:
    for name in ("u\u0308ber.wav", "caf\u00e9.wav"):
        (tmp_path / name).touch()
    assert AudioFinder().find(tmp_path / "\u00fcber.wav").exists()
    assert AudioFinder().find(tmp_path / "cafe\u0301.wav").exists()


def lines_of(path: Path, content: bytes, encoding: str = "utf-8") -> tuple[list[tuple[int, str]], list[Problem]]:
    path.write_bytes(content)
    problems: list[Problem] = []
    return list(read_lines(path, problems, encoding)), problems


def test_lines_in_several_encodings(tmp_path) -> None:
    path = tmp_path / "x.txt"
    assert lines_of(path, "\ufeffaé\r\nb\n\nc".encode()) == ([(1, "aé"), (2, "b"), (3, ""), (4, "c")], [])
    for encoding in ("utf-16-le", "utf-16-be"):
        assert lines_of(path, ("\ufeff" + "aé\r\nb\n").encode(encoding)) == ([(1, "aé"), (2, "b")], [])
    found, problems = lines_of(path, b"good\ncaf\xe9\nbetter \xc3\xa9\n")
    assert found == [(1, "good"), (3, "better é")]
    assert [problem.item for problem in problems] == [f"{path}, line 2"]
    assert r"caf\xe9" in problems[0].detail
    assert lines_of(path, b"caf\xe9\n", "latin-1") == ([(1, "café")], [])
    assert lines_of(path, b"") == ([], [])


def test_lines_that_are_not_wanted_are_no_problem(tmp_path) -> None:
    path = tmp_path / "x.txt"
    for content in (b"; caf\xe9\ngood\n;\nbad \xe9\n", "; café\ngood\n;\n".encode("utf-16")):
        path.write_bytes(content)
        problems: list[Problem] = []
        found = list(read_lines(path, problems, relevant=lambda line: not line.startswith(";")))
        assert found == [(2, "good")]
        assert [problem.item for problem in problems] == [f"{path}, line 4"] * (b"bad" in content)
        assert {problem.lost for problem in problems} <= {"line"}


def test_names_that_the_system_refuses(tmp_path) -> None:
    long = tmp_path / f"{'x' * 300}.wav"
    assert AudioFinder().find(long) == long


def test_endless_lines_and_missing_files(tmp_path) -> None:
    with pytest.raises(CorpusError, match="line 1: is longer"):
        lines_of(tmp_path / "x.txt", b"x" * 3_000_000)
    with pytest.raises(CorpusError, match=r"none\.txt: cannot be read"):
        list(read_lines(tmp_path / "none.txt", []))
