"""Speech emotion recognition with a sentiment-aware speech encoder.

>>> import sa2sr
>>> model = sa2sr.load()
>>> table = model.predict("call.wav")
>>> table[0].valence, table.scale

Tensor shapes use these letters throughout: B batch, T frames (10 ms), T' stacked frames (30 ms), D features of a
stacked frame, H states of the encoder, K classes.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sa2sr.inference import EmotionTable, Failure, Model, Row, Segment, load, read_segments, read_table

__version__ = "0.1.0.dev0"

__all__ = ["EmotionTable", "Failure", "Model", "Row", "Segment", "load", "read_segments", "read_table"]


def __getattr__(name: str) -> Any:
    """Import what predicts when it is first asked for, so that ``import sa2sr`` is quick."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sa2sr import inference

    return getattr(inference, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
