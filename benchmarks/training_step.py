"""The training step beside its recurrent layers alone: how much of the time goes into anything else?

Three kinds of steps take turns over the same batches, in one process:

- ours: a step of `sa2sr pretrain`: frames are read from the store, masked and padded; encoder, CTC and sentiment;
  gradients, their norm, the optimiser
- bare: a bidirectional `nn.LSTM` of the encoder's size over the padded batch, without lengths; gradients, optimiser
- packed: ours, but with the encoder run over packed sequences, as is usual for batches of different lengths

One JSON object is printed. `ratio_to_bare` is the time of the bare steps divided by that of ours, and `ratio_to_packed`
that of the packed steps divided by that of ours. Ratios can be compared between machines, seconds cannot. With one
thread the time is that of the processor, so that other work on the machine disturbs less.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn

from sa2sr.audio import probe
from sa2sr.config import ALPHABET, Recipe, load_recipe
from sa2sr.cuts import make_cut, write_cuts
from sa2sr.network.encoder import LstmEncoder
from sa2sr.speech.batches import Batch
from sa2sr.training.run import RunFolder
from sa2sr.training.trainer import Trainer

RATE = 16_000  # Hz
CHARACTERS = 14  # a second, as in read English


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--threads", type=int, default=1, help="of torch; several trainings of one thread each pay best"
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--utterances", type=int, default=48, help="of 2 to 16 seconds")
    parser.add_argument("--batch-seconds", type=float, default=240, help="of padded audio in a batch at most")
    parser.add_argument("--batch-utterances", type=int, default=64, help="in a batch at most")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_speech(folder, arguments.utterances)
        recipe = paper_recipe(folder, manifest, arguments)
        trainer = Trainer(recipe, "pretraining", RunFolder(folder / "run"), None)
        seconds = time_steps(trainer, arguments.repetitions)

    heard = 3600 * trainer.data.train_set.hours
    report = {
        "benchmark": "training_step",
        "ratio_to_bare": round(seconds["bare"] / seconds["ours"], 3),
        "ratio_to_packed": round(seconds["packed"] / seconds["ours"], 2),
        "times_real_time": round(heard / seconds["ours"], 1),
        "seconds": {kind: round(value, 3) for kind, value in seconds.items()},
        "speech_seconds": round(heard, 1),
        "batches": len(trainer.plan.epoch(0)),
        "repetitions": arguments.repetitions,
        "precision": {"no": "fp32"}.get(trainer.accelerator.mixed_precision, trainer.accelerator.mixed_precision),
        "device": str(trainer.accelerator.device),
        "threads": torch.get_num_threads(),
        "machine": f"{processor()}, {os.cpu_count()} cores, torch {torch.__version__}",
    }
    print(json.dumps(report))


def paper_recipe(folder: Path, manifest: Path, arguments: argparse.Namespace) -> Recipe:
    """The paper's network and losses, in batches for one processor unless other ones are asked for."""
    changes = {
        "train": manifest,
        "dev": manifest,
        "features.store": folder / "store",
        "features.workers": 1,
        "precision": arguments.precision,
        "augmentation.speeds": [1.0],
        "optimiser.kind": "adamw",
        "batches.seconds": arguments.batch_seconds,
        "batches.utterances": arguments.batch_utterances,
    }
    return load_recipe("sa2sr", [f"pretraining.{key}={value}" for key, value in changes.items()])


def time_steps(trainer: Trainer, repetitions: int) -> dict[str, float]:
    """Seconds for all batches of an epoch: of each batch the median over the repetitions."""
    batches = trainer.plan.epoch(0)
    loaded = [batch for group in trainer.groups_of_batches(batches) for batch in group]
    settings, dimension, device = trainer.recipe.encoder, trainer.recipe.frontend.dimension, trainer.accelerator.device
    lstm = nn.LSTM(dimension, settings.units, settings.layers, batch_first=True, bidirectional=True).to(device)
    optimiser = torch.optim.AdamW(lstm.parameters(), fused=True)

    def ours(number: int) -> None:
        for group in trainer.groups_of_batches(batches[number : number + 1]):
            trainer.step(group)

    def bare(number: int) -> None:
        batch: Batch = loaded[number]
        with trainer.accelerator.autocast():
            states = lstm(batch.frames.to(device))[0]
        states.float().mean().backward()
        optimiser.step()
        optimiser.zero_grad()

    def packed(number: int) -> None:
        with packed_sequences(trainer.model.encoder):
            ours(number)

    kinds = [ours, bare, packed]
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    trainer.wrapped.train()
    for step in kinds:  # the first of each is slower
        step(0)
    seconds = defaultdict(list)
    for repetition in range(repetitions):
        for number in range(len(batches)):
            turn = (repetition + number) % len(kinds)
            for step in kinds[turn:] + kinds[:turn]:
                began = clock()
                step(number)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                seconds[step.__name__, number].append(clock() - began)
    return {
        step.__name__: sum(statistics.median(seconds[step.__name__, number]) for number in range(len(batches)))
        for step in kinds
    }


@contextmanager
def packed_sequences(encoder: LstmEncoder) -> Iterator[None]:
    """The encoder runs over packed sequences on every device."""
    encoder._padded = encoder._packed  # type: ignore[method-assign]
    try:
        yield
    finally:
        del encoder._padded


def write_speech(folder: Path, utterances: int) -> Path:
    """A manifest of noise in the rhythm of syllables, with as many characters and labels as speech would have."""
    random = np.random.default_rng(0)
    cuts = []
    for number, seconds in enumerate(random.uniform(2, 16, utterances)):
        times = np.arange(int(seconds * RATE)) / RATE
        loudness = np.interp(times, np.arange(0, 17, 0.1), random.uniform(0, 0.5, 170))
        path = folder / f"{number}.wav"
        soundfile.write(path, (loudness * random.normal(0, 0.3, len(times))).clip(-1, 1), RATE)
        text = "".join(random.choice(list(ALPHABET), round(seconds * CHARACTERS)))
        sentiment = random.dirichlet((1, 1, 1)).tolist()
        cuts.append(make_cut(str(number), path, probe(path), text=text, custom={"sentiment": sentiment}))
    write_cuts(folder / "cuts.jsonl", cuts)
    return folder / "cuts.jsonl"


def processor() -> str:
    with Path("/proc/cpuinfo").open(encoding="utf-8") if Path("/proc/cpuinfo").exists() else open(os.devnull) as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
