"""The tasks that an encoder is trained on, each with its weight in the loss and the settings of its head."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from sa2sr.config.base import Category, Count, Positive, Settings, Width
from sa2sr.config.reading import MAX_YAML_BYTES

HEAD_OF_INPUT = {"posteriors": "ctc", "sentiment": "sentiment"}  # inputs of emotion that another head gives
FEELINGS = ("emotion", "category", "sentiment")  # objectives, one of which a fine-tuning is for


class ObjectiveSettings(Settings):
    """What all objectives have in common."""

    predicts_frames: ClassVar[bool] = False  # later ones, which the encoder therefore must not have read
    stays_behind: ClassVar[bool] = False  # its head is of no use once a training has another objective

    weight: float = Field(default=1.0, ge=0)


class CtcSettings(ObjectiveSettings):
    """Transcribe: linear layer and CTC, summed over the utterance."""


class SentimentSettings(ObjectiveSettings):
    """Tell negative, neutral and positive apart: sequence summariser and softmax."""

    weight: float = Field(default=200.0, ge=0)
    summariser: Literal["lstm", "attention"] = "lstm"
    units: int = Field(default=64, ge=1, le=4096)  # of the summariser
    dropout: float = Field(default=0.0, ge=0, lt=1)


class ApcSettings(ObjectiveSettings):
    """Autoregressive predictive coding: a linear layer says which frame comes some steps later."""

    predicts_frames: ClassVar[bool] = True
    stays_behind: ClassVar[bool] = True

    steps: int = Field(default=2, ge=1, le=100)  # stacked frames ahead


class CpcSettings(ObjectiveSettings):
    """Contrastive predictive coding: tell the frames that come next from others."""

    predicts_frames: ClassVar[bool] = True
    stays_behind: ClassVar[bool] = True

    steps: int = Field(default=4, ge=1, le=100)  # stacked frames ahead, all of which are predicted
    units: int = Field(default=128, ge=1, le=4096)  # of what a frame is compared by
    negatives: int = Field(default=8, ge=1, le=1000)  # frames that each utterance gives to be told apart from
    among: Literal["batch", "utterance"] = "batch"  # whose negatives a prediction is compared with


class SpeakerSettings(ObjectiveSettings):
    """Tell the speakers of the training set apart, or make the encoder forget them."""

    stays_behind: ClassVar[bool] = True

    summariser: Literal["lstm", "attention"] = "attention"
    units: int = Field(default=64, ge=1, le=4096)  # of the summariser
    dropout: float = Field(default=0.0, ge=0, lt=1)
    reverse: bool = False  # the encoder learns the opposite of what the head learns
    strength: Positive = 1.0  # of the reversed gradient
    speakers: tuple[str, ...] = ()  # a training fills them in

    @field_validator("speakers")
    @classmethod
    def _names_fit(cls, speakers: tuple[str, ...]) -> tuple[str, ...]:
        size = sum(len(name.encode(errors="backslashreplace")) + 16 for name in speakers)
        if size > MAX_YAML_BYTES * 0.8:
            raise ValueError(f"the names of {len(speakers):,} speakers are more than a settings file holds")
        return speakers


class TextSettings(Settings):
    """A transcript beside the voice: a BiLSTM over it, fused with the states of speech."""

    unit: Literal["word", "character"] = "word"
    buckets: int = Field(default=5_000, ge=1, le=1_000_000)  # embeddings that words share by their hash
    size: int = Field(default=64, ge=1, le=4096)  # of an embedding
    units: int = Field(default=64, ge=1, le=4096)  # of the LSTM, in each direction
    dropout: float = Field(default=0.3, ge=0, lt=1)
    fusion: Literal["concatenation", "gate", "attention"] = "gate"
    read: Literal["reference", "recognised"] = "reference"  # in evaluation; training reads references


class ReadoutSettings(ObjectiveSettings):
    """What reads emotions from states: masked convolutions, transformer block, mean and variance."""

    channels: int = Field(default=64, ge=1, le=4096)  # of the convolutions and of the transformer block
    kernels: tuple[Width, Width] = (6, 3)
    strides: tuple[Width, Width] = (3, 2)
    negative_slope: float = Field(default=0.5, ge=0, le=1)  # of the LeakyReLU
    heads: int = Field(default=4, ge=1, le=64)
    input_dropout: float = Field(default=0.0, ge=0, lt=1)  # of what is read: against learning a small set by heart
    dropout: float = Field(default=0.1, ge=0, lt=1)  # of the transformer block

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.channels % self.heads:
            raise ValueError(f"channels ({self.channels}) must be a multiple of heads ({self.heads})")
        return self


class EmotionSettings(ReadoutSettings):
    """Predict activation, valence and dominance."""

    # What it reads, joined: encoder states, the stacked frames themselves, the probabilities of ctc's characters.
    inputs: tuple[Literal["states", "frames", "posteriors", "sentiment"], ...] = ("states",)
    text: TextSettings | None = None  # the transcript is read too, or alone where there are no inputs

    @model_validator(mode="after")
    def _different_inputs(self) -> Self:
        if len({*self.inputs}) < len(self.inputs):
            raise ValueError(f"inputs must differ from one another, not {list(self.inputs)}")
        if not self.inputs and self.text is None:
            raise ValueError("inputs must be one or more of states, frames and posteriors; only text can do without")
        return self


class CategorySettings(ReadoutSettings):
    """Tell emotion categories apart, such as angry, happy, neutral and sad."""

    classes: tuple[Category, ...] = Field(default=(), max_length=100)  # by default those of the training set
    counts: tuple[Count, ...] = ()  # utterances of each class in the training set; a training fills them in
    balanced: bool = True  # a rare class weighs as much in the loss as a frequent one

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        if len({*self.classes}) < len(self.classes) or len(self.classes) == 1:
            raise ValueError(f"classes must be two or more, each named once, not {', '.join(self.classes)}")
        if "truth" in self.classes:
            raise ValueError("classes: 'truth' would be taken for what is true, in a table of predictions")
        if self.counts and len(self.counts) != len(self.classes):
            raise ValueError(f"counts must be as many as classes ({len(self.classes)}), not {len(self.counts)}")
        return self


class Objectives(Settings):
    """The tasks on encoder states, each with its weight in the loss; ``ctc: 1`` is short for ``ctc: {weight: 1}``."""

    ctc: CtcSettings | None = None
    sentiment: SentimentSettings | None = None
    apc: ApcSettings | None = None
    cpc: CpcSettings | None = None
    speaker: SpeakerSettings | None = None
    emotion: EmotionSettings | None = None
    category: CategorySettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _weight_alone(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {k: {"weight": v} if isinstance(v, int | float | str) else v for k, v in value.items()}

    @model_validator(mode="after")
    def _at_least_one(self) -> "Objectives":
        if not self.active():
            raise ValueError(f"needs at least one of {', '.join(type(self).model_fields)}")
        return self

    def active(self) -> dict[str, ObjectiveSettings]:
        """The objectives that are set, by name."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}

    def predicting_frames(self) -> list[str]:
        """The trained objectives whose labels are later frames."""
        return [name for name, task in self.active().items() if task.predicts_frames and task.weight]


def probability_of(category: str) -> str:
    """The column of a category's probability, in every table."""
    return f"emotion_{category}"
