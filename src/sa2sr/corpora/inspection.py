"""Looking at many audio files at once, in several processes, each of which imports nothing heavy."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sa2sr.audio import AudioInfo, probe, verify
from sa2sr.errors import AudioError
from sa2sr.processes import map_in_processes
from sa2sr.progress import progress

_CHUNK = 64  # files that a process takes at a time; fewer altogether are not worth a process

Finding = AudioInfo | AudioError


def inspect(paths: Sequence[Path], *, decode: bool, jobs: int | None = None) -> dict[Path, Finding]:
    """What each file holds, or what is wrong with it.

    Args:
        paths: audio files
        decode: decode them to the end, rather than read their headers
        jobs: processes; by default one a processor
    """
    found: dict[Path, Finding] = {}
    with progress("Decoding audio" if decode else "Reading headers", len(paths)) as advance:
        look = partial(_finding, decode=decode)
        for path, finding in map_in_processes(look, paths, killed=_killed, chunk=_CHUNK, jobs=jobs):
            found[path] = finding
            advance(1)
    return found


def _finding(path: Path, decode: bool) -> Finding:
    try:
        return verify(path) if decode else probe(path)
    except AudioError as error:
        return error


def _killed(path: Path) -> Finding:
    return AudioError(path, "kills the process that decodes it")
