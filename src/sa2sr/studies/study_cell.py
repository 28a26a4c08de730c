"""One cell of a study: what is done of it, and doing the rest, in a process of its own.

::

    CELL/cell.json    where it stands in the tables, and digests of what it depends on
    CELL/done.json    what is done
    CELL/log.txt      what training and evaluation said
    CELL/failure.txt  why it failed the last time

Beside these a cell is a run folder, with ``evaluation/<test>/`` in it.
"""

import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from sa2sr.cuts import Cut, read_cuts, write_cuts
from sa2sr.errors import UserError
from sa2sr.files import claimed, read_json, remove_remainders, write_json, write_text
from sa2sr.speech.utterances import corpora_of
from sa2sr.studies.records import CELL_FILE, Place
from sa2sr.studies.study_plan import Cell, digest_of_tests

FAILURE_FILE = "failure.txt"
LOG_FILE = "log.txt"
_DONE_FILE = "done.json"
_PATIENCE = 60.0  # seconds until the process of an earlier study that was killed, which ends with it, has gone


def is_trained(cell: Cell) -> bool:
    """Whether the training is done, and of what the cell is about today."""
    return (cell.folder / "metrics.json").is_file() and _read(cell.folder / _DONE_FILE).get("training") == cell.digest


def open_tests(cell: Cell) -> list[str]:
    """The test sets that the model is yet to be evaluated on."""
    done = _read(cell.folder / _DONE_FILE).get("tests")
    done = done if isinstance(done, dict) else {}
    return [
        test
        for test in cell.tests
        if done.get(test) != _digest_if_there(cell, test) or not (cell.test_folder(test) / "metrics.json").is_file()
    ]


def is_done(cell: Cell) -> bool:
    """Whether nothing is left to do."""
    return is_trained(cell) and not open_tests(cell)


def seconds_of_training(cell: Cell) -> float | None:
    """How long the training took."""
    seconds = _read(cell.folder / _DONE_FILE).get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else None


def describe(cell: Cell, places: Sequence[Place]) -> None:
    """Write what the cell is, for the report; what it depends on is kept once a training has begun.

    Raises:
        UserError: if the folder holds a training that depends on something else
    """
    before = _read(cell.folder / CELL_FILE)
    has_begun = any((cell.folder / name).exists() for name in ("checkpoint.safetensors", "metrics.json"))
    known = before.get("depends")
    if has_begun and isinstance(known, dict) and known != dict(cell.depends):
        changed = [key for key in {**known, **cell.depends} if known.get(key) != cell.depends.get(key)]
        raise UserError(
            f"{cell.folder}: holds a training with another {' and '.join(changed)}; "
            "remove the folder to train anew, or choose another --out"
        )
    value = {
        "stage": cell.stage,
        "places": [asdict(place) for place in places],
        "tests": list(cell.tests),
        "depends": dict(cell.depends),
    }
    if before != value:
        write_json(cell.folder / CELL_FILE, value)


def run_cell(cell: Cell) -> str | None:
    """Train and evaluate as far as it is not done, on one thread; what is said meanwhile goes to a file.

    Returns:
        why it failed, if it did
    """
    busy = UserError(f"{cell.folder}: another process is at work in this folder")
    try:
        with claimed(cell.folder / ".cell.lock", busy, patience=_PATIENCE), _logged(cell.folder / LOG_FILE):
            remove_remainders(*_written_by(cell))
            _train(cell)
            _evaluate(cell)
    except UserError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error} (see {cell.folder / LOG_FILE})"
    return None


def _written_by(cell: Cell) -> list[Path]:
    """The files that a study writes in the folder of a cell, beside those of the training itself."""
    notes = [cell.folder / name for name in (CELL_FILE, _DONE_FILE, FAILURE_FILE)]
    return [
        *notes,
        *(cell.test_folder(test) / name for test in cell.tests for name in ("predictions.csv", "metrics.json")),
    ]


def _train(cell: Cell) -> None:
    import torch

    from sa2sr.training.regression import regress
    from sa2sr.training.trainer import train

    torch.set_num_threads(1)  # several processes of one thread each are faster than one with several
    if is_trained(cell):
        return
    if cell.drawn is not None:
        draw_share(cell)
    if cell.stage == "regression":
        regress(cell.recipe, cell.folder, start_from=cell.encoder)
    else:
        train(cell.recipe, cell.stage, cell.folder, start_from=cell.encoder)
    history = (cell.folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    _note(cell, training=cell.digest, seconds=json.loads(history[-1])["seconds"], tests={})


def _evaluate(cell: Cell) -> None:
    from sa2sr.training.evaluate import evaluate

    stage = getattr(cell.recipe, cell.stage)
    for test in open_tests(cell):
        digest = digest_of_tests(cell, test)
        # Ratings that were mapped onto a scale to train on them are mapped in the tests as well.
        evaluate(cell.folder, cell.tests[test], cell.test_folder(test), map_scale=stage.scale is not None)
        _note(cell, tests=_read(cell.folder / _DONE_FILE)["tests"] | {test: digest})


def draw_share(cell: Cell) -> None:
    """Write the manifest of a share of the training utterances.

    Which are drawn depends on the seed and on their names alone, and a smaller share is part of a larger one. Each says
    of which corpus it is, since the folder of its manifest no longer does.
    """
    sources = [(number, cut) for number, path in enumerate(cell.sources) for cut in read_cuts(path)]
    corpora = corpora_of(sources, cell.sources)
    cuts = [_of_corpus(cut, corpus.name) for (_, cut), corpus in zip(sources, corpora, strict=True)]
    wanted = max(1, round(cell.share * len(cuts)))
    order = sorted(range(len(cuts)), key=lambda row: _lot(cell.recipe.seed, cuts[row].id, row))
    if cell.drawn is not None:
        cell.drawn.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(cell.drawn.parent / ".lock"):  # several systems draw the same
            remove_remainders(cell.drawn)
            write_cuts(cell.drawn, (cuts[row] for row in sorted(order[:wanted])))


def _of_corpus(cut: Cut, name: str) -> Cut:
    for supervision in cut.supervisions[:1]:
        supervision.custom = {**(supervision.custom or {}), "corpus": name}
    return cut


def _lot(seed: int, name: str, row: int) -> tuple[bytes, int]:
    return hashlib.sha256(f"{seed} {name}".encode(errors="backslashreplace")).digest(), row


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """What this process and its libraries write to the terminal goes to the end of a file, tracebacks too."""
    with path.open("ab") as log:
        before = {number: os.dup(number) for number in (1, 2)}
        for number in before:
            os.dup2(log.fileno(), number)
        try:
            print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}", file=sys.stderr, flush=True)
            yield
        except UserError as error:
            print(f"failed: {error}", file=sys.stderr)
            raise
        except Exception:
            traceback.print_exc()
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, kept in before.items():
                os.dup2(kept, number)
                os.close(kept)


def note_failure(cell: Cell, reason: str | None) -> None:
    """Write why a cell failed, or remove what was written when it did before."""
    if reason is not None:
        write_text(cell.folder / FAILURE_FILE, reason + "\n")
    else:
        (cell.folder / FAILURE_FILE).unlink(missing_ok=True)


def _note(cell: Cell, **changes: Any) -> None:
    write_json(cell.folder / _DONE_FILE, _read(cell.folder / _DONE_FILE) | changes)


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is none."""
    try:
        return read_json(path)
    except ValueError:
        return {}


def _digest_if_there(cell: Cell, test: str) -> str | None:
    try:
        return digest_of_tests(cell, test)
    except UserError:
        return None
