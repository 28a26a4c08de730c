"""The feature store: frames computed once, kept as fp16 in memory-mapped shards.

A shard holds the frames of some hundred cuts at one speed. Its name is a digest of everything that it depends on
(front end, speed, and of each cut: file, size, time of change, channels, start and duration), so a store may be shared
by any number of runs and never serves stale frames. Shards are written atomically under a lock: several processes and
several runs can build the same store, and an interrupted one goes on where it stopped.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sa2sr.audio import change_speed
from sa2sr.config import FrontEnd
from sa2sr.cuts import Cut, load_waveform
from sa2sr.errors import AudioError, CorpusError
from sa2sr.files import atomic, remove_remainders
from sa2sr.processes import map_in_processes
from sa2sr.progress import progress
from sa2sr.speech.features import extract

CUTS_A_SHARD = 128
_VERSION = 2  # of what `extract` computes and of the layout of a shard


@dataclass(frozen=True)
class _Shard:
    path: Path
    cuts: Sequence[Cut]
    speed: float


class StoredFrames:
    """The frames of a sequence of cuts at several speeds, read on demand from memory-mapped shards."""

    def __init__(self, shards: dict[float, list[Path]]) -> None:
        self._shards = shards
        self._lengths: dict[Path, NDArray[np.int64]] = {}
        self.errors: dict[int, str] = {}  # position of a cut -> why its audio cannot be read
        for paths in shards.values():
            for number, path in enumerate(paths):
                self._read_header(path, first=number * CUTS_A_SHARD)
        self._open: dict[Path, Any] = {}  # slices of safetensors

    def __call__(self, position: int, speed: float) -> NDArray[np.float16]:
        """(T, filters) normalised frames of the cut at ``position``.

        Raises:
            AudioError: if its audio could not be read
            CorpusError: if the store has been damaged since it was opened
        """
        if position in self.errors:
            audio, _, reason = self.errors[position].partition(": ")
            raise AudioError(audio, reason)
        path = self._shards[speed][position // CUTS_A_SHARD]
        within = position % CUTS_A_SHARD
        ends = self._lengths[path]
        start = int(ends[within - 1]) if within else 0
        if path not in self._open:
            try:
                self._open[path] = safe_open(path, "numpy").get_slice("frames")  # type: ignore[no-untyped-call]
            except (OSError, SafetensorError) as error:
                raise _damaged(path, error) from None
        frames: NDArray[np.float16] = self._open[path][start : int(ends[within])]
        return frames

    def __getstate__(self) -> dict[str, object]:
        """Maps are opened again in the process that receives this."""
        return self.__dict__ | {"_open": {}}

    def _read_header(self, path: Path, first: int) -> None:
        try:
            with safe_open(path, "numpy") as file:
                cuts = json.loads(file.metadata()["cuts"])
                steps, _ = file.get_slice("frames").get_shape()
            lengths = np.array(cuts["lengths"], np.int64)
            if lengths.min() < 0 or lengths.sum() != steps:
                raise ValueError(f"it should have {lengths.sum()} frames, and has {steps}")
            errors = {first + int(within): str(reason) for within, reason in cuts["errors"].items()}
        except (OSError, SafetensorError, TypeError, LookupError, AttributeError, ValueError) as error:
            raise _damaged(path, error) from None
        self._lengths[path] = np.cumsum(lengths)
        self.errors |= errors


def _damaged(path: Path, error: Exception) -> CorpusError:
    return CorpusError(
        f"{path}: is a damaged part of the feature store ({error}); remove it, to have it computed again"
    )


def build_store(
    folder: str | Path, cuts: Sequence[Cut], frontend: FrontEnd, speeds: Sequence[float], workers: int | None = None
) -> StoredFrames:
    """Compute what the store lacks, then open it.

    Args:
        folder: of the store
        cuts: in the order in which they will be asked for
        frontend: how frames are computed
        speeds: factors of speed perturbation
        workers: processes; one a core by default

    A cut whose audio cannot be read gets no frames and an entry in ``errors``; the others are not affected.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    signatures = [_signature(cut) for cut in cuts]
    shards: dict[float, list[_Shard]] = {speed: [] for speed in speeds}
    for start in range(0, len(cuts), CUTS_A_SHARD):
        part = slice(start, start + CUTS_A_SHARD)
        for speed in speeds:
            # Its kind is LFBE: the waveforms themselves are not stored.
            name = _digest([_VERSION, frontend.model_dump(exclude={"kind"}), speed, signatures[part]])
            shards[speed].append(_Shard(folder / f"{name}.safetensors", cuts[part], speed))
    _build_missing([shard for of_speed in shards.values() for shard in of_speed], frontend, workers)
    return StoredFrames({speed: [shard.path for shard in of_speed] for speed, of_speed in shards.items()})


def _build_missing(shards: Sequence[_Shard], frontend: FrontEnd, workers: int | None) -> None:
    missing = [shard for shard in shards if not shard.path.exists()]
    if not missing:
        return
    build = partial(_build, frontend=frontend)
    with progress("Features", total=sum(len(shard.cuts) for shard in missing)) as advance:
        for shard, _ in map_in_processes(build, missing, killed=_blame, jobs=workers, chunk=1):
            advance(len(shard.cuts))


def _blame(shard: _Shard) -> None:
    raise CorpusError(
        f"reading one of the {len(shard.cuts)} cuts from {shard.cuts[0].id} to {shard.cuts[-1].id} kills the process "
        "that does; 'sa2sr prepare' finds such files"
    )


def _build(shard: _Shard, frontend: FrontEnd) -> None:
    with FileLock(shard.path.with_suffix(".lock")):
        if shard.path.exists():  # another process was faster
            return
        remove_remainders(shard.path)
        frames, errors = [], {}
        for within, cut in enumerate(shard.cuts):
            try:
                waveform = change_speed(load_waveform(cut, frontend.sampling_rate), shard.speed)
                frames.append(extract(waveform, frontend).astype(np.float16))
            except AudioError as error:
                errors[within] = str(error)
                frames.append(np.zeros((0, frontend.filters), np.float16))
        # One entry of metadata: several would be written in an order that differs from process to process.
        metadata = {"cuts": json.dumps({"lengths": [len(f) for f in frames], "errors": errors})}
        with atomic(shard.path) as temporary:
            temporary.write_bytes(save({"frames": np.concatenate(frames)}, metadata))


def _signature(cut: Cut) -> list[object]:
    """What the frames of a cut depend on."""
    files = []
    for source in cut.recording.sources:
        try:
            status = os.stat(source.source)
            files.append([str(source.source), status.st_size, status.st_mtime_ns, list(source.channels)])
        except (OSError, TypeError, ValueError):  # missing, or not a file: known by what the manifest says
            files.append([source.type, _digest(repr(source.source)), 0, list(source.channels)])
    transforms = [str(transform) for transform in cut.recording.transforms or []]
    return [files, transforms, cut.channel, cut.start, cut.duration]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
