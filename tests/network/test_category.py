"""Emotion categories beside torch and scikit-learn: loss, class weights, scores, and what a training set says."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.nn import functional

from sa2sr.audio import AudioInfo
from sa2sr.config import CategorySettings
from sa2sr.cuts import make_cut
from sa2sr.errors import CorpusError, RecipeError
from sa2sr.network.objectives.category import Category
from sa2sr.speech.batches import Batch
from sa2sr.speech.utterances import Utterance, UtteranceSet, of_classes

H = 5
CLASSES = ("angry", "happy", "neutral", "sad")
LABELS = st.lists(st.sampled_from([*CLASSES, None, "bored"]), min_size=1, max_size=30)


def make_category(**values: Any) -> Category:
    torch.manual_seed(0)
    small = {"channels": 8, "heads": 2, "dropout": 0, "classes": CLASSES}
    return Category(H, CategorySettings.model_validate(small | values))


def labelled(categories: Sequence[str | None]) -> tuple[Tensor, Batch]:
    count = len(categories)
    states = torch.randn(count, 20, H, generator=torch.Generator().manual_seed(1))
    unknown, lengths = torch.full((count, 3), float("nan")), torch.full((count,), 20)
    names = [f"u{row}" for row in range(count)]
    return states, Batch(names, states, lengths, [None] * count, unknown, unknown, 1.0, categories=[*categories])


def utterances(categories: Sequence[str | None]) -> list[Utterance]:
    cut = make_cut("u", "u.wav", AudioInfo(8000, 8000, 1))
    return [Utterance(f"u{number}", cut, 1.0, category=category) for number, category in enumerate(categories)]


def test_the_loss_is_torchs_over_a_training_set_that_has_the_counts() -> None:
    """Weights are 1 on average there, so that the mean over it is the weighted mean that torch takes."""
    categories = ["sad", "angry", "angry", "angry", None, "neutral", "bored", "happy", "happy"]
    known = [row for row, name in enumerate(categories) if name in CLASSES]
    targets = torch.tensor([CLASSES.index(str(categories[row])) for row in known])
    counts = [sum(name == each for name in categories) for each in CLASSES]
    for values in ({"counts": counts}, {"counts": counts, "balanced": False}):
        task = make_category(**values)
        states, batch = labelled(categories)
        logits = task.read(states, batch.lengths)[known]
        weights = compute_class_weight("balanced", classes=np.arange(4), y=targets.numpy())
        weight = torch.tensor(weights, dtype=torch.float32) if task.class_weights[0] != 1 else None
        expected = functional.cross_entropy(logits, targets, weight=weight)
        torch.testing.assert_close(task.loss(states, batch.lengths, batch), expected)


@pytest.mark.parametrize("nobody", [[None] * 3, ["bored"] * 3])
def test_without_known_categories_there_is_nothing_to_learn(nobody: list[str | None]) -> None:
    task = make_category()
    states, batch = labelled(nobody)
    loss = task.loss(states, batch.lengths, batch)
    loss.backward()
    assert loss.item() == 0
    assert all(weights.grad is None or not weights.grad.any() for weights in task.parameters())


@given(labels=LABELS, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_scores_equal_scikit_learns(labels: list[str | None], seed: int) -> None:
    predictions = list(np.random.default_rng(seed).dirichlet(np.ones(4), len(labels)).astype(np.float32))
    found = make_category().score(predictions, utterances(labels))
    rows = [row for row, name in enumerate(labels) if name in CLASSES]
    if not rows:
        assert found == {}
        return
    truth, said = [labels[row] for row in rows], [CLASSES[predictions[row].argmax()] for row in rows]
    recall = sklearn.metrics.recall_score(truth, said, labels=np.unique(truth), average="macro")
    assert found["uar"] == pytest.approx(recall)
    assert found["weighted_accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, said))
    assert found["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(truth, said, average="macro"))


def test_the_settings_learn_the_classes() -> None:
    heard = utterances(["sad", None, "happy", "sad", "angry"])
    learnt = Category.with_labels(CategorySettings(channels=8), heard)
    assert learnt == CategorySettings(channels=8, classes=("angry", "happy", "sad"), counts=(1, 1, 2))
    named = Category.with_labels(CategorySettings(classes=("sad", "angry")), heard)
    assert (named.classes, named.counts) == (("sad", "angry"), (2, 1))
    for impossible, reason in (
        ({"classes": ("sad", "bored")}, "no training utterance is bored.*there are angry, happy, sad"),
        ({"classes": ("bored", "calm")}, "no training utterance is bored"),
    ):
        with pytest.raises(CorpusError, match=reason):
            Category.with_labels(CategorySettings.model_validate(impossible), heard)
    with pytest.raises(CorpusError, match="all training utterances are sad; to tell emotions apart needs two"):
        Category.with_labels(CategorySettings(), utterances(["sad", "sad"]))
    with pytest.raises(RecipeError, match="at most 100 items"):
        Category.with_labels(CategorySettings(), utterances([f"feeling {n}" for n in range(101)]))


def test_a_development_set_needs_two_classes() -> None:
    assert Category.objection(utterances(["sad", None, "angry"])) is None
    assert Category.objection(utterances(["sad", None])) == "all of its categories are sad, and a UAR needs two"


def test_labels_of_other_classes_are_counted() -> None:
    data = UtteranceSet(utterances(["sad", "bored", None, "calm", "bored"]), left_out=Counter(), scale=None)
    found = of_classes(data, CLASSES)
    assert [u.category for u in found.utterances] == ["sad", None, None, None, None]
    assert found.left_out == {"label bored, which is no class": 2, "label calm, which is no class": 1}
    assert of_classes(found, CLASSES) is found
