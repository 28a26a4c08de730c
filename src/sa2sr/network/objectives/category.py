"""Emotion categories: the readout of the dimensions, and a softmax over the classes of the training set."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sa2sr.config import CategorySettings, validate
from sa2sr.errors import CorpusError
from sa2sr.metrics import f1, recall
from sa2sr.network.objectives.base import Criterion, class_numbers
from sa2sr.network.objectives.readout import Readout
from sa2sr.network.parallel import mean_where

if TYPE_CHECKING:
    from sa2sr.speech.batches import Batch
    from sa2sr.speech.utterances import Utterance


class Category(Readout):
    """(B, T', H) -> (B, K) logits of the K classes; utterances of other classes are as good as unlabelled."""

    criterion = Criterion("uar", -1)
    remedy = "categories are needed: the custom field 'emotion' of the cuts"

    def __init__(self, dimension: int, settings: CategorySettings) -> None:
        super().__init__(dimension, settings, len(settings.classes))
        self.numbers = {name: number for number, name in enumerate(settings.classes)}
        self.class_weights = _class_weights(settings)

    @staticmethod
    def with_labels(settings: Any, utterances: Sequence["Utterance"]) -> Any:
        """The settings with the classes of the training set, unless they name theirs, and their counts.

        Raises:
            CorpusError: if there are fewer than two classes, or none of a class that the settings name
        """
        counts = Counter(u.category for u in utterances if u.category is not None)
        classes = settings.classes or sorted(counts)
        if len(classes) < 2:
            found = f"all training utterances are {classes[0]}" if classes else "no training utterance has a category"
            raise CorpusError(f"{found}; to tell emotions apart needs two classes")
        if missing := [name for name in classes if name not in counts]:
            raise CorpusError(
                f"no training utterance is {missing[0]}, which objectives.category.classes names; "
                f"there are {', '.join(sorted(counts))}"
            )
        learnt = {"classes": tuple(classes), "counts": tuple(counts[name] for name in classes)}
        return validate(CategorySettings, settings.model_dump() | learnt, "the categories of the training set")

    @staticmethod
    def has_label(utterance: "Utterance") -> bool:
        """A category."""
        return utterance.category is not None

    @staticmethod
    def objection(utterances: Sequence["Utterance"]) -> str | None:
        """With one class, whoever says it always is right."""
        classes = {u.category for u in utterances if u.category is not None}
        return f"all of its categories are {classes.pop()}, and a UAR needs two" if len(classes) == 1 else None

    def loss(self, states: Tensor, lengths: Tensor, batch: "Batch") -> Tensor:
        """Cross entropy times the weight of the class, mean over the utterances of the batch that are of one."""
        targets = class_numbers(batch.categories, self.numbers, lengths)
        some_class = targets.clamp(min=0)
        losses = functional.cross_entropy(self.read(states, lengths), some_class, reduction="none")
        weights = losses.new_tensor(self.class_weights)[some_class]
        return mean_where(losses * weights, targets >= 0)

    def predict(self, states: Tensor, lengths: Tensor) -> list[NDArray[np.float32]]:
        """Probabilities of the classes, (K,)."""
        return list(self.read(states, lengths).softmax(-1).cpu().numpy())

    def score(self, predictions: Sequence[NDArray[np.float32]], utterances: Sequence["Utterance"]) -> dict[str, float]:
        """Unweighted average recall ``uar``, ``weighted_accuracy`` (the share that is right) and ``macro_f1``."""
        pairs = [
            (int(p.argmax()), self.numbers[u.category])
            for p, u in zip(predictions, utterances, strict=True)
            if u.category in self.numbers
        ]
        if not pairs:
            return {}
        said, truth = np.array(pairs).T
        return {
            "uar": recall(said, truth, weighted=False),
            "weighted_accuracy": recall(said, truth, weighted=True),
            "macro_f1": f1(said, truth),
        }


def _class_weights(settings: CategorySettings) -> list[float]:
    """Inverse to the frequencies and 1 on average over the training set; all 1 where they are not to be balanced."""
    counts = settings.counts if settings.balanced else ()
    return [sum(counts) / (len(counts) * count) for count in counts] or [1.0] * len(settings.classes)
