"""Fixed vectors and a linear regressor: baselines that learn no features."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from sa2sr.config.base import Count, Name, Paths, Positive, Settings
from sa2sr.config.model import FrontEnd, Scale


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

    @property
    def named_files(self) -> tuple[Path, ...]:
        """All files that it is read by."""
        return (*self.files, *(path for path in (self.language_model, self.lexicon) if path is not None))

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
