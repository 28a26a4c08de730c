"""The training loop, the same for pre-training and fine-tuning: the stages differ by their objectives."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sa2sr.config import Recipe, Stage
from sa2sr.errors import CorpusError, UserError
from sa2sr.network.folder import INTERVALS_FILE
from sa2sr.network.model import save_model
from sa2sr.processes import processors
from sa2sr.speech.batches import Batch, BatchLoader, Item, share
from sa2sr.training.calibration import calibrate_on_dev
from sa2sr.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from sa2sr.training.data import load_stage_data
from sa2sr.training.evaluation import score_dataset
from sa2sr.training.initial import initial_model, with_known_encoder
from sa2sr.training.monitor import Monitor
from sa2sr.training.optimisation import (
    give_back_freed_memory,
    learning_rate_scale,
    make_accelerator,
    make_optimiser,
)
from sa2sr.training.run import RunFolder, fingerprint

MOST_LOADERS = 8  # unless told otherwise: each takes seconds to start, and more would wait for the GPU


def train(recipe: Recipe, stage: str, out: str | Path, start_from: str | Path | None = None) -> RunFolder:
    """Train a stage of a recipe, or go on with a training that was interrupted.

    Args:
        recipe: what to train
        stage: ``"pretraining"`` or ``"finetuning"``
        out: the run folder; if it holds an interrupted run of the same recipe, that run goes on
        start_from: a model folder or run folder whose encoder is the beginning; random weights by default

    Raises:
        UserError: if recipe, data and folder do not fit, or the loss is not finite
    """
    folder = RunFolder(Path(out))
    with folder.lock():
        return Trainer(recipe, stage, folder, start_from).run()


class Trainer:
    """A training in progress: model, data, optimiser and where it stands."""

    def __init__(self, recipe: Recipe, stage_name: str, folder: RunFolder, start_from: str | Path | None) -> None:
        stage: Stage | None = getattr(recipe, stage_name)
        if stage is None:
            raise UserError(f"recipe '{recipe.name}' has no {stage_name} stage")
        self.recipe, self.stage_name, self.stage, self.folder = recipe, stage_name, stage, folder
        self.accelerator = make_accelerator(stage.precision, recipe.encoder.kind)
        self.is_main = self.accelerator.is_main_process
        earlier = folder.begin(recipe, stage_name, start_from) if self.is_main else None
        self.accelerator.wait_for_everyone()
        self.recipe = recipe = with_known_encoder(recipe, start_from)

        self.data = load_stage_data(stage, recipe.frontend, recipe.seed, self.accelerator)
        self.plan = self.data.training_plan(stage, recipe.seed)
        self.planned_steps = stage.max_epochs * math.ceil(len(self.plan.epoch(0)) / stage.optimiser.accumulate)

        torch.manual_seed(recipe.seed)
        self.model = initial_model(recipe, stage, self.data, start_from)
        optimiser = make_optimiser(self.model, stage.optimiser)
        utterances = (*self.data.train.utterances, *self.data.dev.utterances)
        self.fingerprint = fingerprint(utterance.name for utterance in utterances)
        self.state = TrainingState()
        if folder.checkpoint.exists():
            self.state = load_checkpoint(folder.checkpoint, self.model, optimiser, self.fingerprint)
        if self.is_main:
            folder.keep_history(self.state.history_lines)
        self.wrapped, self.optimiser = self.accelerator.prepare(self.model, optimiser)
        self.load = BatchLoader(self.data.train, self._loading_processes())
        self.monitor = Monitor(folder, self.data, stage, quiet=not self.is_main)
        if earlier is not None and self.state.step:
            self._tell_new_schedule(getattr(earlier, stage_name))

    def run(self) -> RunFolder:
        """Train until the criterion stops improving or the last epoch is over; write the best epoch's metrics."""
        with self.monitor:
            while not self._is_over():
                self._train_epoch()
                self._end_epoch()
        if "emotion" in self.model.trained_tasks():
            self._calibrate()
        if self.is_main:
            self.folder.finish(self.folder.history()[self.state.best_epoch])
        self.accelerator.wait_for_everyone()
        return self.folder

    def _loading_processes(self) -> int:
        """How many processes load batches beside this one."""
        if self.data.train.source is not None and not self.stage.augmentation.recording:
            return 0  # a store is read faster than another process could hand its frames over
        if self.stage.features.workers or self.accelerator.device.type == "cpu":
            return self.stage.features.workers
        processes: int = self.accelerator.num_processes
        return min(MOST_LOADERS, max(1, processors() // processes - 1))  # a GPU is faster than one process can decode

    def _tell_new_schedule(self, earlier: Stage) -> None:
        """A cosine ends with the last epoch: with another number of epochs the run goes on at another rate."""
        before, now = earlier.max_epochs, self.stage.max_epochs
        if self.stage.optimiser.schedule == "cosine" and before != now:
            self.monitor.warn(
                f"max_epochs was {before} and is {now}: the cosine schedule goes on as if it had been so from the "
                "beginning, so that the learning rate jumps here"
            )

    def _calibrate(self) -> None:
        """Keep the residuals of the best model, unless that has been done."""
        self.accelerator.wait_for_everyone()  # the model is written
        calibrated = (self.folder.model / INTERVALS_FILE).exists()
        self.accelerator.wait_for_everyone()  # all have looked, and do the same
        if not calibrated:
            calibrate_on_dev(self.folder.model, self.data, self.stage, self.accelerator)

    def _is_over(self) -> bool:
        epochs_without_improvement = self.state.epoch - 1 - self.state.best_epoch
        return self.state.epoch >= self.stage.max_epochs or epochs_without_improvement >= self.stage.patience

    def _train_epoch(self) -> None:
        state = self.state
        batches = self.plan.epoch(state.epoch)
        self.monitor.begin_epoch(state, len(batches))
        self.wrapped.train()
        last_save = last_step = time.monotonic()
        for group in self.groups_of_batches(batches[state.batch :]):
            self.step(group)
            now = time.monotonic()
            state.batch, state.step = state.batch + len(group), state.step + 1
            state.seconds, last_step = state.seconds + now - last_step, now
            self.monitor.advance(state)
            if now - last_save > self.stage.checkpoint_seconds and state.batch < len(batches):
                self._save()
                last_save = now

    def groups_of_batches(self, batches: Sequence[Sequence[Item]]) -> Iterator[list[Batch]]:
        """This process's part of the batches, as many at a time as make a step of the optimiser."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        own = [share(batch, rank, processes) for batch in batches]
        group: list[Batch] = []
        for number, batch in enumerate(self.load(own), start=1):
            self.monitor.failures(batch.failures.values())
            group.append(batch)
            if len(group) == self.stage.optimiser.accumulate or number == len(own):
                yield group
                group = []

    def step(self, group: Sequence[Batch]) -> None:
        """One step of the optimiser, over a group of batches."""
        self._seed_step()
        scale = learning_rate_scale(self.state.step, self.planned_steps, self.stage.optimiser)
        for parameters in self.optimiser.param_groups:
            parameters["lr"] = parameters["full_rate"] * scale
        for number, batch in enumerate(group, start=1):
            with nullcontext() if number == len(group) else self.accelerator.no_sync(self.wrapped):
                losses = self.wrapped(batch.to(self.accelerator.device))
                total = self._weighted_sum(losses) / len(group)
                self._check_finite(total, losses, batch)
                self.accelerator.backward(total)
            self._count(losses, batch)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.stage.optimiser.clip or math.inf)
        self._check_finite(norm, {"norm of the gradient": norm}, *group)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def _seed_step(self) -> None:
        """What is random in a step depends on its number alone, so that a run that goes on draws what it would have."""
        seeds = np.random.SeedSequence([self.recipe.seed, self.state.step, self.accelerator.process_index])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))

    def _weighted_sum(self, losses: dict[str, Tensor]) -> Tensor:
        weights = self.stage.objectives.active()
        return torch.stack([weights[name].weight * loss for name, loss in losses.items()]).sum()

    def _check_finite(self, value: Tensor, parts: dict[str, Tensor], *batches: Batch) -> None:
        if torch.isfinite(value):
            return
        found = ", ".join(f"{name} {part.item():g}" for name, part in parts.items())
        names = ", ".join(name for batch in batches for name in batch.names)
        raise UserError(
            f"{self.folder.path}: step {self.state.step}: the loss is not finite ({found}); "
            f"utterances of the batch: {names}. Look at these first; "
            f"a lower {self.stage_name}.optimiser.rate or a clip may help"
        )

    def _count(self, losses: dict[str, Tensor], batch: Batch) -> None:
        """Add to the sums of the epoch, over all processes."""
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        seconds = torch.tensor(batch.seconds, device=values.device)
        if self.accelerator.num_processes > 1:
            values = self.accelerator.reduce(values, "mean")
            seconds = self.accelerator.reduce(seconds, "sum")
        self.state.add(batches=1, speech_seconds=float(seconds), **dict(zip(losses, values.tolist(), strict=True)))

    def _end_epoch(self) -> None:
        """Evaluate, keep the model if it is the best so far, and write what happened."""
        began, state = time.monotonic(), self.state
        scores = score_dataset(self.model, self.data.dev, self.data.dev_batches(self.stage), self.accelerator)
        # The set need not have what an earlier training was judged on, such as an AUC where all is neutral.
        dev = {name: value for name, value in scores.items() if math.isfinite(value)}
        criteria = [task.criterion for task in self.model.trained_tasks().values()]
        self._check_judged([each.metric for each in criteria if each.metric not in dev])
        criterion = sum(each.sign * dev[each.metric] for each in criteria)
        state.seconds += time.monotonic() - began
        improved = criterion < state.best
        if improved:
            state.best, state.best_epoch = criterion, state.epoch
        rates = [parameters["lr"] for parameters in self.optimiser.param_groups]
        entry = self.monitor.end_epoch(state, dev, criterion, improved, rates)
        state.begin_next_epoch()
        if self.is_main:
            self.folder.add_history(entry)
            if improved:
                (self.folder.model / INTERVALS_FILE).unlink(missing_ok=True)  # of the model before
                save_model(self.model, self.folder.model)
        self._save()

    def _check_judged(self, missing: Sequence[str]) -> None:
        """There were labels, but an epoch without a criterion, or without speech, means that audio cannot be read."""
        if missing or not self.state.epoch_sums["speech_seconds"]:
            paths = ", ".join(map(str, self.stage.dev if missing else self.stage.train))
            what = f"{missing[0]} cannot be computed" if missing else "nothing can be trained on"
            raise CorpusError(f"{paths}: {what}: too much of the audio cannot be read")

    def _save(self) -> None:
        if self.is_main:
            save_checkpoint(self.folder.checkpoint, self.model, self.optimiser, self.state, self.fingerprint)
        give_back_freed_memory()
