"""A model that is ready to predict."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS, ModelSettings, Scale
from sa2sr.errors import AudioError, ModelError
from sa2sr.inference.batches import batched, look_ahead
from sa2sr.inference.clips import Clip, array_clips, file_clips
from sa2sr.inference.engine import Engine, make_engine
from sa2sr.inference.heard import make_row
from sa2sr.inference.sources import Segment, Source, are_samples, find_audio, is_single
from sa2sr.inference.stream import Stream
from sa2sr.inference.table import EXTRAS, UNIT, EmotionTable, Failure, Heading, Row, on_scale
from sa2sr.inference.windows import Windows, check_longest
from sa2sr.intervals import LEVEL, Calibration
from sa2sr.network.folder import (
    INTERVALS_FILE,
    digest_of,
    find_model,
    is_exported,
    read_calibration,
    read_settings,
)

LONGEST = 30.0  # seconds; longer files give several rows
HEADS = {"sentiment": "sentiment", "transcript": "ctc"}  # of the network, by the extra that they give


@dataclass(frozen=True)
class Origin:
    """What a model was loaded from, so that another process can load it too."""

    folder: Path
    engine: str
    device: str
    int8: bool

    def load(self) -> "Model":
        """Load it once more."""
        return load(self.folder, engine=self.engine, device=self.device, int8=self.int8)

    def digest(self) -> str:
        """Of the files that the predictions and their intervals follow from."""
        return digest_of(self.folder, INTERVALS_FILE)


def load(
    model: str | Path | None = None,
    *,
    revision: str | None = None,
    engine: str = "auto",
    device: str = "cpu",
    int8: bool = False,
) -> "Model":
    """Load a model.

    Args:
        model: a model folder, the run folder of a training, an exported model, or ``"user/name"`` on the Hugging Face
            hub; by default what the environment variable SA2SR_MODEL names, or else the model that comes with sa2sr
        revision: of a model on the hub: a branch, a tag or a commit; ``"user/name@revision"`` is the same
        engine: ``"onnx"``, ``"torch"``, or ``"auto"``: onnx on a CPU where it is installed, otherwise torch
        device: such as ``"cpu"`` or ``"cuda"``
        int8: multiply by 8-bit integers, which the onnx engine can: faster, and a little less exact

    Raises:
        ModelError: naming what is missing or does not fit
    """
    folder = find_model(model, revision)
    settings = read_settings(folder, exported=is_exported(folder))
    origin = Origin(folder, engine, device, int8)
    engine_ = make_engine(folder, settings, engine, device=device, int8=int8)
    return Model(settings, engine_, read_calibration(folder), origin)


class Model:
    """Predicts activation, valence and dominance, or emotion categories, or both.

    >>> model = sa2sr.load()
    >>> table = model.predict("call.wav")
    >>> table.column("valence").mean()
    """

    def __init__(
        self,
        settings: ModelSettings,
        engine: Engine,
        calibration: Calibration | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.origin = origin  # where it was loaded from, if it was
        self.calibration = calibration  # from which the intervals come; none without it

    @property
    def scale(self) -> Scale:
        """The scale of the predictions: that of the ratings which the model learnt from.

        Raises:
            ModelError: if the model does not predict activation, valence and dominance
        """
        if not self.settings.tells("emotion"):
            raise ModelError(
                f"the model '{self.settings.name}' does not predict activation, valence and dominance: "
                f"{self._what_it_is()}; fine-tune it with 'sa2sr finetune --encoder'"
            )
        if self.settings.scale is None:
            raise ModelError(f"the model '{self.settings.name}' predicts emotions, but its config.yaml has no scale")
        return self.settings.scale

    def output_scale(self, name: str = "labels") -> Scale:
        """The scale of a table: ``labels``, that of the ratings, or ``0-1``, which that of probabilities is.

        Raises:
            ValueError: if the name is another
        """
        if name not in ("labels", UNIT.name):
            raise ValueError(f"the scale of a table is 'labels' or '{UNIT.name}', not '{name}'")
        return self.scale if name == "labels" and self.settings.tells("emotion") else UNIT

    @property
    def categories(self) -> tuple[str, ...]:
        """The emotions that the model tells apart; none if it does not."""
        return self.settings.categories if self.settings.tells("category") else ()

    def heading(
        self,
        scale: str = "labels",
        level: float | None = None,
        *,
        transcript: bool = False,
        sentiment: bool = False,
    ) -> Heading:
        """What the columns of a table are; the arguments are those of :meth:`predict`.

        A model whose fine-tuning was for the sentiment alone gives it unasked.

        Raises:
            ModelError: if the model predicts nothing, or has no intervals of this level, or no such head
            ValueError: if ``level`` is not a share, or there is no such scale
        """
        extras = self.extras(transcript=transcript, sentiment=sentiment or self._is_for_sentiment())
        dimensions = DIMENSIONS if self.settings.tells("emotion") else ()
        if not (dimensions or self.categories or extras):
            raise ModelError(
                f"the model '{self.settings.name}' does not predict emotions: {self._what_it_is()}; "
                "fine-tune it with 'sa2sr finetune --encoder'"
            )
        target, level = self.output_scale(scale), self.interval_level(level)
        return Heading(target, self.settings.name, level, extras, self.categories, dimensions)

    def _is_for_sentiment(self) -> bool:
        return [name for name, task in self.settings.objectives.active().items() if task.weight] == ["sentiment"]

    def _what_it_is(self) -> str:
        if self.categories or self._is_for_sentiment():
            return f"it tells {'categories' if self.categories else 'sentiments'} apart"
        return f"it has only been pre-trained ({', '.join(self.settings.objectives.active())})"

    def extras(self, *, transcript: bool = False, sentiment: bool = False) -> tuple[str, ...]:
        """What the rows tell beside the emotions, checked against the heads that the model has.

        Raises:
            ModelError: if it has no such head, or the encoder has been trained without it since
        """
        wanted = {"transcript": transcript, "sentiment": sentiment}
        extras = tuple(extra for extra in EXTRAS if wanted[extra])
        for extra in extras:
            head, name = HEADS[extra], self.settings.name
            remedy = f"'sa2sr finetune' with finetuning.objectives.{head}=0.1 keeps it, and so does a frozen encoder"
            if head not in self.settings.objectives.active():
                pretrain = f"pre-train with the {head} task, then fine-tune; {remedy}"
                raise ModelError(f"the model '{name}' gives no {extra}: it has no {head} head; {pretrain}")
            if head in self.settings.drifted:
                raise ModelError(
                    f"the model '{name}' gives no {extra}: its encoder was trained further without the {head} head, "
                    f"which has not followed; {remedy}"
                )
        return extras

    @property
    def shortest(self) -> float:
        """Seconds that one output of the readout's convolutions hears.

        In a shorter clip zeros stand in for the rest. It is predicted, whatever its duration, and noted as short.
        """
        frontend, objectives = self.settings.frontend, self.settings.objectives
        readout = objectives.emotion or objectives.category
        if readout is None:
            return 0.0
        (first, second), (stride, _) = readout.kernels, readout.strides
        return (first + (second - 1) * stride) * frontend.stack * frontend.step_ms / 1000

    def interval_level(self, level: float | None = None) -> float:
        """The level of the intervals that predictions get: 0 where they get none.

        Args:
            level: that is wanted, such as 0.9; 0: none; by default 0.9 if the model is calibrated

        Raises:
            ModelError: if the model is not calibrated, or with too few utterances for such a level
            ValueError: if it is not a share
        """
        dimensions = self.calibration.dimensions if self.calibration is not None else {}
        if level is None:
            return LEVEL if any(each.highest_level >= LEVEL for each in dimensions.values()) else 0.0
        if not 0 <= level < 1:
            raise ValueError(f"the level of intervals is a share of ratings, such as 0.9, not {level:g}")
        if level and not dimensions:
            raise ModelError(
                f"the model '{self.settings.name}' has no intervals: it is not calibrated; 'sa2sr calibrate' does that"
            )
        if level and level > (highest := max(each.highest_level for each in dimensions.values())):
            most = max(each.utterances for each in dimensions.values())
            raise ModelError(
                f"the model '{self.settings.name}' has no intervals of level {level:g}: it is calibrated on {most:,} "
                f"utterances, which are enough up to {math.floor(highest * 1000) / 1000:g}; calibrate it on more"
            )
        return level

    def predict(
        self,
        audio: Any,
        sampling_rate: int | None = None,
        *,
        name: str = "array",
        longest: float = LONGEST,
        window: float | None = None,
        hop: float | None = None,
        level: float | None = None,
        vad: bool = False,
        scale: str = "labels",
        transcript: bool = False,
        sentiment: bool = False,
    ) -> EmotionTable:
        """Predict the emotions of files or of an array.

        Args:
            audio: a file, a folder, a pattern such as ``"calls/**/*.wav"``, a list such as ``"@files.txt"`` or a
                :class:`Segment` of a file; several of these; or an array (samples,) or (channels, samples)
            sampling_rate: of the array, in Hz
            name: of the array, in the table
            longest: duration of a row at most, in seconds; longer audio gives several rows of equal duration
            window: instead, a row for every window of this duration, in seconds; the last one may be shorter
            hop: seconds from the beginning of a window to that of the next; by default they do not overlap
            vad: instead, a row for every stretch of speech that silero-vad finds, of ``longest`` at most
            level: of the intervals: the share of ratings that they hold; by default 0.9 if the model is calibrated;
                0: no intervals
            scale: ``"labels"``, that of the ratings which the model learnt from, or ``"0-1"``
            transcript: also what is said, as far as the model hears it
            sentiment: also the probabilities that what is said is negative, neutral and positive

        Returns:
            rows in the order of the audio, those of a folder by name. What cannot be read is in ``failures``

        Raises:
            AudioError: if a single file or array cannot be read
            ModelError: if the model does not predict emotions, or has no intervals of this level, or no such head
            TypeError: if something that is no audio stands in its place
            ValueError: if ``longest``, ``window`` or ``hop`` is not a sensible duration, ``level`` is not a share, or
                there is no such scale; if a sampling rate is given for files
        """
        heading, windows = (
            self.heading(scale, level, transcript=transcript, sentiment=sentiment),
            Windows.of(window, hop),
        )
        check_longest(longest)
        if windows and vad:
            raise ValueError("rows are windows or stretches of speech (vad), not both")
        is_array = are_samples(audio, sampling_rate)
        is_one = isinstance(audio, str) or not isinstance(audio, Iterable)
        if sampling_rate is not None and not is_array:
            raise ValueError(f"{sampling_rate} Hz is the sampling rate of an array; files have their own")
        if is_array:
            clips = self.array_clips(audio, sampling_rate, name=name, longest=longest, windows=windows, vad=vad)
        else:
            clips = self.clips(find_audio([audio] if is_one else audio), longest=longest, windows=windows, vad=vad)
        table = EmotionTable([], heading)
        for each in self.rows(clips, heading.level, heading.extras):
            if isinstance(each, Row):
                table.rows.append(on_scale(each, self.output_scale(), heading.scale))
            else:
                table.failures.append(each)
        single = is_array or isinstance(audio, Segment) or (is_one and is_single(audio))
        if single and not table.rows:
            raise AudioError(table.failures[0].file, table.failures[0].reason)
        return table

    def stream(
        self,
        sampling_rate: int,
        *,
        window: float = 6.0,
        hop: float | None = None,
        channels: int = 1,
        name: str = "stream",
        level: float | None = None,
        scale: str = "labels",
        transcript: bool = False,
        sentiment: bool = False,
    ) -> Stream:
        """Predict audio while it comes in: a row every ``hop``, of the last ``window``, both in seconds.

        Args:
            sampling_rate: of the chunks, in Hz
            window: duration of a row
            hop: from a row to the next; by default 2, or the window where it is shorter
            channels: of the chunks
            name: of the stream, in its rows
            level: of the intervals, as in :meth:`predict`
            scale: likewise
            transcript: likewise; each row has what is said in its window
            sentiment: likewise

        Raises:
            AudioError: if no audio has such a sampling rate or so many channels
            ModelError: if the model does not predict emotions, or has no intervals of this level, or no such head
            ValueError: if the durations are not sensible, ``level`` is not a share, or there is no such scale
        """
        heading = self.heading(scale, level, transcript=transcript, sentiment=sentiment)
        windows = Windows(window, min(2.0, window) if hop is None else hop)
        return Stream(self, sampling_rate, windows, heading, channels=channels, name=name)

    def push_to_hub(self, name: str, **options: Any) -> str:
        """Share the model on the Hugging Face hub; returns its address there.

        Args:
            name: ``"user/name"``, or ``"user/name@branch"``
            options: those of :func:`sa2sr.sharing.pack.push`: ``licence``, ``card``, ``half``, ``lean``, ``private``,
                ``message``

        Raises:
            ModelError: if it was not loaded from a folder, has no licence, or the hub does not take it
        """
        from sa2sr.sharing.pack import push

        if self.origin is None:
            raise ModelError(f"the model '{self.settings.name}' was not loaded from a folder that could be shared")
        return push(self.origin.folder, name, **options)

    def clips(
        self,
        sources: Iterable[Source],
        *,
        longest: float = LONGEST,
        windows: Windows | None = None,
        vad: bool = False,
    ) -> Iterator[Clip | Failure]:
        """What the network reads of files and segments, one after the other; failures stay in their places."""
        options: dict[str, Any] = {"longest": longest, "shortest": self.shortest, "windows": windows, "vad": vad}
        for source in sources:
            if isinstance(source, Failure):
                yield source
                continue
            part = source if isinstance(source, Segment) else Segment(str(source))
            try:
                found = file_clips(part.file, self.settings.frontend, start=part.start, end=part.end, **options)
                yield from _or_failure(found, part.file)
            except AudioError as error:
                yield Failure(part.file, error.reason)

    def array_clips(
        self,
        samples: Any,
        sampling_rate: int | None,
        *,
        name: str = "array",
        longest: float = LONGEST,
        windows: Windows | None = None,
        vad: bool = False,
    ) -> Iterator[Clip | Failure]:
        """What the network reads of an array."""
        options: dict[str, Any] = {"longest": longest, "shortest": self.shortest, "windows": windows, "vad": vad}
        try:
            found = array_clips(samples, sampling_rate, name, self.settings.frontend, **options)
            yield from _or_failure(found, name)
        except AudioError as error:
            yield Failure(name, error.reason)

    def rows(
        self, clips: Iterable[Clip | Failure], level: float | None = None, extras: Collection[str] = ()
    ) -> Iterator[Row | Failure]:
        """Predict clips, in their order, as they come.

        Clips of similar duration are batched together, within some minutes of audio that are looked ahead; so memory
        is bounded however many clips there are.

        Args:
            clips: what the network reads
            level: of the intervals, see :meth:`interval_level`
            extras: see :meth:`extras`
        """
        level = self.interval_level(level)
        half_widths = self.calibration.half_widths(level) if self.calibration is not None and level else None
        for items in look_ahead(clips):
            yield from self._predict(items, half_widths, extras)

    def _predict(
        self, items: Sequence[Clip | Failure], half_widths: NDArray[np.float64] | None, extras: Collection[str]
    ) -> list[Row | Failure]:
        results: dict[int, Row | Failure] = {}
        heads = [*(HEADS[extra] for extra in extras), *(["category"] if self.categories else [])]
        scale = self.scale if self.settings.tells("emotion") else None
        for batch in batched(items, self.settings.frontend.batch_seconds):
            heard = self.engine.hear([clip.frames for _, clip in batch], heads)
            for (index, clip), each in zip(batch, heard, strict=True):
                results[index] = make_row(clip, each, scale, self.categories, half_widths)
        return [item if isinstance(item, Failure) else results[index] for index, item in enumerate(items)]


def _or_failure(clips: Iterable[Clip], file: str) -> Iterator[Clip | Failure]:
    """Clips; where there are none, since nobody speaks, a failure that says so."""
    nobody_spoke = True
    for clip in clips:
        nobody_spoke = False
        yield clip
    if nobody_spoke:
        yield Failure(file, "has no speech that the voice detector finds")
