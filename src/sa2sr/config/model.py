"""What a model is: these settings are saved in the model folder."""

import math
from typing import Literal

from pydantic import Field, model_validator

from sa2sr.config.base import Name, Settings
from sa2sr.config.encoder import EncoderSettings, frames_of
from sa2sr.config.objectives import HEAD_OF_INPUT, Objectives


class Scale(Settings):
    """The scale of the ratings that a corpus carries and a model predicts."""

    name: str = Field(default="1-7", pattern=r"^[^\p{Cc}]+$", max_length=100)
    low: float = 1.0
    high: float = 7.0

    @model_validator(mode="after")
    def _ordered(self) -> "Scale":
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self

    def excludes(self, rating: float) -> bool:
        """Whether a rating is outside the scale, rounding aside; NaN, an unknown rating, is not."""
        return rating < self.low - 1e-6 or rating > self.high + 1e-6


class FrontEnd(Settings):
    """From a waveform to the frames that the encoder reads.

    A pre-trained encoder of the kind ``transformers`` reads the waveform itself, a frame a sample. Window and step are
    then those of its states; a training takes them, and the sampling rate, from the encoder.
    """

    kind: Literal["lfbe", "waveform"] = "lfbe"
    sampling_rate: int = Field(default=16_000, ge=2_000, le=192_000)  # Hz
    filters: int = Field(default=40, ge=1, le=256)  # log mel filterbank energies
    window_ms: float = Field(default=25.0, ge=1, le=1_000)
    step_ms: float = Field(default=10.0, ge=1, le=1_000)
    floor_db: float | None = Field(default=None, ge=10, le=200)  # energies this far below the loudest are raised to it
    normalised: Literal["filters", "together"] = "filters"  # to mean 0 and variance 1: each filter, or all by one
    stack: int = Field(default=3, ge=1, le=16)  # adjacent frames joined to one

    @property
    def window_samples(self) -> int:
        """Samples of a window."""
        return round(self.sampling_rate * self.window_ms / 1000)

    @property
    def step_samples(self) -> int:
        """Samples of a step."""
        return round(self.sampling_rate * self.step_ms / 1000)

    @property
    def dimension(self) -> int:
        """Features of a stacked frame."""
        return 1 if self.kind == "waveform" else self.filters * self.stack

    @property
    def batch_seconds(self) -> float:
        """Padded audio that may be predicted at a time: a waveform's convolutions take 27 MB for each second."""
        return 60.0 if self.kind == "waveform" else 240.0

    def states(self, seconds: float) -> int:
        """How many states the encoder has of so much audio, at least."""
        if self.kind == "lfbe":
            return math.floor(seconds * 1000 / self.step_ms / self.stack)
        samples = math.floor(seconds * self.sampling_rate)
        return max(0, (samples - self.window_samples) // self.step_samples + 1)

    @model_validator(mode="after")
    def _window_covers_step(self) -> "FrontEnd":
        if self.window_ms < self.step_ms:
            raise ValueError(f"window_ms ({self.window_ms:g}) must be at least step_ms ({self.step_ms:g})")
        if self.kind == "waveform" and self.stack != 1:
            raise ValueError(f"stack ({self.stack}) must be 1: samples of a waveform are not joined")
        return self


class ModelSettings(Settings):
    """What ``config.yaml`` of a model folder holds: enough to rebuild the network and to name its numbers."""

    format: Literal[1] = 1
    name: Name = "sa2sr"
    frontend: FrontEnd = FrontEnd()
    encoder: EncoderSettings = EncoderSettings()
    objectives: Objectives
    scale: Scale | None = None  # of the ratings; none when the model does not predict emotions
    drifted: tuple[Name, ...] = ()  # heads that the encoder has since learnt without

    @property
    def reads_texts(self) -> bool:
        """Whether emotions are told from texts beside speech."""
        return self.objectives.emotion is not None and self.objectives.emotion.text is not None

    @property
    def read_by_emotion(self) -> set[str]:
        """The heads whose outputs emotions are told from."""
        inputs = self.objectives.emotion.inputs if self.objectives.emotion is not None else ()
        heads = {HEAD_OF_INPUT[each] for each in inputs if each in HEAD_OF_INPUT}
        return heads | {"ctc"} if self.reads_texts else heads

    @model_validator(mode="after")
    def _what_emotions_are_told_from_is_there(self) -> "ModelSettings":
        emotion = self.objectives.emotion
        for inputs, task in HEAD_OF_INPUT.items():
            if emotion is not None and inputs in emotion.inputs and getattr(self.objectives, task) is None:
                raise ValueError(
                    f"objectives.emotion.inputs has {inputs}, and there is no {task} to give them: "
                    f"pre-train on {task}, or add it to the objectives"
                )
        return self

    @property
    def categories(self) -> tuple[str, ...]:
        """The emotions that the model tells apart; none if it does not."""
        return self.objectives.category.classes if self.objectives.category is not None else ()

    def tells(self, name: str) -> bool:
        """Whether the model has the head ``name``, and the encoder has not been trained further without it."""
        return name in self.objectives.active() and name not in self.drifted

    @model_validator(mode="after")
    def _encoder_reads_frames(self) -> "ModelSettings":
        if (wanted := frames_of(self.encoder)) != self.frontend.kind:
            raise ValueError(f"frontend.kind must be {wanted}, which encoder.kind {self.encoder.kind} reads")
        check_inputs(self.encoder, self.objectives)
        return self


def check_inputs(encoder: EncoderSettings, objectives: Objectives) -> None:
    """Whether there are frames for emotions to be told from.

    Raises:
        ValueError: if samples would be all there is
    """
    emotion = objectives.emotion
    if emotion is not None and "frames" in emotion.inputs and frames_of(encoder) == "waveform":
        raise ValueError("objectives.emotion.inputs has frames, and an encoder of waveforms has none: use states")
