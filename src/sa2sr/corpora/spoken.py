"""Texts become a spoken corpus: audio files and cut manifests, from sentences of any origin."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import soundfile

from sa2sr.audio import probe, resample
from sa2sr.config import Scale, Settings
from sa2sr.corpora.corpus import Corpus, Entry, NoOptions, Problem, Utterance
from sa2sr.corpora.espeak import Prosody, speak, variants
from sa2sr.errors import AudioError, SynthesisError, UserError
from sa2sr.files import atomic
from sa2sr.processes import map_in_processes
from sa2sr.progress import progress

if TYPE_CHECKING:
    from sa2sr.corpora.report import Report

_PUNCTUATION = re.compile(r"(?!')[^\w\s]|_|(?<!\w)'|'(?!\w)")  # all but apostrophes within words
_CHUNK = 100  # utterances that a process takes at a time
_FORMAT = 1  # of the files; counted up when the same utterance would be written differently


@dataclass(frozen=True)
class SpokenUtterance:
    """What shall be spoken, by whom and how, and what the manifest says of it beside the text."""

    name: str  # unique within the corpus
    text: str
    voice: str = "en-us"  # as for :func:`sa2sr.corpora.espeak.speak`
    prosody: Prosody = field(default_factory=Prosody)
    split: str = "train"
    emotion: str | None = None
    ratings: Mapping[str, str | float] = field(default_factory=dict)
    scale: Scale | None = None  # of the ratings
    custom: Mapping[str, Any] = field(default_factory=dict)

    @property
    def speaker(self) -> str:
        """The variant, which is the same vocal tract in every language."""
        return self.voice.partition("+")[2] or self.voice


@dataclass(frozen=True)
class SpokenCorpus:
    """A corpus of texts, which becomes one of speech when it is prepared.

    Attributes:
        name: as on the command line
        summary: one line for its help
        read: ``read(source, options)`` yields what is to be spoken, and problems, in any order
        options: the class of ``options``, whose ``strip_punctuation`` says what is spoken of a text
    """

    name: str
    summary: str
    read: Callable[[Path, Any], Iterator[SpokenUtterance | Problem]]
    options: type[Settings]

    def spoken_into(self, out: Path, jobs: int | None) -> Corpus:
        """The corpus whose audio is below ``out``; it is spoken when it is read."""

        def read(source: Path, options: Any) -> Iterator[Entry]:
            texts = self.read(source, options)
            return speak_all(texts, out, strip_punctuation=options.strip_punctuation, jobs=jobs)

        return Corpus(self.name, self.summary, read, self.options)


AnyCorpus = Corpus | SpokenCorpus


def speak_corpus(
    utterances: Iterable[SpokenUtterance],
    out: str | Path,
    *,
    name: str = "spoken",
    suffix: Literal[".flac", ".wav"] = ".flac",
    sampling_rate: int = 16_000,
    strip_punctuation: bool = False,
    allow_speaker_overlap: bool = False,
    jobs: int | None = None,
) -> "Report":
    """Speak utterances into ``out/audio`` and write ``out/<split>.jsonl.gz`` and ``out/report.json``.

    The same utterances give the same bytes, in however many processes, and whether or not an earlier call was
    interrupted: files that are there already are kept, and since a file's name carries a digest of what is spoken and
    how, an outdated one is never taken. A text that cannot be spoken is left out and reported.

    Args:
        utterances: in any order
        out: folder
        name: of the corpus
        suffix: of the audio files, 16 bits a sample
        sampling_rate: of the audio files, in Hz
        strip_punctuation: speak without punctuation, which the voice would render; the transcript keeps it
        allow_speaker_overlap: accept voices that speak in several splits
        jobs: processes; by default one a processor

    Raises:
        UserError: if espeak-ng is not installed, or a file cannot be written
        CorpusError: if nothing could be spoken, or splits share voices
    """
    from sa2sr.corpora.preparation import write_manifests  # takes seconds to import

    out = Path(out)
    entries = speak_all(
        utterances, out, suffix=suffix, sampling_rate=sampling_rate, strip_punctuation=strip_punctuation, jobs=jobs
    )
    corpus = Corpus(name, "spoken by espeak-ng", lambda _source, _options: entries)
    return write_manifests(
        corpus, out, out, NoOptions(), allow_speaker_overlap=allow_speaker_overlap, decode=False, jobs=jobs
    )


def speak_all(
    utterances: Iterable[SpokenUtterance | Problem],
    out: Path,
    *,
    suffix: Literal[".flac", ".wav"] = ".flac",
    sampling_rate: int = 16_000,
    strip_punctuation: bool = False,
    jobs: int | None = None,
) -> Iterator[Entry]:
    """Speak utterances into ``out/audio``, as :func:`speak_corpus` does; problems come back with what was spoken.

    Raises:
        UserError: if espeak-ng is not installed, or a file cannot be written
    """
    variants()  # a missing engine shows before any process is started
    entries: list[Entry] = []
    orders: list[_Order] = []
    for utterance in utterances:
        if isinstance(utterance, Problem):
            entries.append(utterance)
        else:
            orders.append(_order(utterance, out, suffix, sampling_rate, strip_punctuation))
    with progress("Speaking", len(orders)) as advance:
        for order, reason in map_in_processes(_fulfil, orders, killed=_killed, jobs=jobs, chunk=_CHUNK):
            entries.append(_entry(order, reason))
            advance(1)
    return _sorted(entries)


def without_punctuation(text: str) -> str:
    """The words of a text, with single spaces between them and their apostrophes."""
    return " ".join(_PUNCTUATION.sub(" ", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")).split())


@dataclass(frozen=True)
class _Order:
    """An utterance, the words that are spoken of it, and the file that they go to."""

    utterance: SpokenUtterance
    words: str
    path: Path
    sampling_rate: int


def _order(utterance: SpokenUtterance, out: Path, suffix: str, sampling_rate: int, strip: bool) -> _Order:
    words = without_punctuation(utterance.text) if strip else utterance.text
    sound = [_FORMAT, version("espeakng-loader"), words, utterance.voice, asdict(utterance.prosody), sampling_rate]
    digest = hashlib.sha256(json.dumps([utterance.name, sound]).encode()).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", utterance.name).lstrip(".")[:80]
    return _Order(utterance, words, out / "audio" / f"{readable}-{digest[:12]}{suffix}", sampling_rate)


def _fulfil(order: _Order) -> str | None:
    """Write the file, unless it is there; returns the reason if the words cannot be spoken."""
    try:
        probe(order.path)
        return None
    except AudioError:  # it is missing, or damaged
        pass
    try:
        samples, own_rate = speak(order.words, order.utterance.voice, order.utterance.prosody)
    except SynthesisError as error:
        return str(error)
    waveform = resample(samples, own_rate, order.sampling_rate)
    coded = np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16)
    try:
        with atomic(order.path) as temporary:
            soundfile.write(temporary, coded, order.sampling_rate, subtype="PCM_16")
    except (OSError, soundfile.LibsndfileError) as error:
        raise UserError(f"{order.path}: cannot be written ({error})") from None
    return None


def _killed(order: _Order) -> str | None:
    return f"espeak-ng crashes on {order.words[:60]!r}"


def _entry(order: _Order, reason: str | None) -> Entry:
    utterance = order.utterance
    if reason is not None:
        return Problem("text cannot be spoken", utterance.name, reason)
    variant = variants().get(utterance.speaker)
    return Utterance(
        utterance.name,
        utterance.split,
        order.path,
        text=utterance.text,
        speaker=utterance.speaker,
        gender=variant.gender if variant is not None else None,
        emotion=utterance.emotion,
        ratings=utterance.ratings,
        scale=utterance.scale,
        custom={**utterance.custom, "voice": utterance.voice, "prosody": asdict(utterance.prosody)},
    )


def _sorted(entries: list[Entry]) -> Iterator[Entry]:
    """In the order of their names: they were added as they became ready."""
    return iter(sorted(entries, key=lambda entry: entry.item if isinstance(entry, Problem) else entry.name))
