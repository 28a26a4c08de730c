"""Fitting a linear regressor on fixed vectors, into a run folder like that of any training."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS, FrontEnd, Recipe, Regression, RegressionModel
from sa2sr.errors import CorpusError, UserError
from sa2sr.metrics import ccc
from sa2sr.network.folder import write_calibration
from sa2sr.network.model import load_model
from sa2sr.network.objectives import Ctc, Emotion
from sa2sr.speech.utterances import Utterance, UtteranceSet, read_utterances, usable
from sa2sr.training.calibration import measured
from sa2sr.training.hearing import LONGEST
from sa2sr.training.regressor import FeatureSpace, Regressor, dense_features, save_regressor
from sa2sr.training.run import RunFolder
from sa2sr.vectors.material import Material, gather
from sa2sr.vectors.tfidf import fit_vocabulary

_PENALTIES = {"ridge": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4), "svr": (1.0, 10.0, 100.0, 1e3)}
_EPSILON = 0.1  # of support vector regression: errors that cost nothing, in spreads of the ratings


def regress(recipe: Recipe, out: str | Path, start_from: str | Path | None = None) -> RunFolder:
    """Fit the regression of a recipe; what the penalty and the stretch are is chosen on the development set.

    Args:
        recipe: with a regression
        out: the run folder
        start_from: a pre-trained model or run folder, for features that need one

    Raises:
        UserError: if recipe, data and model do not fit, or an extra is missing
    """
    if recipe.regression is None:
        raise UserError(f"recipe '{recipe.name}' has no regression")
    _estimators()  # an error now, not after the features
    folder = RunFolder(Path(out))
    with folder.lock():
        folder.begin(recipe, "regression", start_from)
        began = time.monotonic()
        regression = recipe.regression
        train = _read_set("train", regression.train, regression, recipe.frontend)
        dev = _read_set("dev", regression.dev, regression, recipe.frontend)
        if train.scale != dev.scale:
            raise CorpusError(
                f"the training ratings are on {train.scale}, those of the development set on {dev.scale}; "
                "the key regression.scale of the recipe gives a scale to map both onto"
            )
        model, dev_material = _fit(recipe, regression, train, dev, start_from)
        emotions = model.predict(dev_material)
        save_regressor(model, folder.model)
        residuals = measured(list(emotions), dev_material.utterances, regression.dev)
        write_calibration(folder.model, residuals)
        scores = _scores(emotions, dev_material)
        entry = {
            "epoch": 0,
            "seconds": round(time.monotonic() - began, 1),
            "speech_hours": round(train.hours, 4),
            "dev": scores,
            "criterion": -scores["mean_ccc"],
            "best": True,
        }
        folder.keep_history(0)
        folder.add_history(entry)
        folder.finish(entry)
    return folder


def _read_set(name: str, paths: Sequence[Path], regression: Regression, frontend: FrontEnd) -> UtteranceSet:
    if not paths:
        raise CorpusError(f"no {name} manifest is given; use --{name} FILE, or the key regression.{name} of the recipe")
    try:
        data = read_utterances(paths, regression.scale)
        data = usable(data, frontend, {"emotion": Emotion}, shortest=0.0, longest=LONGEST)
    except CorpusError as error:
        raise CorpusError(f"{', '.join(map(str, paths))}: the {name} set: {error}") from None
    if name == "dev" and (reason := Emotion.objection(data.utterances)):
        raise CorpusError(f"{', '.join(map(str, paths))}: cannot be the dev set: {reason}")
    return data


def _fit(
    recipe: Recipe, regression: Regression, train: UtteranceSet, dev: UtteranceSet, start_from: str | Path | None
) -> tuple[Regressor, Material]:
    """The regressor, and what it reads of the development set."""
    network = load_model(start_from) if start_from is not None and regression.needs_model else None
    words = _words(train.utterances) if regression.text.language_model else ()
    material = gather(regression, train.utterances, recipe.frontend, network, words, training=True)
    dev_material = gather(regression, dev.utterances, recipe.frontend, network, words)
    space = _space(regression, material)
    of_train, of_dev = space.of(material), space.of(dev_material)
    ratings, dev_ratings = (np.array([u.ratings for u in each.utterances]) for each in (material, dev_material))
    corpora = np.array([u.corpus.number for u in dev_material.utterances])
    lines = [
        _best_line(_Side(of_train, ratings[:, d]), _Side(of_dev, dev_ratings[:, d]), corpora, regression, recipe.seed)
        for d in range(len(DIMENSIONS))
    ]
    model = Regressor(
        RegressionModel(
            name=recipe.name,
            frontend=recipe.frontend,
            scale=train.scale,
            regression=regression.model_copy(update={"train": (), "dev": ()}),
        ),
        space,
        np.stack([line.weights for line in lines]).astype(np.float32),
        np.array([line.intercept for line in lines], np.float32),
        words,
        network,
    )
    return model, dev_material


def _space(regression: Regression, material: Material) -> FeatureSpace:
    dense = dense_features(regression.features, material)
    known = np.isfinite(dense)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, dense, 0).sum(0) / count
    spread = np.sqrt(np.where(known, (dense - mean) ** 2, 0).sum(0) / count)
    spread = np.where(spread > 1e-8 * (1 + np.abs(mean)), spread, 1)
    counted = regression.features.tfidf
    vocabulary = fit_vocabulary(material.texts, counted) if counted is not None else None
    return FeatureSpace(regression.features, mean.astype(np.float32), spread.astype(np.float32), vocabulary)


def _words(utterances: Sequence[Utterance]) -> tuple[str, ...]:
    return tuple(sorted({word for u in utterances for word in (u.text or "").split()}))


@dataclass(frozen=True)
class _Side:
    """Features (N, D) and ratings (N,) of a set, NaN where unknown."""

    features: Any
    ratings: NDArray[np.float64]

    @property
    def known(self) -> "_Side":
        rows = np.flatnonzero(np.isfinite(self.ratings))
        return _Side(self.features[rows], self.ratings[rows])


@dataclass(frozen=True)
class _Line:
    """``weights . x + intercept``."""

    weights: NDArray[np.float64]  # (D,)
    intercept: float

    def of(self, features: Any) -> NDArray[np.float64]:
        return np.asarray(features @ self.weights) + self.intercept

    def stretched(self, dev: _Side) -> "_Line":
        """The line whose predictions have the spread at which the CCC on a development set is highest.

        A least squares fit is drawn to the mean the more, the less it knows, and the CCC counts that as error. Of
        predictions a p + (1 - a) m about their mean m it is ``2 a cov / (a^2 var p + var y + (m - mean y)^2)``.
        """
        said = self.of(dev.features)
        covariance = ((said - said.mean()) * (dev.ratings - dev.ratings.mean())).mean() if len(said) else 0.0
        if covariance <= 0:
            return self
        factor = np.sqrt((dev.ratings.var() + (said.mean() - dev.ratings.mean()) ** 2) / said.var())
        return _Line(self.weights * factor, float(said.mean() + factor * (self.intercept - said.mean())))


def _best_line(train: _Side, dev: _Side, corpora: NDArray[np.int64], regression: Regression, seed: int) -> _Line:
    """Of a dimension: the line with the highest CCC on the development set; a constant where nothing is rated."""
    corpora, train, dev = corpora[np.isfinite(dev.ratings)], train.known, dev.known
    if not len(train.ratings):
        return _Line(np.zeros(train.features.shape[1]), 0.0)
    found = []
    for penalty in regression.penalties or _PENALTIES[regression.regressor]:
        line = _line(train, regression.regressor, penalty, seed)
        line = line.stretched(dev) if regression.stretch else line
        found.append((_mean_ccc(line.of(dev.features), dev.ratings, corpora), line))
    return max(found, key=lambda each: each[0])[1]


def _line(train: _Side, kind: str, penalty: float, seed: int) -> _Line:
    ridge, svr = _estimators()
    mean, spread = train.ratings.mean(), max(float(train.ratings.std()), 1e-3)
    if kind == "ridge":
        model = ridge(alpha=penalty, tol=1e-6)
    else:
        model = svr(C=1 / penalty, epsilon=_EPSILON, random_state=seed, max_iter=10_000)
    model.fit(train.features, (train.ratings - mean) / spread)
    intercept = float(np.ravel(model.intercept_)[0]) if np.size(model.intercept_) else 0.0
    return _Line(np.ravel(model.coef_).astype(np.float64) * spread, intercept * spread + mean)


def _estimators() -> tuple[Any, Any]:
    """Scikit-learn's ridge and linear support vector regression."""
    try:
        from sklearn.linear_model import Ridge
        from sklearn.svm import LinearSVR
    except ImportError:
        raise UserError("a regression needs the extra baselines: pip install 'sa2sr[baselines]'") from None
    return Ridge, LinearSVR


def _mean_ccc(said: NDArray[np.float64], ratings: NDArray[np.float64], corpora: NDArray[np.int64]) -> float:
    """Over the corpora; 0 where there is none."""
    values = [ccc(said[corpora == corpus], ratings[corpora == corpus]) for corpus in np.unique(corpora)]
    return float(np.nan_to_num(np.mean(values))) if values else 0.0


def _scores(emotions: NDArray[np.float64], material: Material) -> dict[str, float]:
    """What the objectives of networks say of the same: CCC, and the errors of what was recognised."""
    scores = Emotion.score(list(emotions), material.utterances)
    if material.hypotheses is not None:
        scores |= Ctc.score(material.hypotheses, material.utterances)
    return scores
