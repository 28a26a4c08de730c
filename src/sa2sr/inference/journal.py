"""A table on its way to disk, which goes on where it stopped when its job was killed.

    OUT.partial      the rows so far, in the format of the table (JSON lines for Parquet)
    OUT.journal      JSON lines: what the job is; then, after each chunk of its sources, how far it has come
    OUT.lock         keeps other jobs away

A line of the journal says how many bytes of ``OUT.partial`` belong to finished sources. What comes after them, half a
row perhaps, is cut off when the job goes on. These files are gone when the table is complete.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from sa2sr.errors import TableError
from sa2sr.files import atomic, claimed, write_json
from sa2sr.inference.formats import beginning, encoded, scale_file, suffix_of, to_parquet
from sa2sr.inference.rows import Failure, Heading, Row


@dataclass(frozen=True)
class Position:
    """How far a job has come."""

    sources: int = 0  # finished
    digest: str = ""  # of them
    rows: int = 0
    seconds: float = 0.0  # of audio
    bytes: int = 0  # of the partial table


class Journal:
    """Writes a table; use it as a context manager.

    When the block ends well after :meth:`complete`, the table has its name and the scale is beside it. An interruption
    leaves what another job continues.

    Attributes:
        position: where the job goes on
        failures: of the sources before
    """

    def __init__(self, out: str | Path, heading: Heading, job: Mapping[str, Any], *, resume: bool) -> None:
        """Open it.

        Args:
            out: the table
            heading: what its numbers are
            job: what else decides about them, in JSON
            resume: continue what was interrupted, if anything was

        Raises:
            TableError: if it cannot be written, another job is writing it, or what was interrupted is another job
        """
        self.out, self.heading = Path(out), heading
        suffix = suffix_of(self.out)
        self._suffix = ".jsonl" if suffix == ".parquet" else suffix
        self._job = json.loads(json.dumps({"format": 1, **heading.described(), **job}))
        self.partial, self.journal = Path(f"{out}.partial"), Path(f"{out}.journal")
        self.position, self.failures = Position(), list[Failure]()
        self._claim, self._lock = ExitStack(), Path(f"{out}.lock")
        busy = TableError(f"{self.out}: another job is writing this table; choose another --out")
        try:
            self._claim.enter_context(claimed(self._lock, busy))
        except OSError as error:
            raise TableError(f"{self.out}: cannot be written ({error.strerror or error})") from None
        try:
            if not (resume and self._continue()):
                self._begin()
            self._table: IO[bytes] = self.partial.open("ab")
            self._log: IO[bytes] = self.journal.open("ab")
        except BaseException as error:
            self._unlock()
            if isinstance(error, OSError):
                raise TableError(f"{self.out}: cannot be written ({error.strerror or error})") from None
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for file in (self._table, self._log):
            with suppress(OSError):  # of what could not be written, which has been raised
                file.close()
        self._unlock()
        if isinstance(error, OSError):
            raise TableError(f"{self.partial}: cannot be written ({error.strerror or error})") from error

    def add(self, row: Row) -> None:
        """Write a row."""
        self._table.write(encoded(row, self._suffix, self.heading))

    def checkpoint(self, position: Position, failures: list[Failure]) -> None:
        """Note how far the job has come; ``position.bytes`` is filled in here.

        Args:
            position: of the job
            failures: since the last time
        """
        self._table.flush()
        line = {**asdict(position), "bytes": self._table.tell(), "failures": [asdict(each) for each in failures]}
        self._log.write(json.dumps(line).encode() + b"\n")
        self._log.flush()
        self.failures += failures

    def complete(self) -> None:
        """Give the table its name.

        Raises:
            TableError: if that is not possible
        """
        try:
            self._table.flush()
            os.fsync(self._table.fileno())
            write_json(scale_file(self.out), self.heading.described())
            if self.out.suffix.lower() == ".parquet":
                with atomic(self.out) as temporary:
                    to_parquet(self.partial, temporary, self.heading)
                self.partial.unlink()
            else:
                self.partial.replace(self.out)
            self.journal.unlink()
        except OSError as error:
            raise TableError(f"{self.out}: cannot be written ({error.strerror or error})") from None

    def discard(self) -> None:
        """Leave nothing behind."""
        for path in (self.partial, self.journal):
            path.unlink(missing_ok=True)

    def _unlock(self) -> None:
        with suppress(OSError):  # Windows does not remove what is open
            self._lock.unlink()
        self._claim.close()

    def _begin(self) -> None:
        self.journal.unlink(missing_ok=True)  # first: it must never describe another partial table
        start = beginning(self._suffix, self.heading)
        self.partial.write_bytes(start)
        self.journal.write_bytes(b"".join(json.dumps(x).encode() + b"\n" for x in (self._job, {"bytes": len(start)})))

    def _continue(self) -> bool:
        """Find the last position of an interrupted job and cut off what comes after it; false where there is none."""
        try:
            size = self.partial.stat().st_size
            entries = list(_entries(self.journal))
        except FileNotFoundError:
            return False
        if len(entries) < 2:
            return False
        job, _ = entries[0]
        for key in {**job, **self._job}:
            if job.get(key) != self._job.get(key):
                was, now = (str(each.get(key))[:80] for each in (job, self._job))
                raise TableError(
                    f"{self.journal}: was begun with {key} {was}, not {now}; do as then, or begin anew without --resume"
                )
        # After a power failure the journal may be ahead of the table.
        reached = [(entry, end) for entry, end in entries[1:] if entry["bytes"] <= size]
        if not reached:
            return False
        entry, end = reached[-1]
        for each, _ in reached:
            self.failures += [Failure(**failure) for failure in each.get("failures", ())]
        self.position = Position(**{name: entry[name] for name in asdict(Position()) if name in entry})
        os.truncate(self.partial, self.position.bytes)
        os.truncate(self.journal, end)
        return True


def _entries(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """The whole lines of a journal, each with where it ends."""
    end = 0
    with path.open("rb") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                return
            if not line.endswith(b"\n") or not isinstance(entry, dict):
                return
            end += len(line)
            yield entry, end
