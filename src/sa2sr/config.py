"""Recipes and model settings, typed and checked: every key has a type, a range and a meaning; unknown keys are errors.

A recipe is a short YAML file that may extend another. :func:`load_recipe` merges the chain, applies ``key.sub=value``
overrides and validates the result; every mistake is reported with the path of its key and what is allowed there.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from sa2sr.errors import RecipeError

DIMENSIONS = ("activation", "valence", "dominance")
SENTIMENTS = ("negative", "neutral", "positive")
FEELINGS = ("emotion", "category", "sentiment")  # objectives, one of which a fine-tuning is for
ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"  # with the CTC blank in front: the paper's 29 characters

_MAX_YAML_BYTES = 100_000

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=1, le=1000)]  # frames
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
# In lower case, as the categories of cuts are read.
Category = Annotated[str, Field(pattern=r"^[^\p{Cc}\p{Lu}]+$", max_length=100)]
# One path need not be written as a list.
Paths = Annotated[tuple[Path, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str | Path) else v)]


class Settings(BaseModel):
    """Base of all settings: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _booleans_are_not_numbers(cls, value: Any, info: Any) -> Any:
        """YAML reads yes, no, on and off as booleans, which would pass for 1 and 0."""
        parts = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(part, bool) for part in parts) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("must not be true or false (YAML reads yes, no, on and off as these)")
        return value


# --- What a model is: these settings are saved in the model folder ---------------------------------------------------


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


class LoraSettings(Settings):
    """Low-rank adapters (Hu et al., 2021) beside linear layers of a pre-trained encoder, whose own weights stay."""

    rank: int = Field(default=8, ge=1, le=1024)
    alpha: Positive = 16.0  # the adapters' outputs are scaled by alpha / rank
    dropout: float = Field(default=0.0, ge=0, lt=1)
    beside: tuple[str, ...] = ()  # names of linear layers; none: those that suit the encoder


