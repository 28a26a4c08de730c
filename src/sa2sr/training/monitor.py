"""What a person sees of a training: a progress bar, a line an epoch, TensorBoard if asked for."""

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn

from sa2sr.config import DIMENSIONS, Stage
from sa2sr.errors import UserError
from sa2sr.progress import Bars
from sa2sr.training.checkpoint import TrainingState
from sa2sr.training.data import StageData
from sa2sr.training.run import RunFolder

# Of several corpora the history has each dimension; on the terminal the mean of each is enough.
_DETAILS = tuple(f"_{dimension}_ccc" for dimension in DIMENSIONS)


class Monitor:
    """Reports a training to the terminal; ``quiet`` on all but the main process."""

    def __init__(self, folder: RunFolder, data: StageData, stage: Stage, *, quiet: bool) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self.warnings = self.console if not quiet else Console(stderr=True)
        self.stage = stage
        columns = (
            TextColumn("epoch {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
        )
        self.bar = Bars(*columns, console=self.console, disable=quiet or not self.console.is_terminal)
        self.task: TaskID | None = None
        self.failed: set[str] = set()
        self.failures(data.failures)
        self.board = _board(folder) if stage.tensorboard and not quiet else None
        for name, part in (("train", data.train_set), ("dev", data.dev_set)):
            left_out = ", ".join(f"{count} {reason}" for reason, count in part.left_out.most_common())
            corpora = ", ".join(f"{len(own):,} {corpus.name}" for corpus, own in part.corpora.items())
            self.console.print(
                f"{name}: {len(part.utterances):,} utterances, {part.hours:.2f} h"
                + (f" ({corpora})" if len(part.corpora) > 1 else "")
                + (f"; left out: {left_out}" if left_out else ""),
                highlight=False,
            )

    def __enter__(self) -> "Monitor":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        if self.board is not None:
            self.board.close()

    def begin_epoch(self, state: TrainingState, batches: int) -> None:
        """A new bar."""
        if self.task is not None:
            self.bar.remove_task(self.task)
        self.task = self.bar.add_task(str(state.epoch + 1), total=batches, completed=state.batch, status="")
        self._began, self._heard_before = time.monotonic(), state.epoch_sums.get("speech_seconds", 0.0)

    def advance(self, state: TrainingState) -> None:
        """A step is done."""
        if self.task is None or self.bar.disable:
            return
        losses = " ".join(f"{name} {value:.3f}" for name, value in state.mean_losses().items())
        heard = state.epoch_sums["speech_seconds"] - self._heard_before
        speed = heard / max(time.monotonic() - self._began, 1e-6)
        self.bar.update(self.task, completed=state.batch, status=f"{losses}  {speed / 3600:.3f} h/s ({speed:.0f}x)")

    def failures(self, messages: Iterable[str]) -> None:
        """Audio that cannot be read is named once, by the process that meets it."""
        for message in messages:
            if message not in self.failed:
                self.failed.add(message)
                self.warn(f"left out: {message}")

    def warn(self, message: str) -> None:
        """A line that should not be missed."""
        self.warnings.print(message, style="yellow", highlight=False, markup=False, soft_wrap=True)

    def end_epoch(
        self, state: TrainingState, dev: dict[str, float], criterion: float, improved: bool, rates: Sequence[float]
    ) -> dict[str, Any]:
        """Print the epoch and return its line of the history."""
        train = state.mean_losses()
        heard = state.epoch_sums.get("speech_seconds", 0.0)
        entry = {
            "epoch": state.epoch,
            "step": state.step,
            "seconds": round(state.seconds, 1),
            "speech_hours": round(heard / 3600, 4),
            "rates": list(rates),
            "train": {f"{name}_loss": value for name, value in train.items()},
            "dev": dev,
            "criterion": criterion,
            "best": improved,
        }
        shown = {key: value for key, value in dev.items() if not key.endswith(("_loss", *_DETAILS))}
        parts = [f"{name} loss {value:.3f} / {dev.get(f'{name}_loss', math.nan):.3f}" for name, value in train.items()]
        parts += [f"{name} {value:.3f}" for name, value in shown.items()]
        mark = "  [green]best[/]" if improved else ""
        minutes = state.seconds / 60
        self.console.print(f"epoch {state.epoch + 1}  {'  '.join(parts)}  {minutes:.1f} min{mark}", highlight=False)
        if self.board is not None:
            for name, value in [
                *((f"train/{n}_loss", v) for n, v in train.items()),
                *((f"dev/{n}", v) for n, v in dev.items()),
            ]:
                self.board.add_scalar(name, value, state.epoch)
            self.board.add_scalar("criterion", criterion, state.epoch)
            self.board.flush()
        return entry


def _board(folder: RunFolder) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError('tensorboard: true needs the extra: pip install "sa2sr[tensorboard]"') from None
    return SummaryWriter(str(folder.path / "tensorboard"))
