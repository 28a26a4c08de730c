"""The tasks that an encoder is trained on, by the name that a recipe gives them."""

from sa2sr.network.objectives.apc import Apc
from sa2sr.network.objectives.base import Criterion, Objective
from sa2sr.network.objectives.category import Category
from sa2sr.network.objectives.cpc import Cpc
from sa2sr.network.objectives.ctc import Ctc
from sa2sr.network.objectives.emotion import Emotion
from sa2sr.network.objectives.sentiment import Sentiment
from sa2sr.network.objectives.speaker import Speaker

OBJECTIVES: dict[str, type[Objective]] = {
    "ctc": Ctc,
    "sentiment": Sentiment,
    "apc": Apc,
    "cpc": Cpc,
    "speaker": Speaker,
    "emotion": Emotion,
    "category": Category,
}

__all__ = ["OBJECTIVES", "Apc", "Category", "Cpc", "Criterion", "Ctc", "Emotion", "Objective", "Sentiment", "Speaker"]