class EncoderSettings(Settings):
    """A stack of LSTM layers, or of conformer blocks, over stacked frames; or a pre-trained encoder of waveforms."""

    # Its name was bilstm when there was one direction less.
    kind: Annotated[
        Literal["lstm", "conformer", "transformers"], BeforeValidator(lambda v: "lstm" if v == "bilstm" else v)
    ] = "lstm"
    direction: Literal["both", "forward"] = "both"  # forward: a state depends on the past alone
    layers: int = Field(default=5, ge=1, le=32)
    units: int = Field(default=192, ge=1, le=4096)  # of a direction; states have twice as many in both
    dropout: float = Field(default=0.0, ge=0, lt=1)  # between layers; of the conformer, within them
    heads: int = Field(default=4, ge=1, le=64)  # of the conformer's attention
    kernel: int = Field(default=31, ge=1, le=1001)  # stacked frames, of its convolution

    # Of the kind transformers, the library, to which none of the above applies.
    name: str | None = Field(default=None, min_length=1, max_length=1000)  # a folder, or a hub id
    readout: Literal["weighted", "last"] = "weighted"  # states: a learnt mean over all layers, or the last one's
    freeze: Literal["none", "features", "all"] | Annotated[int, Field(ge=1)] = (
        "features"  # that many layers, from below
    )
    lora: LoraSettings | None = None
    checkpointing: bool = False  # compute layers again going backward: less memory, a third more time
    _configuration: Mapping[str, Any] | None = PrivateAttr(None)

    @property
    def configuration(self) -> Mapping[str, Any] | None:
        """The architecture of a pre-trained encoder, once it is known: a file of its own in a model folder."""
        return self._configuration

    def with_configuration(self, configuration: Mapping[str, Any]) -> "EncoderSettings":
        """The same encoder, of a known architecture."""
        known = self.model_copy()
        known._configuration = configuration
        return known

    @model_serializer(mode="wrap")
    def _keys_of_its_kind(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        is_pretrained = self.kind == "transformers"
        return {
            name: value
            for name, value in serialise(self).items()
            if name == "kind" or (name in _OF_PRETRAINED_ENCODERS) == is_pretrained
        }

    @model_validator(mode="after")
    def _conformer_can_be_built(self) -> "EncoderSettings":
        if self.kind != "conformer":
            return self
        if self.direction != "both":
            raise ValueError("direction must be both: a conformer reads the whole utterance")
        if self.units % (2 * self.heads):
            raise ValueError(f"units ({self.units}) must be a multiple of twice the heads ({self.heads})")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel ({self.kernel}) must be odd, to reach as far back as ahead")
        return self

    @model_validator(mode="after")
    def _pretrained_encoder_is_named(self) -> "EncoderSettings":
        if self.kind != "transformers":
            if self.name is not None or self.lora is not None:
                raise ValueError(f"name and lora are of the kind transformers, not of {self.kind}")
            return self
        if self.name is None:
            raise ValueError("name must say which: a folder, or a hub id such as microsoft/wavlm-base-plus")
        if self.direction != "both":
            raise ValueError("direction must be both: a pre-trained encoder reads the whole utterance")
        if self.lora is not None and self.freeze not in ("features", "all"):
            raise ValueError(f"freeze ({self.freeze}) is of no use with lora, which freezes all but the adapters")
        return self


_OF_PRETRAINED_ENCODERS = ("name", "readout", "freeze", "lora", "checkpointing")


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
        size = sum(len(name.encode()) + 16 for name in speakers)
        if size > _MAX_YAML_BYTES * 0.8:
            raise ValueError(f"the names of {len(speakers):,} speakers are more than a settings file holds")
        return speakers

    def naming(self, speakers: Sequence[str]) -> "SpeakerSettings":
        """The same task for these speakers."""
        return SpeakerSettings.model_validate(self.model_dump() | {"speakers": tuple(speakers)})


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
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.channels % self.heads:
            raise ValueError(f"channels ({self.channels}) must be a multiple of heads ({self.heads})")
        return self


class EmotionSettings(ReadoutSettings):
    """Predict activation, valence and dominance."""

    # What it reads, joined: encoder states, the stacked frames themselves, the probabilities of ctc's characters.
    inputs: Annotated[tuple[Literal["states", "frames", "posteriors"], ...], Field(min_length=1)] = ("states",)
    text: TextSettings | None = None  # the transcript is read too

    @model_validator(mode="after")
    def _different_inputs(self) -> Self:
        if len({*self.inputs}) < len(self.inputs):
            raise ValueError(f"inputs must differ from one another, not {list(self.inputs)}")
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

    @model_validator(mode="after")
    def _posteriors_are_of_ctc(self) -> "ModelSettings":
        emotion = self.objectives.emotion
        if emotion is not None and "posteriors" in emotion.inputs and self.objectives.ctc is None:
            raise ValueError(
                "objectives.emotion.inputs has posteriors, and there is no ctc to give them: "
                "pre-train on ctc, or add it to the objectives"
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


def frames_of(encoder: EncoderSettings) -> str:
    """The kind of front end that an encoder reads."""
    return "waveform" if encoder.kind == "transformers" else "lfbe"


def check_inputs(encoder: EncoderSettings, objectives: Objectives) -> None:
    """Whether there are frames for emotions to be told from.

    Raises:
        ValueError: if samples would be all there is
    """
    emotion = objectives.emotion
    if emotion is not None and "frames" in emotion.inputs and frames_of(encoder) == "waveform":
        raise ValueError("objectives.emotion.inputs has frames, and an encoder of waveforms has none: use states")


# --- How a model is trained -------------------------------------------------------------------------------------------


class Augmentation(Settings):
    """Speed perturbation, then SpecAugment."""

    speeds: tuple[Annotated[float, Field(ge=0.25, le=4)], ...] = (0.9, 1.0, 1.1)
    every_speed: bool = True  # an epoch hears each utterance at all speeds; otherwise at one drawn speed
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
    workers: int = Field(default=0, ge=0, le=256)  # 0: as many as there are cores build a store; on the fly none helps


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
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the processor is faster in it
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


# --- Fixed vectors and a linear regressor: baselines that learn no features -------------------------------------------


class SentimentFeatures(Settings):
    """Probabilities that a teacher gives the text."""

    teacher: str = "vader"  # or transformers:<folder or hub id>


class TfIdfFeatures(Settings):
    """N-grams of the text by how often they occur and how rare they are."""

    unit: Literal["word", "character"] = "word"
    longest: int = Field(default=2, ge=1, le=10)  # units of an n-gram
    fewest: Count = 2  # training utterances that an n-gram is in
    most: int = Field(default=20_000, ge=1, le=1_000_000)  # n-grams; those in most utterances are kept


class TextEncoderFeatures(Settings):
    """States of a transformers text encoder, mean over the text."""

    model: str = Field(min_length=1)  # folder or hub id


class SpeakerFeatures(Settings):
    """The vector by which the speaker head of the pre-trained model knows a voice."""


class FunctionalFeatures(Settings):
    """Means, spreads, quantiles and changes of filterbank energies, loudness and pitch."""

    lowest_hz: float = Field(default=75.0, ge=20, le=500)  # of a voice
    highest_hz: float = Field(default=500.0, ge=50, le=2_000)

    @model_validator(mode="after")
    def _ordered(self) -> "FunctionalFeatures":
        if not 2 * self.lowest_hz <= self.highest_hz:
            raise ValueError(f"highest_hz ({self.highest_hz:g}) must be at least twice lowest_hz ({self.lowest_hz:g})")
        return self


class EgemapsFeatures(Settings):
    """The 88 functionals of eGeMAPS by openSMILE, which is free for research alone."""


class Vectors(Settings):
    """The features of an utterance, joined; ``tfidf: {}`` takes all defaults."""

    sentiment: SentimentFeatures | None = None
    tfidf: TfIdfFeatures | None = None
    encoder: TextEncoderFeatures | None = None
    speaker: SpeakerFeatures | None = None
    functionals: FunctionalFeatures | None = None
    egemaps: EgemapsFeatures | None = None

    @model_validator(mode="after")
    def _at_least_one(self) -> "Vectors":
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise ValueError(f"needs at least one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def read_text(self) -> bool:
        """Whether some of them are of words."""
        return any((self.sentiment, self.tfidf, self.encoder))


class Transcripts(Settings):
    """The text of an utterance: its transcript, what the pre-trained model hears, or what a file says was heard."""

    source: Literal["reference", "ctc", "file"] = "reference"
    learn_from: Literal["source", "reference"] = "source"  # reference: recognised text is only predicted from
    files: Paths = ()  # CSV with the columns id and text, such as predictions.csv of an evaluation
    beam: int = Field(default=1, ge=1, le=1_000)  # hypotheses kept; 1: the best class of each frame
    language_model: Path | None = None  # ARPA, or KenLM's binary format, of words; it needs a beam
    lexicon: Path | None = None  # words, one a line; by default those of the ARPA file and of the training transcripts
    language_weight: float = Field(default=1.0, ge=0)  # of its logarithmic probabilities
    word_score: float = 0.0  # added for each word

    @model_validator(mode="after")
    def _fits_the_source(self) -> "Transcripts":
        if (self.source == "file") != bool(self.files):
            raise ValueError("files must be given with source: file, and with no other")
        if self.source != "ctc" and (self.beam > 1 or self.language_model):
            raise ValueError("beam and language_model need source: ctc")
        if self.language_model is not None and self.beam < 2:
            raise ValueError("language_model needs a beam of at least 2, such as 50")
        return self


class Regression(Settings):
    """A fixed vector an utterance, and a linear regressor from it to each dimension."""

    train: Paths = ()  # cut manifests; usually given with --train
    dev: Paths = ()
    scale: Scale | None = None  # onto which ratings on other scales are mapped
    features: Vectors
    text: Transcripts = Transcripts()
    regressor: Literal["ridge", "svr"] = "ridge"  # least squares with an L2 penalty; linear support vector regression
    penalties: tuple[Positive, ...] = ()  # tried on the development set: alpha of ridge, 1 / C of SVR; some by default
    stretch: bool = True  # predictions about their mean, as suits the CCC on the development set

    @property
    def needs_model(self) -> bool:
        """Whether a pre-trained model hears the utterances."""
        return self.features.speaker is not None or (self.features.read_text and self.text.source == "ctc")


class RegressionModel(Settings):
    """What ``regression.yaml`` of a model folder holds."""

    format: Literal[1] = 1
    name: Name
    frontend: FrontEnd
    scale: Scale | None
    regression: Regression


class Recipe(Settings):
    """A system: what it is and how it is trained."""

    name: Name = "sa2sr"
    seed: int = Field(default=0, ge=0, lt=2**32)
    frontend: FrontEnd = FrontEnd()
    encoder: EncoderSettings = EncoderSettings()
    pretraining: Stage | None = None  # none: the encoder starts from random weights
    finetuning: Stage | None = None
    regression: Regression | None = None  # in place of a fine-tuning

    @model_validator(mode="after")
    def _stages_fit(self) -> "Recipe":
        if self.pretraining is None and self.finetuning is None and self.regression is None:
            raise ValueError("needs a pretraining or a finetuning stage, or a regression")
        if self.finetuning is not None and self.regression is not None:
            raise ValueError("has a finetuning and a regression: one must be null, or left out")
        if self.finetuning is not None:
            tasks = self.finetuning.objectives.active()
            if not any(name in FEELINGS and task.weight for name, task in tasks.items()):
                raise ValueError(f"finetuning.objectives needs {' or '.join(FEELINGS)}, with a weight above 0")
            is_new = self.pretraining is None and self.encoder.kind != "transformers"
            if self.finetuning.freeze_encoder and is_new:
                raise ValueError(
                    "finetuning.freeze_encoder needs a pretraining stage: frozen random weights learn nothing"
                )
        if self.pretraining is not None and self.pretraining.freeze_encoder:
            raise ValueError("pretraining.freeze_encoder is true, which leaves nothing to pre-train")
        return self

    @model_validator(mode="after")
    def _encoder_reads_frames(self) -> "Recipe":
        if self.frontend.kind == "waveform" and frames_of(self.encoder) != "waveform":
            raise ValueError(f"frontend.kind: encoder.kind {self.encoder.kind} reads lfbe, not a waveform")
        for stage in (self.pretraining, self.finetuning):
            if stage is not None:
                check_inputs(self.encoder, stage.objectives)
        return self

    @model_validator(mode="after")
    def _what_is_predicted_is_not_known(self) -> "Recipe":
        for name in ("pretraining", "finetuning"):
            stage: Stage | None = getattr(self, name)
            tasks = stage.objectives.predicting_frames() if stage is not None else []
            if tasks and self.encoder.direction != "forward":
                raise ValueError(
                    f"{name}.objectives.{tasks[0]} predicts frames from the past alone: encoder.direction must be "
                    f"forward, not {self.encoder.direction}, which has already read what is to be predicted"
                )
        return self


# --- Reading ----------------------------------------------------------------------------------------------------------

S = TypeVar("S", bound=Settings)

_MAX_MISTAKES = 20  # that a message lists
_PACKAGE = Path(__file__).resolve().parent
RECIPE_FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parents[1] / "recipes")  # installed, or in a checkout


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    return {path.stem: path for folder in RECIPE_FOLDERS for path in sorted(folder.glob("*.yaml"))}


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        source: a YAML file, or the name of a shipped recipe
        overrides: ``key.sub=value`` pairs, the value in YAML

    Raises:
        RecipeError: naming the file, the key and what is allowed
    """
    path = find_recipe(source)
    values = _merged_with_ancestors(path, ())
    for override in overrides:
        _apply_override(values, override)
    return validate(Recipe, values, str(path))


def find_recipe(source: str | Path) -> Path:
    """The file of a recipe that is given by path or by the name of a shipped one."""
    path, shipped = Path(source), shipped_recipes()
    with suppress(OSError):  # such as a name that is too long
        if path.is_file():
            return path
    if path.stem in shipped and path.parent == Path() and path.suffix in ("", ".yaml"):
        return shipped[path.stem]
    raise RecipeError(
        f"recipe '{source}' is neither a file nor a shipped recipe; shipped: {', '.join(sorted(shipped))}"
    )


def validate(kind: type[S], values: Any, source: str) -> S:
    """Check values against a settings class.

    Raises:
        RecipeError: with one line a mistake: the key's path, what is wrong and what is allowed
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        lines = [_explain(kind, mistake) for mistake in mistakes[:_MAX_MISTAKES]]
        if len(mistakes) > len(lines):
            lines.append(f"and {len(mistakes) - len(lines)} more")
        raise RecipeError(f"{source}:\n" + "\n".join(f"  {line}" for line in lines)) from None


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file (safe types only).

    Raises:
        RecipeError: if it is missing, larger than any settings file, or not YAML
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_YAML_BYTES:
            raise RecipeError(f"{path}: is larger than {_MAX_YAML_BYTES:,} bytes, which no settings file is")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: is not UTF-8 text") from None
    return _parse_yaml(text, str(path))


def to_yaml(settings: Settings, *, defaults: bool = True) -> str:
    """Settings as YAML, keys in the order of their declaration, with or without those that have their defaults."""
    values = settings.model_dump(mode="json", exclude_defaults=not defaults)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


class _StrictLoader(yaml.SafeLoader):
    """Refuses aliases, which let a small file expand to gigabytes, and keys that occur twice, of which one is lost."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [key for key, count in keys.items() if count > 1]:
            raise yaml.YAMLError(f"the key '{twice[0]}' occurs twice in one mapping, line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_StrictLoader)
    # PyYAML lets errors of all these kinds through, such as KeyError for "!!bool maybe".
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, AttributeError, LookupError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RecipeError(f"{source}: is not YAML ({reason or type(error).__name__})") from None


def _merged_with_ancestors(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The mapping of a recipe laid over those that it extends."""
    if path.resolve() in seen:
        raise RecipeError(f"{path}: extends itself ({' -> '.join(p.name for p in (*seen, path))})")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: must be a mapping of keys to values, not {type(values).__name__}")
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise RecipeError(f"{path}: extends: must name one recipe, not {parent!r}")
    beside = path.parent / parent
    parent_path = beside if beside.is_file() else find_recipe(parent)
    return _merge(_merged_with_ancestors(parent_path, (*seen, path.resolve())), values)


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key; everything else is replaced. Null unsets a key that may be unset."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise RecipeError(f"'{override}' is not of the form key.sub=value, such as pretraining.optimiser.rate=1e-3")
    node = values
    for name in path[:-1]:
        child = node.get(name)
        if not isinstance(child, dict):
            # `objectives.ctc.weight=2` over the short form `ctc: 1`
            child = {"weight": child} if isinstance(child, int | float) else {}
            node[name] = child
        node = child
    node[path[-1]] = _parse_yaml(text, override)


def _explain(kind: type[Settings], mistake: Any) -> str:
    """One line for a mistake that pydantic found."""
    location, type_ = list(mistake["loc"]), mistake["type"]
    # A key may hold anything, even what would steer a terminal.
    path = ".".join(str(part) if str(part).isprintable() else repr(part) for part in location) or "(top level)"
    given = repr(mistake["input"])
    got = f" (got {given if len(given) <= 80 else given[:80] + '...'})"
    if type_ in ("extra_forbidden", "model_type", "model_attributes_type"):
        unknown = type_ == "extra_forbidden"
        owner = _settings_at(kind, location[:-1] if unknown else location)
        allowed = f"; allowed here: {', '.join(owner.model_fields)}" if owner else ""
        return f"{path}: unknown key{allowed}" if unknown else f"{path}: must be a mapping of keys{allowed}{got}"
    message = mistake["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
    # The messages of our own validators show the value themselves.
    return f"{path}: {message[0].lower() + message[1:]}{'' if type_ in ('value_error', 'missing') else got}"


def _settings_at(kind: type[Settings], location: Sequence[Any]) -> type[Settings] | None:
    """The settings class that describes the mapping at ``location``."""
    current: type[Settings] | None = kind
    parts = iter(location)
    for part in parts:
        field = current.model_fields.get(str(part)) if current else None
        if field is None or (get_origin(field.annotation) is dict and next(parts, None) is None):  # a name of its own
            return None
        candidates = (field.annotation, *get_args(field.annotation))
        current = next((c for c in candidates if isinstance(c, type) and issubclass(c, Settings)), None)
    return current
