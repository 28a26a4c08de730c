"""What a user wants of predictions, beside the audio."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sa2sr.inference.model import LONGEST, Model
from sa2sr.inference.rows import Failure, Heading, Row, on_scale
from sa2sr.inference.sources import Source
from sa2sr.inference.windows import Windows, check_longest


@dataclass(frozen=True)
class Options:
    """The parameters of :meth:`sa2sr.Model.predict` that concern files."""

    longest: float = LONGEST
    windows: Windows | None = None
    vad: bool = False
    level: float | None = None
    scale: str = "labels"
    transcript: bool = False
    sentiment: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if no row has the duration ``longest``
        """
        check_longest(self.longest)

    def heading(self, model: Model) -> Heading:
        """What the table will be.

        Raises:
            ModelError: if the model cannot give that
            ValueError: if the scale or the level does not exist
        """
        return model.heading(self.scale, self.level, transcript=self.transcript, sentiment=self.sentiment)

    def rows(self, model: Model, sources: Iterable[Source]) -> Iterator[Row | Failure]:
        """Rows and failures of files, in their order, on the scale of the table."""
        heading = self.heading(model)
        clips = model.clips(sources, longest=self.longest, windows=self.windows, vad=self.vad)
        for each in model.rows(clips, heading.level, heading.extras):
            yield on_scale(each, model.output_scale(), heading.scale)

    def described(self) -> dict[str, Any]:
        """What rows depend on beside the heading, in JSON."""
        windows = [self.windows.duration, self.windows.hop] if self.windows else None
        return {"longest": self.longest, "windows": windows, "vad": self.vad}
