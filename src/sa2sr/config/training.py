"""How a model is trained: a stage with its augmentation, features, batches and optimiser."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sa2sr.config.base import Count, Decay, Fraction, Paths, Positive, Settings
from sa2sr.config.model import Scale
from sa2sr.config.objectives import Objectives


class Augmentation(Settings):
    """Speed perturbation, other recording conditions, then SpecAugment."""

    speeds: tuple[Annotated[float, Field(ge=0.25, le=4)], ...] = (0.9, 1.0, 1.1)
    every_speed: bool = True  # an epoch hears each utterance at all speeds; otherwise at one drawn speed
    recording: Fraction = 0.0  # share of utterances that sound as if recorded otherwise: room, line, noise, level
    probability: Fraction = 0.5  # that an utterance is masked
    time_masks: int = Field(default=2, ge=0, le=100)
    time_width: int = Field(default=40, ge=1)  # frames at most
    time_fraction: Fraction = 0.2  # of the utterance at most, a mask
    frequency_masks: int = Field(default=2, ge=0, le=100)
    frequency_width: int = Field(default=10, ge=1)  # filters at most

    @model_validator(mode="after")
    def _different_speeds(self) -> "Augmentation":
        if not self.speeds:
            raise ValueError("speeds needs at least one factor; [1.0] means no perturbation")
        if len({*self.speeds}) < len(self.speeds):
            raise ValueError(f"speeds must differ from one another, not {list(self.speeds)}")
        return self


class Batches(Settings):
    """Utterances of similar duration are batched together; the batches come in random order."""

    seconds: Positive = 240.0  # of padded audio in a batch at most, over all processes; a longer utterance is alone
    utterances: Count = 64  # in a batch at most, over all processes
    shortest: float = Field(default=0.1, ge=0)  # shorter utterances are left out, in seconds
    longest: Positive = 35.0  # longer utterances are left out, in seconds
    sorted_epochs: int = Field(default=0, ge=0)  # the first epochs go from short to long, which helps CTC to start
    balance: Fraction = 0.0  # of several corpora: 0 as they are, 1 equally many utterances of each, in between between

    @model_validator(mode="after")
    def _ordered(self) -> "Batches":
        if not self.shortest < self.longest:
            raise ValueError(f"shortest ({self.shortest:g} s) must be below longest ({self.longest:g} s)")
        return self


class Optimiser(Settings):
    """Adam or AdamW with a warm-up, then a constant or cosine learning rate."""

    kind: Literal["adam", "adamw"] = "adam"
    rate: Positive = 5e-5
    encoder_rate: Positive | None = None  # of the encoder, where it differs
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"  # cosine falls to 0 at the end of the last epoch
    clip: Positive | None = None  # of the total gradient norm
    accumulate: Count = 1  # batches a step


class Features(Settings):
    """Where the frames of a training set come from."""

    source: Literal["store", "on-the-fly"] = "store"  # a store is computed once and memory-mapped
    store: Path = Path("runs/features")  # may be shared by any number of runs
    workers: int = Field(default=0, ge=0, le=256)  # 0: as many as there are cores, but on a CPU none beside training


class Stage(Settings):
    """One training: pre-training or fine-tuning."""

    train: Paths = ()  # cut manifests; usually given with --train
    dev: Paths = ()
    scale: Scale | None = None  # onto which ratings on other scales are mapped; without it all must be on one scale
    ratings: dict[str, tuple[Literal["activation", "valence", "dominance"], ...]] = Field(default_factory=dict)
    # ^ corpus -> those of its ratings that count; of other corpora all do
    objectives: Objectives
    freeze_encoder: bool = False
    augmentation: Augmentation = Augmentation()
    features: Features = Features()
    batches: Batches = Batches()
    optimiser: Optimiser = Optimiser()
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the hardware is faster in it
    max_epochs: Count = 1000
    patience: Count = 25  # epochs without a better criterion before the training stops
    checkpoint_seconds: Positive = 300.0  # between checkpoints within an epoch; every epoch ends with one
    tensorboard: bool = False  # needs the extra of that name

    @model_validator(mode="after")
    def _something_to_learn(self) -> "Stage":
        if not any(objective.weight for objective in self.objectives.active().values()):
            raise ValueError("objectives: at least one needs a weight above 0")
        return self

    @model_validator(mode="after")
    def _frames_are_not_masked(self) -> "Stage":
        if (names := self.objectives.predicting_frames()) and self.augmentation.probability:
            raise ValueError(
                f"objectives.{names[0]} learns to predict frames, and masked ones are none: "
                "augmentation.probability must be 0"
            )
        return self
