"""Benchmarks take too long to run here, but they must begin."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))
EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_explains_itself(path: Path) -> None:
    found = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True, timeout=120)
    assert (found.returncode, "usage: " in found.stdout) == (0, True), found.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_explains_itself(path: Path) -> None:
    found = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=120)
    assert (found.returncode, f"python examples/{path.name}" in found.stderr) == (1, True), found.stderr
