"""From the utterances of any corpus to checked cut manifests: what all corpora have in common."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sa2sr.audio import AudioInfo
from sa2sr.config import DIMENSIONS
from sa2sr.corpora.corpus import Corpus, Entry, Problem, Utterance
from sa2sr.corpora.inspection import Finding, inspect
from sa2sr.corpora.report import Report, SplitCounts
from sa2sr.corpora.tables import COMMA_HINT
from sa2sr.cuts import Cut, custom_fields, make_cut, write_cuts
from sa2sr.errors import AudioError, CorpusError
from sa2sr.files import read_json, write_json

_SPLIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # becomes the name of a file
_SHOWN = 10  # names in an error


def write_manifests(
    corpus: Corpus,
    source: Path,
    out: Path,
    options: Any,
    *,
    allow_speaker_overlap: bool = False,
    decode: bool = True,
    jobs: int | None = None,
) -> Report:
    """Read a corpus, check it, and write ``out/<split>.jsonl.gz`` and ``out/report.json``.

    The same corpus gives the same bytes. Manifests that an earlier preparation wrote there, and this one does not, are
    removed: their utterances may be in another split now. Arguments as for :func:`sa2sr.corpora.prepare`.

    Raises:
        CorpusError: if nothing in it can be used, or if splits share speakers or audio
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CorpusError(f"{out}: cannot be made a folder ({error.strerror})") from None
    utterances, problems = _gather(corpus, corpus.read(source, options))
    if not allow_speaker_overlap:
        _check_splits(utterances)
    findings = inspect(sorted({utterance.audio for utterance in utterances}), decode=decode, jobs=jobs)
    splits = _make_cuts(utterances, findings, problems, "" if corpus.general else corpus.name)
    problems.sort(key=lambda problem: (problem.lost, problem.reason, problem.item, problem.detail))
    custom = [custom_fields(cut) for cuts in splits.values() for cut in cuts]
    report = Report(
        corpus.name,
        source,
        manifests={split: out / f"{split}.jsonl.gz" for split in splits},
        splits={split: _count(cuts) for split, cuts in splits.items()},
        problems=problems,
        options=options.model_dump(mode="json"),
        scales=tuple(sorted({fields["scale"]["name"] for fields in custom if "scale" in fields})),
        verified=decode,
    )
    earlier = _earlier_splits(out)
    if splits or not earlier:
        for split in earlier - splits.keys():  # before the report that knows of them is gone
            (out / f"{split}.jsonl.gz").unlink(missing_ok=True)
        write_json(out / "report.json", report.to_dict())
    if not splits:
        reasons = "; ".join(f"{count:,} x {reason}" for (_, reason), count in report.counts().items())
        raise CorpusError(f"{source}: holds no utterance that can be used ({reasons or 'nothing was found'})")
    for split, cuts in splits.items():
        write_cuts(report.manifests[split], cuts)
    return report


def _earlier_splits(out: Path) -> set[str]:
    """The splits that the report of an earlier preparation names."""
    try:
        splits = read_json(out / "report.json")["splits"]
        return {split for split in splits if _SPLIT.fullmatch(split)}
    except (ValueError, KeyError, TypeError):
        return set()


def _gather(corpus: Corpus, entries: Iterable[Entry]) -> tuple[list[Utterance], list[Problem]]:
    """Sort what the reader gives into utterances that may be usable, and problems."""
    utterances: dict[str, Utterance] = {}
    problems: list[Problem] = []
    for entry in entries:
        if isinstance(entry, Problem):
            problems.append(entry)
            continue
        text = None if entry.text is None else entry.text.strip()
        first = utterances.get(entry.name)
        if not _SPLIT.fullmatch(entry.split):
            detail = f"'{entry.split[:40]}' cannot name a file; letters, digits, '.', '_' and '-' can"
            problems.append(Problem("unusable name of a split", entry.name, detail))
        elif "\0" in str(entry.audio):
            problems.append(Problem("unusable path of audio", entry.name, f"{str(entry.audio)!r} holds a NUL"))
        elif first is not None and (first.split == entry.split or first.audio != entry.audio):
            detail = f"{entry.audio}; the first, {first.audio}, is kept{_names_another(corpus, 'id')}"
            problems.append(Problem("id occurs twice", entry.name, detail))
        elif first is not None:
            raise CorpusError(f"{entry.name} is in two splits, {first.split} and {entry.split}: {entry.audio}")
        elif corpus.needs_text and not text:
            problems.append(Problem("no transcript", entry.name, str(entry.audio)))
        else:
            if text == "":
                problems.append(Problem("no transcript", entry.name, str(entry.audio), lost="transcript"))
            rated = _with_valid_ratings(entry, problems, _names_another(corpus, "scale"))
            utterances[entry.name] = replace(rated, text=text or None)
    return list(utterances.values()), problems


