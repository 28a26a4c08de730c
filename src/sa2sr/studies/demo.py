"""The demo: the paper's experiment in the small, on a corpus that is made on the spot.

::

    DIR/corpus/       speech that espeak-ng speaks, and its manifests
    DIR/cuts/demo/    the manifests with the teacher's sentiments
    DIR/features/     the store of frames
    DIR/pretrained/   run folders: asr, sa2sr
    DIR/finetuned/    run folders: none, asr, sa2sr
    DIR/evaluated/    what each says of unseen voices: test-new-words (which fine-tuning never heard), test-known-words
    DIR/model/        the model of finetuned/sa2sr
    DIR/report.html   all of it, and report.md

Every step goes on where an interrupted one stopped, and what is finished is not done again.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from sa2sr.config import Recipe, load_recipe
from sa2sr.corpora.demo import SPLITS, Size, make_demo_corpus
from sa2sr.errors import UserError
from sa2sr.files import atomic, claimed, read_json, write_json
from sa2sr.processes import map_in_processes, processors
from sa2sr.studies.demo_progress import Training, progress_of_trainings
from sa2sr.studies.demo_report import write_demo_report

SYSTEMS = {"none": "demo-scratch", "asr": "demo-asr", "sa2sr": "demo-sa2sr"}  # name -> recipe
TESTS = ("test-new-words", "test-known-words")
SHIPPED = "sa2sr"  # whose model becomes DIR/model

# What smaller sizes change, beside the size of the corpus: fewer epochs, and for the tiny one a toy of a network.
_CHANGES: dict[Size, list[str]] = {
    "full": [],
    "small": ["pretraining.max_epochs=16", "finetuning.max_epochs=20"],
    "tiny": [
        "encoder.layers=1",
        "encoder.units=32",
        "pretraining.max_epochs=3",
        "finetuning.max_epochs=3",
        "pretraining.optimiser.warmup_steps=5",
    ],
}


@dataclass(frozen=True)
class DemoFolder:
    """Where everything of a demo is."""

    path: Path

    @property
    def model(self) -> Path:
        """The model to try."""
        return self.path / "model"

    def cuts(self, split: str) -> Path:
        """Manifest of a split, with the teacher's sentiments."""
        return self.path / "cuts" / "demo" / f"{split}.jsonl.gz"

    def pretrained(self, system: str) -> Path:
        """Run folder."""
        return self.path / "pretrained" / system

    def finetuned(self, system: str) -> Path:
        """Run folder."""
        return self.path / "finetuned" / system

    def evaluated(self, system: str, test: str) -> Path:
        """Evaluation folder."""
        return self.path / "evaluated" / test / system

    @property
    def is_finished(self) -> bool:
        """Whether the last step has been done."""
        return (self.path / "report.html").is_file() and (self.model / "config.yaml").is_file()


@dataclass(frozen=True)
class _Job:
    """One system, from its recipe to its evaluation."""

    folder: DemoFolder
    system: str
    size: Size
    seed: int


def run_demo(
    out: str | Path, size: Size = "full", seed: int = 0, *, say: Callable[[str], None] = lambda _line: None
) -> DemoFolder:
    """Make a corpus, label it, pre-train, fine-tune, evaluate and report; what has been done is not done again.

    Args:
        out: folder
        size: ``"full"``, ``"small"`` or ``"tiny"``
        seed: of the corpus and of the trainings
        say: is told what is going on

    Raises:
        UserError: if another demo is in the folder or at work in it, or the extra ``demo`` is not installed
    """
    folder = DemoFolder(Path(out).resolve())
    if size not in get_args(Size):
        raise UserError(f"size {size}: must be {', '.join(get_args(Size))}")
    with _kept(folder, {"size": size, "seed": seed}):
        if folder.is_finished:
            return folder
        say("1/5  speaking the corpus")
        manifests = make_demo_corpus(folder.path / "corpus", size, seed)
        say("2/5  labelling: VADER reads the transcripts")
        _label([manifests[split] for split in SPLITS], folder)
        jobs = [_Job(folder, system, size, seed) for system in ("sa2sr", "asr", "none")]  # the longest first
        at_once = min(processors(), len(jobs))
        say(f"3/5  training and evaluating {', '.join(SYSTEMS)}: {at_once} at a time, each on one processor")
        _run(jobs, at_once)
        say("4/5  predicting with the finished model")
        _publish(folder)
        say("5/5  writing the report")
        write_demo_report(folder, size)
    return folder


