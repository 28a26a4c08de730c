"""The audit of a model: how far do the words of a sentence, said in equal prosody, move what it predicts?

Sentences in threes, alike but for one positive, neutral or negative word (:mod:`sa2sr.studies.audit_sentences`), are
said by many voices of espeak-ng. Who hears the voice alone predicts the same for all three; who hears the words
predicts more valence for the positive one and less for the negative one. It is the direct test of what sentiment-aware
pre-training is for.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

import numpy as np

from sa2sr import __version__
from sa2sr.config import DIMENSIONS, Scale, validate
from sa2sr.errors import ModelError, UserError
from sa2sr.files import atomic, read_json, write_json, write_text
from sa2sr.inference import load
from sa2sr.progress import progress
from sa2sr.studies.audit_measures import (
    Audit,
    AuditedModel,
    Design,
    Floats,
    Resampling,
    Sentence,
    effect,
    effects,
    shift_beyond,
)
from sa2sr.studies.audit_report import audit_document
from sa2sr.studies.audit_sentences import (
    LANGUAGE,
    PROSODY,
    SENTIMENTS,
    TRIPLES,
    Speech,
    Triple,
    speak_sentences,
    voices_of,
)
from sa2sr.studies.document import printable
from sa2sr.studies.naming import short_names
from sa2sr.studies.rendering import markdown

SPEECH = Path("runs/audit-speech")
_FILES_AT_ONCE = 256
_FAILURES_SHOWN = 20


@dataclass(frozen=True)
class Answers:
    """What a model says of all sentences."""

    name: str
    path: Path
    model: str  # its own name
    scale: Scale
    emotions: Floats  # (carriers, 3 sentiments, voices, 3 dimensions), NaN where it said nothing
    failures: list[str]


def run_audit(
    models: Mapping[str, str | Path],
    out: str | Path | None = None,
    *,
    speech: str | Path = SPEECH,
    triples: Sequence[Triple] = TRIPLES,
    voices: str = "distinct",
    device: str = "cpu",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    jobs: int | None = None,
) -> Audit:
    """Audit models side by side; one that cannot be used is reported, and the others go on.

    Args:
        models: model folders, or run folders, by the names that they shall have; the first is what the others are
            compared with
        out: folder for ``audit.json``, ``audit.md``, ``audit.csv`` (all predictions) and a picture
        speech: folder of the audio, which is spoken once and serves every audit
        triples: the sentences
        voices: ``"distinct"``, ``"all"``, how many of each group, or names separated by commas
        device: such as ``"cpu"`` or ``"cuda"``
        level: of confidence
        resamples: of the bootstrap
        seed: of the bootstrap
        jobs: processes that speak; by default one a processor

    Raises:
        ModelError: if no model can be used
        UserError: if nothing can be spoken, or a folder cannot be written to
    """
    groups = voices_of(voices)
    failed = {name: reason for name, path in models.items() if (reason := _unusable(path, device)) is not None}
    _check_any(models, failed)
    spoken = speak_sentences(tuple(triples), groups, speech, jobs=jobs)
    answers: list[Answers] = []
    for name, path in models.items():
        if name in failed:
            continue
        try:
            answers.append(ask(name, Path(path), spoken, device=device))
        except UserError as error:
            failed[name] = str(error)
    _check_any(models, failed)
    result = summarise(answers, spoken, Resampling(level=level, resamples=resamples, seed=seed), failed)
    if out is not None:
        write_audit(result, answers, spoken, out)
    return result


def named_models(arguments: Sequence[str]) -> dict[str, Path]:
    """Models by name, from ``name=path`` or ``path``, which is then called by its last part.

    Raises:
        UserError: if two have one name
    """
    named: list[tuple[str, Path]] = []
    for argument in arguments:
        name, _, folder = argument.partition("=")
        is_named = name and folder and not Path(argument).exists()
        named.append((printable(name), Path(folder)) if is_named else ("", Path(argument)))
    folders = [path.parent if path.name == "model" else path for _, path in named]
    models: dict[str, Path] = {}
    for (name, path), short in zip(named, short_names(folders), strict=True):
        own = name or short
        if own in models:
            raise UserError(f"two models are called '{own}'; name them: first={models[own]} second={path}")
        models[own] = path
    return models


def ask(name: str, path: Path, speech: Speech, *, device: str = "cpu") -> Answers:
    """Let a model predict all sentences, some files at a time.

    Raises:
        ModelError: if the model cannot be loaded, does not predict emotions, or gives no number at all
    """
    model = load(path, device=device)
    shape = (len(speech.triples), len(SENTIMENTS), len(speech.voices), len(DIMENSIONS))
    emotions = np.full(shape, np.nan)
    failures: list[str] = []
    with progress(name, len(speech.files)) as advance:
        for start in range(0, len(speech.files), _FILES_AT_ONCE):
            some = {str(each.path): each for each in speech.files[start : start + _FILES_AT_ONCE]}
            table = model.predict(list(some))
            for row in table:
                own = some[row.file]
                numbers = [getattr(row, dimension) for dimension in DIMENSIONS]
                emotions[own.carrier, own.sentiment, own.voice] = numbers
            failures += [f"{failure.file}: {failure.reason}" for failure in table.failures]
            advance(len(some))
    if np.isnan(emotions).all():
        raise ModelError(f"{path}: gives no numbers; {failures[0] if failures else 'there was nothing to predict'}")
    return Answers(name, path, model.settings.name, model.scale, emotions, failures)


def summarise(
    answers: Sequence[Answers], speech: Speech, resampling: Resampling, failed: Mapping[str, str] | None = None
) -> Audit:
    """What the answers of the models come to."""
    with progress("Intervals", len(answers)) as advance:
        models = []
        for own in answers:
            models.append(_audited(own, answers[0], speech, resampling))
            advance(1)
    return Audit(
        sa2sr=__version__,
        design=_design(speech),
        resampling=resampling,
        models=tuple(models),
        failed=dict(failed or {}),
    )


def write_audit(audit: Audit, answers: Sequence[Answers], speech: Speech, out: str | Path) -> None:
    """Write ``audit.json``, ``audit.md`` with its picture, and ``audit.csv``: all predictions on the models' scales.

    Raises:
        UserError: if the folder cannot be written to
    """
    out = Path(out)
    document = audit_document(audit)
    try:
        write_json(out / "audit.json", audit.model_dump(mode="json"))
        for picture in document.pictures():
            with atomic(out / "pictures" / f"{picture.name}.png") as temporary:
                temporary.write_bytes(picture.png)
        write_text(out / "audit.md", markdown(document))
        with atomic(out / "audit.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(_table(answers, speech))
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot be written ({error.strerror})") from None


def read_audit(path: str | Path) -> Audit:
    """Read an ``audit.json`` back.

    Raises:
        UserError: naming what is wrong
    """
    path = Path(path)
    try:
        values = read_json(path)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    return validate(Audit, values, str(path))


def _unusable(path: str | Path, device: str) -> str | None:
    """Why a model cannot be audited; known before anything is spoken."""
    try:
        _ = load(path, device=device).scale
    except UserError as error:
        return str(error)
    return None


def _check_any(models: Mapping[str, str | Path], failed: Mapping[str, str]) -> None:
    if len(failed) == len(models):
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in failed.items())
        raise ModelError(f"no model can be audited{reasons or ': none is named'}")


def _audited(own: Answers, first: Answers, speech: Speech, resampling: Resampling) -> AuditedModel:
    valence = own.emotions[..., DIMENSIONS.index("valence")]
    groups = {group: [speech.voices.index(name) for name in names] for group, names in speech.groups.items() if names}
    beyond = {}
    if own is not first:
        beyond = shift_beyond(own.emotions, own.scale, first.emotions, first.scale, resampling)
    return AuditedModel(
        name=own.name,
        path=str(own.path),
        model=own.model,
        scale=own.scale,
        utterances=int(np.isfinite(own.emotions).all(axis=-1).sum()),
        failures=tuple(own.failures[:_FAILURES_SHOWN]),
        effects=effects(own.emotions, own.scale, resampling),
        valence_by_voices={
            group: effect(valence[:, :, places], own.scale, resampling)
            for group, places in groups.items()
            if len(groups) > 1
        },
        beyond_first=beyond,
    )


def _design(speech: Speech) -> Design:
    durations: dict[str, list[float]] = {name: [] for name in SENTIMENTS}
    for each in speech.files:
        durations[SENTIMENTS[each.sentiment]].append(each.seconds)
    return Design(
        language=LANGUAGE,
        prosody=asdict(PROSODY),
        engine=f"espeak-ng of espeakng-loader {version('espeakng-loader')}",
        sentences=tuple(Sentence(**asdict(triple)) for triple in speech.triples),
        voices={group: names for group, names in speech.groups.items() if names},
        utterances=len(speech.files),
        seconds={name: fmean(values) for name, values in durations.items() if values},
        not_spoken=tuple(speech.not_spoken[:_FAILURES_SHOWN]),
    )


def _table(answers: Sequence[Answers], speech: Speech) -> Iterator[Sequence[object]]:
    """The header and the rows of ``audit.csv``."""
    group_of = {name: group for group, names in speech.groups.items() for name in names}
    voices = speech.voices
    yield ("model", "carrier", "words", "voice", "group", "text", "seconds", *DIMENSIONS)
    for own in answers:
        for each in speech.files:
            numbers = own.emotions[each.carrier, each.sentiment, each.voice]
            sentiment, voice = SENTIMENTS[each.sentiment], voices[each.voice]
            text = speech.triples[each.carrier].sentence(sentiment)
            cells = ["" if np.isnan(number) else f"{number:.6f}" for number in numbers]
            yield (own.name, each.carrier, sentiment, voice, group_of[voice], text, f"{each.seconds:.3f}", *cells)
