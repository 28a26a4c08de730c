"""`sa2sr predict` on one file of many hours, and on a folder of very many clips: does memory grow, and is all done?

- long: a recording of ten hours beside one of a minute, in windows; `memory_ratio` is the peak of the long one divided
  by that of the short one
- many: a folder of a hundred thousand clips beside one of a thousand; `memory_ratio` likewise

Memory is the peak of what the command and its processes hold together (proportional set size, where pages that several
share count once), looked at ten times a second. Rows are counted in the tables that were written. One JSON object is
printed. Linux only.

python benchmarks/scale.py                              # about ten minutes on two cores
python benchmarks/scale.py --hours 1 --clips 5000       # a quick look
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16_000  # Hz
BLOCK = 60 * RATE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="as for sa2sr predict")
    parser.add_argument("--hours", type=float, default=10)
    parser.add_argument("--clips", type=int, default=100_000)
    arguments = parser.parse_args()
    measured: dict[str, Any] = {"machine": {"processor": platform.processor(), "cores": os.cpu_count()}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        minute = write_recording(folder / "minute.flac", 1)
        hours = write_recording(folder / "hours.flac", round(60 * arguments.hours))
        windows = ["--window", "6", "--hop", "3"]
        measured["long"] = compared(
            predict(arguments.model, [minute, *windows], folder / "minute.csv"),
            predict(arguments.model, [hours, *windows], folder / "hours.csv"),
        )
        few = write_clips(folder / "few", min(1_000, arguments.clips))
        many = write_clips(folder / "many", arguments.clips)
        measured["many"] = compared(
            predict(arguments.model, [few], folder / "few.csv"), predict(arguments.model, [many], folder / "many.csv")
        )
    print(json.dumps(measured))


def compared(small: dict[str, Any], large: dict[str, Any]) -> dict[str, Any]:
    return {"memory_ratio": round(large["peak_mb"] / small["peak_mb"], 3), "small": small, "large": large}


def write_recording(path: Path, minutes: int) -> Path:
    """Noise that swells four times a second, as loud as speech."""
    random, swell = np.random.default_rng(0), 0.5 - 0.5 * np.cos(8 * np.pi * np.arange(BLOCK) / RATE)
    block = (0.1 * swell * random.standard_normal(BLOCK)).astype(np.float32)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(minutes):
            file.write(block)
    return path


def write_clips(folder: Path, count: int) -> Path:
    """Half-second clips: a hundred that differ, under very many names."""
    folder.mkdir()
    random = np.random.default_rng(0)
    originals = []
    for number in range(min(100, count)):
        originals.append(folder / f"{number:06d}.wav")
        soundfile.write(originals[-1], 0.1 * random.standard_normal(RATE // 2), RATE)
    for number in range(len(originals), count):
        os.link(originals[number % len(originals)], folder / f"{number:06d}.wav")
    return folder


def predict(model: str, arguments: list[Any], out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "sa2sr", "predict", *map(str, arguments), "--model", model, "--out", str(out)]
    began, peak = time.monotonic(), 0
    with open(os.devnull, "w") as nowhere, subprocess.Popen(command, stdout=nowhere, stderr=nowhere) as process:
        while process.poll() is None:
            peak = max(peak, memory_of(process.pid))
            time.sleep(0.1)
    seconds = time.monotonic() - began
    with out.open(encoding="utf-8") as table:
        rows = sum(1 for _ in table) - 1
    return {
        "exit_code": process.returncode,
        "rows": rows,
        "failed": Path(f"{out}.errors.jsonl").exists(),
        "seconds": round(seconds, 1),
        "peak_mb": round(peak / 2**20, 1),
    }


def memory_of(parent: int) -> int:
    """Bytes that a process and all below it hold together."""
    total, waiting = 0, [parent]
    while waiting:
        pid = waiting.pop()
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except (OSError, ProcessLookupError):  # it has just ended
            continue
        total += next((1024 * int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return total


if __name__ == "__main__":
    main()