@contextmanager
def _kept(folder: DemoFolder, settings: dict[str, Any]) -> Iterator[None]:
    """The folder belongs to this demo alone, and to demos of these settings."""
    busy = UserError(f"{folder.path}: another demo is at work in this folder; choose another --out")
    with claimed(folder.path / ".lock", busy):
        note = folder.path / "demo.json"
        if note.exists():
            before: dict[str, Any] | None
            try:
                before = read_json(note)
            except ValueError:
                before = None
            if before != settings:
                raise UserError(f"{folder.path}: holds a demo with {before}; choose another --out, or remove it")
        write_json(note, settings)
        yield


def _label(manifests: Sequence[Path], folder: DemoFolder) -> None:
    from sa2sr.sentiment import label_cuts, teacher_from_name

    label_cuts(manifests, folder.cuts("train").parent, teacher_from_name("vader"))


def demo_recipe(folder: DemoFolder, system: str, size: Size, seed: int) -> Recipe:
    """The recipe of a system, with the sets and the store of the demo."""
    stages = {"finetuning": ("train", "dev")}
    if system != "none":
        stages["pretraining"] = ("pretraining-train", "pretraining-dev")
    changes = [change for change in _CHANGES[size] if not change.startswith("pretraining.") or system != "none"]
    for stage, (train, dev) in stages.items():
        changes += [
            f"{stage}.train={_yaml(folder.cuts(train))}",
            f"{stage}.dev={_yaml(folder.cuts(dev))}",
            f"{stage}.features.store={_yaml(folder.path / 'features')}",
            f"{stage}.features.workers=1",
        ]
    return load_recipe(SYSTEMS[system], [*changes, f"seed={seed}"])


def _yaml(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)


def _run(jobs: Sequence[_Job], at_once: int) -> None:
    with progress_of_trainings(_trainings(jobs)):
        for job, failure in map_in_processes(_train_and_evaluate, jobs, killed=_killed, chunk=1, jobs=at_once):
            if failure is not None:
                raise UserError(f"{job.system}: {failure}; the same command goes on from here")


def _trainings(jobs: Sequence[_Job]) -> list[Training]:
    trainings = []
    for job in jobs:
        recipe = demo_recipe(*_arguments(job))
        if recipe.pretraining is not None:
            path = job.folder.pretrained(job.system)
            trainings.append(Training(f"pre-training {job.system}", path, recipe.pretraining.max_epochs))
        if recipe.finetuning is not None:
            path = job.folder.finetuned(job.system)
            trainings.append(Training(f"fine-tuning {job.system}", path, recipe.finetuning.max_epochs))
    return trainings


def _arguments(job: _Job) -> tuple[DemoFolder, str, Size, int]:
    return job.folder, job.system, job.size, job.seed


def _killed(_job: _Job) -> str | None:
    return "its process was killed, perhaps for want of memory"


def _train_and_evaluate(job: _Job) -> str | None:
    """Pre-train, fine-tune and evaluate one system, on one thread; what it says goes to a file."""
    import torch

    from sa2sr.training.evaluate import evaluate
    from sa2sr.training.trainer import train

    torch.set_num_threads(1)  # several processes of one thread each are faster than one with several
    folder, system = job.folder, job.system
    recipe = demo_recipe(*_arguments(job))
    folder.finetuned(system).mkdir(parents=True, exist_ok=True)
    with (folder.finetuned(system) / "log.txt").open("a", encoding="utf-8") as log, redirect_stderr(log):
        encoder = None
        if recipe.pretraining is not None:
            encoder = folder.pretrained(system)
            if not (encoder / "metrics.json").exists():
                train(recipe, "pretraining", encoder)
        if not (folder.finetuned(system) / "metrics.json").exists():
            train(recipe, "finetuning", folder.finetuned(system), start_from=encoder)
        for test in TESTS:
            if not (folder.evaluated(system, test) / "metrics.json").exists():
                evaluate(folder.finetuned(system), [folder.cuts(test)], folder.evaluated(system, test))
    return None


def _publish(folder: DemoFolder) -> None:
    """Copy the model to where it is easily found."""
    for source in sorted((folder.finetuned(SHIPPED) / "model").iterdir()):
        with atomic(folder.model / source.name) as temporary:
            shutil.copyfile(source, temporary)