def _names_another(corpus: Corpus, option: str) -> str:
    """The remedy for a column or scale that is not what it was taken for, if the corpus has this option."""
    return f"; --{option} names another" if option in corpus.options.model_fields else ""


def _with_valid_ratings(utterance: Utterance, problems: list[Problem], remedy: str) -> Utterance:
    """All ratings as numbers on the scale; none if one of them is wrong, for then the others are doubtful too."""
    ratings: dict[str, str | float] = {}
    for dimension in DIMENSIONS:
        value = utterance.ratings.get(dimension, "")
        if isinstance(value, str) and not value.strip():
            continue
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        scale = utterance.scale
        if not math.isfinite(number):
            detail = f"{dimension} '{value}'" + (COMMA_HINT if "," in str(value) else "")
            problems.append(Problem("rating is not a number", utterance.name, detail, "ratings"))
            return replace(utterance, ratings={})
        if scale is not None and not scale.low <= number <= scale.high:
            detail = f"{dimension} {value}, scale {scale.low:g} to {scale.high:g}{remedy}"
            problems.append(Problem("rating is outside the scale", utterance.name, detail, "ratings"))
            return replace(utterance, ratings={})
        ratings[dimension] = number
    return replace(utterance, ratings=ratings)


def _check_splits(utterances: Sequence[Utterance]) -> None:
    """Refuse speakers, and audio, that are in several splits: a test on them would flatter the model."""
    speakers: dict[str, set[str]] = defaultdict(set)
    audio: dict[tuple[Path, float], set[str]] = defaultdict(set)
    for utterance in utterances:
        if utterance.speaker is not None:
            speakers[utterance.speaker].add(utterance.split)
        audio[utterance.audio.resolve(), utterance.start].add(utterance.split)
    shared: dict[str, set[str]] = {name: splits for name, splits in speakers.items() if len(splits) > 1}
    if shared:
        raise CorpusError(f"speakers in several splits: {_list(shared)}; --allow-speaker-overlap prepares them anyway")
    shared = {f"{path} at {start:g} s": splits for (path, start), splits in audio.items() if len(splits) > 1}
    if shared:
        raise CorpusError(f"audio in several splits: {_list(shared)}; --allow-speaker-overlap prepares it anyway")


def _list(shared: dict[str, set[str]]) -> str:
    named = [f"{name} ({', '.join(sorted(splits))})" for name, splits in sorted(shared.items())]
    return ", ".join(named[:_SHOWN]) + (f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else "")


def _make_cuts(
    utterances: Sequence[Utterance], findings: dict[Path, Finding], problems: list[Problem], corpus: str
) -> dict[str, list[Cut]]:
    """The cuts of each split, by name; what cannot be one is added to ``problems``."""
    splits: dict[str, list[Cut]] = defaultdict(list)
    for utterance in sorted(utterances, key=lambda utterance: (utterance.split, utterance.name)):
        info = findings[utterance.audio]
        if isinstance(info, AudioError):
            # "is truncated: 3 of 5 samples" counts as "audio is truncated"
            kind = re.split(r"[:;,(]", info.reason)[0].strip()
            problems.append(Problem(f"audio {kind}", utterance.name, str(info)))
        elif (made := _make_cut(utterance, info, corpus)) is not None:
            splits[utterance.split].append(made)
        else:
            detail = f"{utterance.start:g} to {utterance.end} s of {utterance.audio}, which has {info.seconds:g} s"
            problems.append(Problem("part of a file that is not there", utterance.name, detail))
    return dict(splits)


def _make_cut(utterance: Utterance, info: AudioInfo, corpus: str) -> Cut | None:
    """None if start and end do not fit the file; an end up to half a second late is moved to the file's end."""
    end = info.seconds if utterance.end is None else utterance.end
    if not (0 <= utterance.start < min(end, info.seconds) and end <= info.seconds + 0.5):
        return None
    return make_cut(
        utterance.name,
        utterance.audio,
        info,
        text=utterance.text,
        speaker=utterance.speaker,
        gender=utterance.gender,
        language=utterance.language,
        emotion=utterance.emotion,
        ratings={name: float(value) for name, value in utterance.ratings.items()},
        scale=utterance.scale,
        start=utterance.start,
        duration=min(end, info.seconds) - utterance.start,
        custom=dict(utterance.custom) | ({"corpus": corpus} if corpus and utterance.ratings else {}),
    )


def _count(cuts: Sequence[Cut]) -> SplitCounts:
    fields = [custom_fields(cut) for cut in cuts]
    speakers = {cut.supervisions[0].speaker for cut in cuts} - {None}
    return SplitCounts(
        utterances=len(cuts),
        hours=sum(cut.duration for cut in cuts) / 3600,
        speakers=len(speakers),
        with_text=sum(cut.supervisions[0].text is not None for cut in cuts),
        with_emotion=sum("emotion" in custom for custom in fields),
        with_ratings=sum("scale" in custom for custom in fields),
    )
