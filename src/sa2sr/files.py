"""Writing files so that a reader sees the old content or the new, never half of it.

And what goes with it: claiming what is written, and reading JSON that others, or a process that was killed, have left.
"""

import glob
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

MOST_BYTES = 50_000_000  # of a file that is read at once, if nothing else is known of it


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that is renamed to it when the block ends well.

    The temporary name keeps the suffix of ``path`` (writers choose formats by it) and is removed when the block fails.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix="".join(path.suffixes)[-20:], dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if error.filename in (None, name):  # a full disk says nothing of whose writing failed
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def claimed(lock: str | Path, error: Exception, *, patience: float = 0) -> Iterator[None]:
    """Keep to this process what a lock file stands for; its folder is made.

    The system gives the claim of a process that was killed to the next one, so the file may stay where it is.

    Args:
        lock: the file
        error: raised if another process holds it
        patience: seconds to wait for that process
    """
    path = Path(lock)
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path, timeout=patience)
    try:
        held.acquire()
    except Timeout:
        raise error from None
    try:
        yield
    finally:
        held.release()


def remove_remainders(*paths: Path) -> None:
    """Remove what writers of these files left behind that were killed; only who keeps all others away may do it."""
    for path in paths:
        for remainder in path.parent.glob(f".{glob.escape(path.name[:80])}.*"):
            remainder.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write indented JSON atomically; NaN and infinity are refused, since JSON has none."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic(path) as temporary:
        temporary.write_bytes(text.encode(errors="backslashreplace"))  # half a surrogate pair becomes its JSON escape


def read_json(path: str | Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Read a JSON object from a file that may be missing, half written or hostile.

    Raises:
        ValueError: what is wrong with it, to be said after its path
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror or error})") from None
    if len(content) > most_bytes:
        raise ValueError(f"is larger than {most_bytes:,} bytes")
    try:
        value = json.loads(content)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
