"""From a model folder and audio to a table of emotions."""

from sa2sr.inference.model import Model, load
from sa2sr.inference.sources import Segment, read_segments
from sa2sr.inference.table import EmotionTable, Failure, Row, read_table

__all__ = ["EmotionTable", "Failure", "Model", "Row", "Segment", "load", "read_segments", "read_table"]
