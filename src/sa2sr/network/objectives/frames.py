"""What tasks have in common that predict frames: speech is its own label."""

from typing import TYPE_CHECKING, Any, Self

from sa2sr.network.objectives.base import Objective

if TYPE_CHECKING:
    from sa2sr.speech.utterances import Utterance


class FramePrediction(Objective):
    """A task whose label is the frames themselves; it is made with their size D as its third argument."""

    remedy = "utterances are too short"

    @classmethod
    def build(cls, dimension: int, settings: Any, frame_dimension: int) -> Self:
        """As :meth:`Objective.build`."""
        return cls(dimension, settings, frame_dimension)

    @staticmethod
    def has_label(utterance: "Utterance") -> bool:
        """Any speech will do."""
        return True

    @staticmethod
    def fits(utterance: "Utterance", steps: int) -> bool:
        """A single frame has no later one."""
        return steps > 1
