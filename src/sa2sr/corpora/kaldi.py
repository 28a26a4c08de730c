r"""A Kaldi data directory, as speechocean762 and many others come: one directory, or several that become splits.

Fields are separated by spaces or tabs::

    text        000010011	WE CALL IT BEAR
    wav.scp     000010011	WAVE/SPEAKER0001/000010011.WAV
    utt2spk     000010011 0001
    spk2gender  0001	m
    segments    utt1 recording1 2.32 4.80

``spk2gender`` and ``segments`` are optional; with ``segments``, ``wav.scp`` lists recordings. Relative paths are
looked up in the directory and in its parent. Entries of ``wav.scp`` may be commands (``sox ... |``): they are
reported and never run.
"""

from collections.abc import Iterator
from pathlib import Path

from sa2sr.corpora.corpus import Corpus, Entry, NoOptions, Problem, Utterance
from sa2sr.corpora.scanning import AudioFinder, read_lines
from sa2sr.errors import CorpusError

_GENDERS = {"f": "female", "m": "male", "female": "female", "male": "male"}


def read(source: Path, options: NoOptions) -> Iterator[Entry]:
    """The utterances of a directory with ``wav.scp`` and ``text``, or of those one level below."""
    if not source.is_dir():
        raise CorpusError(f"{source}: is not a folder")
    below = sorted(path for path in source.iterdir() if (path / "wav.scp").is_file())
    directories = [source] if (source / "wav.scp").is_file() else below
    if not directories:
        raise CorpusError(f"{source}: neither it nor a folder in it holds a wav.scp")
    for directory in directories:
        yield from _read_directory(directory)


def _read_directory(directory: Path) -> Iterator[Entry]:
    problems: list[Problem] = []
    finder = AudioFinder()
    split = directory.absolute().name
    table = {name: _Table(directory / name, problems) for name in ("wav.scp", "text", "utt2spk", "spk2gender")}
    if not (directory / "text").is_file():
        raise CorpusError(f"{directory}: holds no 'text' with the transcripts")
    segments = _Table(directory / "segments", problems)

    recordings: dict[str, Path] = {}
    for name, value in table["wav.scp"].items():
        if value.startswith("|") or value.endswith("|") or not value or value == "-":
            yield Problem("audio is the output of a command", name, f"'{value[:80]}'; run it and name its file instead")
        else:
            recordings[name] = finder.find(directory / value, directory.parent / value)

    spoken = segments or dict.fromkeys(recordings, "")
    for name, segment in spoken.items():
        try:
            recording, start, end = segment.split() if segment else (name, "0", "-1")
            begin, stop = float(start), float(end)
        except ValueError:
            yield Problem("not a segment", name, f"'{segment[:80]}' is not <recording> <start> <end>")
            continue
        if recording not in recordings:
            yield Problem("segment of a recording that wav.scp lacks", name, recording)
            continue
        speaker = table["utt2spk"].get(name)
        yield Utterance(
            name,
            split,
            recordings[recording],
            text=table["text"].get(name),
            speaker=speaker,
            gender=_GENDERS.get(table["spk2gender"].get(speaker or "", "").lower()),
            start=begin,
            end=None if stop == -1 else stop,  # Kaldi's sign for the end of the recording
        )
    for name in sorted(table["text"].keys() - spoken.keys()):
        yield Problem("transcript without audio", name, str(directory / "text"))
    yield from problems


class _Table(dict[str, str]):
    """A Kaldi table: a key, white space, and the rest of the line; empty if there is no such file."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        super().__init__()
        for number, line in read_lines(path, problems) if path.is_file() else ():
            key, *rest = line.split(maxsplit=1)[:2] or [""]
            if key in self:
                detail = f"'{key}'; the first is kept"
                problems.append(Problem("key twice in a table", f"{path}, line {number}", detail, lost="line"))
            elif key:
                self[key] = rest[0].strip() if rest else ""


CORPUS = Corpus("kaldi", "a directory with text, wav.scp and utt2spk, or several", read, needs_text=True)
