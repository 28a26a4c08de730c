"""A linear regressor on fixed vectors, and the folder that it is saved in.

::

    MODEL/regression.yaml    settings
    MODEL/model.safetensors  weights, and means and spreads of the features
    MODEL/vocabulary.json    n-grams of TF-IDF, and words that a decoder may write; only where there are such
    MODEL/encoder/           the model that hears words or voices, if one does
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from scipy import sparse

from sa2sr.config import DIMENSIONS, RegressionModel, Vectors, read_yaml, to_yaml, validate
from sa2sr.errors import CorpusError, ModelError, RecipeError
from sa2sr.files import atomic, read_json, write_json, write_text
from sa2sr.network.folder import (
    ENCODER_FOLDER,
    REGRESSION_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    find_model,
    read_weights,
)
from sa2sr.network.model import SpeechModel, load_model, save_model
from sa2sr.network.objectives import Emotion
from sa2sr.sentiment import teacher_from_name
from sa2sr.training.hearing import Heard, read_labelled, within_scale
from sa2sr.vectors.encoding import encode_texts
from sa2sr.vectors.material import Material, gather
from sa2sr.vectors.tfidf import Vocabulary, tfidf

_LARGEST_VOCABULARY = 200_000_000  # bytes


def dense_features(features: Vectors, material: Material) -> NDArray[np.float64]:
    """All features but TF-IDF, (N, F), as they come; NaN where one does not exist."""
    parts = [np.zeros((len(material.utterances), 0))]
    if features.sentiment is not None:
        parts.append(teacher_from_name(features.sentiment.teacher).probabilities(material.texts).astype(np.float64))
    if features.encoder is not None:
        parts.append(encode_texts(material.texts, features.encoder.model))
    return np.concatenate([*parts, material.voices, material.sounds], axis=1)


@dataclass(frozen=True)
class FeatureSpace:
    """What is known of the features of a training set: F dense ones, and V n-grams."""

    settings: Vectors
    mean: NDArray[np.float32]  # (F,)
    spread: NDArray[np.float32]  # (F,), 1 for a feature that is constant
    vocabulary: Vocabulary | None

    def of(self, material: Material) -> Any:
        """Dense features with the mean 0 and the spread 1 of the training set, then TF-IDF: (N, F + V)."""
        dense = dense_features(self.settings, material)
        if dense.shape[1] != len(self.mean):
            raise ModelError(f"an utterance has {dense.shape[1]} features now, and had {len(self.mean)} in training")
        dense = np.nan_to_num((dense - self.mean) / self.spread)  # what does not exist is the mean
        if self.settings.tfidf is None or self.vocabulary is None:
            return dense
        counted = tfidf(material.texts, self.vocabulary, self.settings.tfidf)
        return sparse.csr_array(sparse.hstack([sparse.csr_array(dense), counted])) if dense.size else counted


@dataclass(frozen=True)
class Regressor:
    """A model that predicts from fixed vectors."""

    settings: RegressionModel
    space: FeatureSpace
    weights: NDArray[np.float32]  # (3, F + V)
    intercepts: NDArray[np.float32]  # (3,)
    words: tuple[str, ...] = ()  # that a decoder with a language model may write
    network: SpeechModel | None = None  # that hears words or voices

    def predict(self, material: Material) -> NDArray[np.float64]:
        """Activation, valence and dominance of N utterances, (N, 3), within the scale."""
        emotions = np.asarray(self.space.of(material) @ self.weights.T.astype(np.float64)) + self.intercepts
        return within_scale(self.settings.scale, emotions).astype(np.float64)

    def hear(self, manifests: Sequence[str | Path], *, map_scale: bool = False) -> Heard:
        """What it says of the utterances of manifests, and what was recognised in them, if anything was.

        Args:
            manifests: of cuts
            map_scale: map ratings on another scale linearly onto the model's

        Raises:
            CorpusError: if there are no ratings, or on another scale, or what features need cannot be read
        """
        data = read_labelled(manifests, {"emotion": Emotion}, self.settings.scale, map_scale=map_scale)
        try:
            material = gather(
                self.settings.regression, data.utterances, self.settings.frontend, self.network, self.words
            )
        except CorpusError as error:
            raise CorpusError(f"{', '.join(map(str, manifests))}: {error}") from None
        said: dict[str, list[Any]] = {"emotion": list(self.predict(material))}
        if material.hypotheses is not None:
            said["ctc"] = list(material.hypotheses)
        return Heard(material.utterances, said, data.left_out, material.failures)


def save_regressor(model: Regressor, folder: Path) -> None:
    """Write the model folder, each file atomically, the settings last."""
    vocabulary = model.space.vocabulary
    tensors = {
        "regression.weights": model.weights,
        "regression.intercepts": model.intercepts,
        "features.mean": model.space.mean,
        "features.spread": model.space.spread,
    }
    if vocabulary is not None:
        tensors["vocabulary.weights"] = vocabulary.weights.astype(np.float32)
    ngrams = vocabulary.ngrams if vocabulary is not None else ()
    if ngrams or model.words:
        write_json(folder / VOCABULARY_FILE, {"ngrams": ngrams, "words": model.words})
    if model.network is not None:
        save_model(model.network, folder / ENCODER_FOLDER)
    with atomic(folder / WEIGHTS_FILE) as temporary:
        temporary.write_bytes(save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))
    write_text(folder / REGRESSION_FILE, to_yaml(model.settings))


def load_regressor(folder: str | Path) -> Regressor:
    """Load the folder of a regression; nothing in it is executed or unpickled.

    Raises:
        ModelError: naming what is missing or does not fit
    """
    folder = find_model(folder)
    try:
        settings = validate(RegressionModel, read_yaml(folder / REGRESSION_FILE), str(folder / REGRESSION_FILE))
    except RecipeError as error:
        raise ModelError(str(error)) from None
    tensors = read_weights(folder)
    ngrams, words = _read_vocabulary(folder / VOCABULARY_FILE)
    is_counted = settings.regression.features.tfidf is not None
    names = ["regression.weights", "regression.intercepts", "features.mean", "features.spread"]
    for name in [*names, *(["vocabulary.weights"] if is_counted else [])]:
        if name not in tensors:
            raise ModelError(f"{folder / WEIGHTS_FILE}: {name} is missing")
    weights, intercepts, mean, spread = (tensors[name] for name in names)
    idf = tensors["vocabulary.weights"] if is_counted else np.zeros(0, np.float32)
    shapes = {weights.shape: (len(DIMENSIONS), mean.size + idf.size), intercepts.shape: (len(DIMENSIONS),)}
    shapes |= {idf.shape: (len(ngrams),), mean.shape: (mean.size,), spread.shape: (mean.size,)}
    if any(found != expected for found, expected in shapes.items()):
        raise ModelError(f"{folder / WEIGHTS_FILE}: the shapes of its tensors do not fit each other or the vocabulary")
    network = load_model(folder / ENCODER_FOLDER) if settings.regression.needs_model else None
    vocabulary = Vocabulary(ngrams, idf.astype(np.float64)) if is_counted else None
    space = FeatureSpace(settings.regression.features, mean, spread, vocabulary)
    return Regressor(settings, space, weights, intercepts, words, network)


def _read_vocabulary(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """N-grams and words; none where there is no such file."""
    if not path.exists():
        return (), ()
    try:
        content = read_json(path, _LARGEST_VOCABULARY)
        ngrams, words = content["ngrams"], content["words"]
        if not all(isinstance(each, str) for each in (*ngrams, *words)):
            raise TypeError("all must be strings")
        return tuple(ngrams), tuple(words)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: is not a vocabulary ({error})") from None
