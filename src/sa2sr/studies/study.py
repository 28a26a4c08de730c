"""A study: a grid of systems, seeds and corpora, trained and evaluated as far as it is not done, and reported.

::

    OUT/study.yaml                    the study, every key
    OUT/pretrained/<system>-seed<n>/  run folders, shared by all that need the same pre-training
    OUT/finetuned/<corpus>/.../       run folders
    OUT/labels/                       manifests with a share of the utterances, for sweeps of labels
    OUT/features/                     the store of frames
    OUT/failures.json                 what failed the last time, and why
    OUT/report/                       report.html, report.md, tables and pictures
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sa2sr.config import to_yaml
from sa2sr.errors import UserError
from sa2sr.files import claimed, write_json, write_text
from sa2sr.studies.rendering import ReportFiles
from sa2sr.studies.study_cell import FAILURE_FILE, describe, is_done, is_trained, note_failure, run_cell
from sa2sr.studies.study_plan import Cell, Plan, make_plan
from sa2sr.studies.study_processes import Crew, Died
from sa2sr.studies.study_progress import StudyProgress
from sa2sr.studies.study_settings import Study, load_study

_SECONDS = 0.5  # between looks at the running cells


@dataclass(frozen=True)
class StudyResult:
    """What a study came to."""

    done: list[Path]  # the folders of the cells
    failed: dict[str, str]  # name of a cell -> why
    report: ReportFiles | None


def run_study(source: str | Path | Study, out: str | Path, *, jobs: int = 1) -> StudyResult:
    """Do what is not done of a study, and report all of it.

    Interrupted in any way, the same call goes on and comes to the same results. A cell that fails is noted in its
    folder, and the others go on; the next call tries it again.

    Args:
        source: a study file, the name of a shipped one, or a study
        out: folder of the study
        jobs: cells at once, each a process with one thread

    Raises:
        UserError: if the study cannot be read, another one is at work in the folder, or no cell could be done
    """
    study = source if isinstance(source, Study) else load_study(source)
    out = Path(out)
    busy = UserError(f"{out}: another study is at work in this folder; choose another --out")
    with claimed(out / ".lock", busy):
        write_text(out / "study.yaml", to_yaml(study))
        plan = make_plan(study, out)
        failed = _run(plan, out, max(1, jobs))
        write_json(out / "failures.json", failed)
        done = [cell.folder for cell in plan.cells.values() if is_done(cell)]
        if not done:
            raise UserError(_nothing_done(out, failed))
        return StudyResult(done, failed, write_study_report(study, out))


def write_study_report(study: Study, out: Path) -> ReportFiles | None:
    """Report what there is of a study; none if there is nothing to report yet."""
    from sa2sr.studies.report import make_report

    folders = [folder for name in ("finetuned", "pretrained") if (folder := out / name).is_dir()]
    return make_report(
        folders,
        out / "report",
        title=study.title,
        baseline=study.baseline or next(iter(study.systems)),
        comparisons=study.comparisons.items(),
        order=list(study.systems),
        planned=True,
    )


def _run(plan: Plan, out: Path, jobs: int) -> dict[str, str]:
    """Do all cells; what cannot be done, by name, and why."""
    failed = dict(plan.problems)
    waiting: dict[Path, Cell] = {}
    for folder, cell in plan.cells.items():
        try:
            describe(cell, plan.places[folder])
            waiting[folder] = cell
        except UserError as error:
            failed[_name(cell, out)] = str(error)
    done = [cell for cell in waiting.values() if is_done(cell)]
    for cell in done:
        note_failure(cell, None)
        del waiting[cell.folder]
    with StudyProgress(out, list(plan.cells.values()), jobs) as progress:
        progress.plan(done, waiting, failed)

        def end(cell: Cell, reason: str | None) -> None:
            note_failure(cell, reason)
            progress.end(cell, reason)
            if reason is not None:
                failed[_name(cell, out)] = reason

        if waiting:
            _do(plan, waiting, jobs, progress, end)
    return failed


def _do(
    plan: Plan, waiting: dict[Path, Cell], jobs: int, progress: StudyProgress, end: Callable[[Cell, str | None], None]
) -> None:
    with Crew(run_cell, jobs) as crew:
        while waiting or crew.items:
            for folder, cell in list(waiting.items()):
                state = _encoder_state(cell, plan, {*waiting, *(busy.folder for busy in crew.items)})
                if state == "missing":
                    del waiting[folder]
                    end(cell, f"needs {cell.encoder}, which failed")
                elif state == "ready" and crew.is_idle:
                    del waiting[folder]
                    progress.begin(cell)
                    crew.give(cell)
            for cell, outcome in crew.wait(_SECONDS):
                end(cell, str(outcome) if isinstance(outcome, Died) else outcome)
            progress.tick()


def _encoder_state(cell: Cell, plan: Plan, unfinished: set[Path]) -> str:
    """Whether the encoder of a cell is ``ready``, to be expected (``awaited``), or ``missing``."""
    encoder = plan.cells.get(cell.encoder) if cell.encoder is not None else None
    if encoder is None or is_trained(encoder):  # an evaluation that failed stands in nobody's way
        return "ready"
    return "awaited" if encoder.folder in unfinished else "missing"


def _name(cell: Cell, out: Path) -> str:
    return str(cell.folder.relative_to(out))


def _nothing_done(out: Path, failed: Mapping[str, str]) -> str:
    reasons = "".join(f"\n  {name}: {reason}" for name, reason in list(failed.items())[:20])
    return f"{out}: nothing could be done; each cell has a {FAILURE_FILE}{reasons}"
