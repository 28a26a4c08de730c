"""Proxy labels for cuts: a teacher reads every transcript once, and the probabilities go into the manifest."""

import gzip
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from lhotse import SupervisionSegment
from numpy.typing import NDArray

from sa2sr.config import SENTIMENTS
from sa2sr.cuts import Cut, read_cuts, write_cuts
from sa2sr.errors import CorpusError, ModelError, UserError
from sa2sr.progress import progress
from sa2sr.sentiment.journal import LabelJournal, Probabilities
from sa2sr.sentiment.teachers import Teacher

_WINDOW = 512  # cuts whose texts the teacher sees together, sorted by length: the most that an interruption can lose
_DECIMALS = 6
_BLOCK = 1 << 20  # bytes
_MANIFESTS = (".jsonl", ".jsonl.gz")


@dataclass
class Labelled:
    """How the utterances of a manifest were labelled.

    Attributes:
        output: the manifest that was written
        counts: utterances by their most probable class
        unlabelled: utterances without a transcript, which are kept as they were
    """

    output: Path
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SENTIMENTS, 0))
    unlabelled: int = 0


def label_cuts(inputs: Sequence[str | Path], out: str | Path | None, teacher: Teacher) -> list[Labelled]:
    """Write manifests with ``sentiment``, three probabilities, and ``sentiment_teacher`` in every supervision.

    Interrupted at any moment and started again, it goes on from the journal beside the first output, and the result is
    the same to the byte. Each distinct transcript is computed once.

    Args:
        inputs: manifests of cuts
        out: a manifest (``.jsonl`` or ``.jsonl.gz``), or a directory for manifests of the same names; none to
            replace the inputs
        teacher: tells the sentiment

    Raises:
        UserError: if the outputs would overwrite each other, or the inputs unasked
        CorpusError: if an input is not a manifest of cuts
        ModelError: if the teacher's answers are no probabilities
    """
    outputs = _outputs([Path(path) for path in inputs], None if out is None else Path(out))
    journal = LabelJournal(outputs[0].with_name(f"{outputs[0].name}.journal"), teacher.name)
    complete = False
    try:
        labeller = _Labeller(teacher, journal)
        reports = []
        for source, output in zip(map(Path, inputs), outputs, strict=True):
            reports.append(Labelled(output))
            with progress(source.name, _count_lines(source)) as advance:
                write_cuts(output, labeller.label(read_cuts(source), reports[-1], advance))
        complete = True
    finally:
        journal.close(remove=complete)
    return reports


class _Labeller:
    """Labels stream after stream of cuts and remembers every transcript.

    Which texts the teacher sees together depends on the manifests only, never on what the journal already holds: in
    another company a text's probabilities may differ in the last digits.
    """

    def __init__(self, teacher: Teacher, journal: LabelJournal) -> None:
        self._teacher = teacher
        self._journal = journal
        self._known: dict[str, Probabilities] = {}

    def label(self, cuts: Iterable[Cut], report: Labelled, advance: Callable[[int], None]) -> Iterator[Cut]:
        cuts = iter(cuts)
        while window := list(islice(cuts, _WINDOW)):
            self._learn(text for cut in window for text in map(_transcript, cut.supervisions) if text)
            for cut in window:
                report.unlabelled += not cut.supervisions
                for supervision in cut.supervisions:
                    self._fill(supervision, report)
                yield cut
            advance(len(window))

    def _fill(self, supervision: SupervisionSegment, report: Labelled) -> None:
        text = _transcript(supervision)
        if not text:
            report.unlabelled += 1
            return
        if not isinstance(supervision.custom, dict | None):
            raise CorpusError(f"{report.output}: the custom field of supervision {supervision.id} is not a mapping")
        probabilities = self._known[self._journal.key(text)]
        labels = {"sentiment": list(probabilities), "sentiment_teacher": self._teacher.name}
        supervision.custom = {**(supervision.custom or {}), **labels}
        report.counts[SENTIMENTS[int(np.argmax(probabilities))]] += 1

    def _learn(self, texts: Iterable[str]) -> None:
        """Ask the journal, then the teacher, for texts not seen before."""
        new = {key: text for text in texts if (key := self._journal.key(text)) not in self._known}
        self._known.update((key, known) for key in new if (known := self._journal.get(key)) is not None)
        missing = [key for key in new if key not in self._known]
        if missing:
            probabilities = self._ask([new[key] for key in missing])
            self._journal.append(missing, probabilities)
            self._known.update(zip(missing, map(tuple, probabilities.tolist()), strict=True))

    def _ask(self, texts: Sequence[str]) -> NDArray[np.float64]:
        answer = np.asarray(self._teacher.probabilities(texts), dtype=np.float64)
        if answer.shape != (len(texts), len(SENTIMENTS)):
            raise ModelError(f"{self._teacher.name}: gave an answer of shape {answer.shape} for {len(texts)} texts")
        strange = ~((answer >= 0).all(axis=1) & (np.abs(answer.sum(axis=1) - 1) < 1e-3))
        if strange.any():
            text = texts[int(strange.argmax())]
            raise ModelError(
                f"{self._teacher.name}: gave {answer[strange][0].tolist()} for '{text[:80]}', which is no probability: "
                "its weights may be damaged"
            )
        return np.round(answer, _DECIMALS)


def _transcript(supervision: SupervisionSegment) -> str:
    """The text of a supervision; empty if it has none."""
    return supervision.text.strip() if isinstance(supervision.text, str) else ""


def _outputs(inputs: Sequence[Path], out: Path | None) -> list[Path]:
    """The manifest that each input becomes."""
    if not inputs:
        raise UserError("no manifests were given")
    for path in inputs:
        if not path.is_file():
            raise CorpusError(f"{path}: there is no such file")
        if not path.name.endswith(_MANIFESTS):
            raise CorpusError(f"{path}: a manifest of cuts ends in {' or '.join(_MANIFESTS)}")
    if out is None:
        outputs = list(inputs)
    elif out.name.endswith(_MANIFESTS) and not out.is_dir():
        if len(inputs) > 1:
            raise UserError(f"{out}: is one file, but {len(inputs)} manifests were given; name a directory")
        outputs = [out]
    elif out.is_file():
        raise UserError(f"{out}: must be a directory, or end in {' or '.join(_MANIFESTS)}")
    else:
        outputs = [out / path.name for path in inputs]
    real = [os.path.realpath(path) for path in outputs]
    for index, name in enumerate(real):
        if name in real[:index]:
            raise UserError(f"{inputs[index]}: would overwrite {outputs[index]}, which another input becomes")
    if out is not None and (clash := sorted({*real} & {os.path.realpath(path) for path in inputs})):
        raise UserError(f"{clash[0]}: is an input; use --in-place to replace it")
    return outputs


def _count_lines(path: Path) -> int | None:
    """What a progress bar counts up to; nothing where none is drawn."""
    if not sys.stderr.isatty():
        return None
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(partial(file.read, _BLOCK), b""))
    except (OSError, EOFError):  # reported when the cuts are read
        return None
