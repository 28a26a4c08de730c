"""From a transcript to the probabilities of negative, neutral and positive: the proxy labels of pre-training."""

from sa2sr.sentiment.labelling import Labelled, label_cuts
from sa2sr.sentiment.teachers import Teacher, teacher_from_name

__all__ = ["Labelled", "Teacher", "label_cuts", "teacher_from_name"]
