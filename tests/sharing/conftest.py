import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sharing.stand_in import TOKEN, Hub, serve

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve() as hub:
        yield hub


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Run:
    """``run("predict", "a.wav")`` runs the command line, and ``run("-c", program)`` a program, against the stand-in.

    What the hub's library reads of the environment it reads once, so that only a new process heeds it.
    """

    def command(*arguments: str | Path, **variables: str) -> "subprocess.CompletedProcess[str]":
        own = {
            "HF_HOME": str(tmp_path / "hub-home"),
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "SA2SR_"))}
        program = [] if arguments[0] == "-c" else ["-m", "sa2sr"]
        return subprocess.run(
            [sys.executable, *program, *map(str, arguments)],
            env=inherited | own | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return command
