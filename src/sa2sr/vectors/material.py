"""What the features of utterances are made of: texts, voices and waveforms, as far as some feature needs them."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import FrontEnd, Regression
from sa2sr.cuts import load_waveform
from sa2sr.errors import AudioError, CorpusError, ModelError
from sa2sr.network.model import SpeechModel
from sa2sr.progress import progress
from sa2sr.speech.text import normalise_text
from sa2sr.speech.utterances import Utterance
from sa2sr.vectors.beam import make_decoder
from sa2sr.vectors.functionals import egemaps, functionals
from sa2sr.vectors.listening import Hearing, listen

_LARGEST_CELL = 100_000  # characters


@dataclass(frozen=True)
class Material:
    """N utterances, and what is known of each."""

    utterances: list[Utterance]
    texts: list[str]  # that features are made of
    hypotheses: list[str] | None  # what was heard, in the alphabet of the recogniser; none where nothing was
    voices: NDArray[np.float64]  # (N, units) of the speaker head, units 0 without
    sounds: NDArray[np.float64]  # (N, F) functionals and eGeMAPS, F 0 without
    failures: list[str]  # audio that cannot be read


def gather(
    regression: Regression,
    utterances: Sequence[Utterance],
    frontend: FrontEnd,
    network: SpeechModel | None,
    words: Iterable[str] = (),
    *,
    training: bool = False,
) -> Material:
    """What the features of utterances are made of; those whose audio cannot be read are left out, if it is needed.

    Args:
        regression: the features, and where texts come from
        utterances: N and those that are left out
        frontend: of functionals
        network: that hears words and voices, where it is needed
        words: that a decoder with a language model may write
        training: texts are those to learn from

    Raises:
        CorpusError: if there are no texts, or none of the audio can be read
        ModelError: if a model is needed and there is none, or it has not learnt what is needed
        UserError: if an extra is missing
    """
    features, text = regression.features, regression.text
    from_references = text.source == "reference" or (training and text.learn_from == "reference")
    recognised = features.read_text and not from_references
    if regression.needs_model and network is None:
        raise ModelError("the recipe's regression needs a pre-trained model: name one with --encoder")
    heard = Hearing({}, {}, {})
    if network is not None and regression.needs_model:
        decoder = make_decoder(text, words) if recognised and text.source == "ctc" else None
        heard = listen(network, utterances, decoder, voices=features.speaker is not None)
    sounds, failures = _sounds(regression, utterances, frontend)
    failures = heard.failures | failures
    kept = [each for each in range(len(utterances)) if each not in failures]
    if not kept:
        raise CorpusError(f"no audio can be read; first: {next(iter(failures.values()))}")
    hypotheses = None
    if recognised:
        by_row = heard.texts if text.source == "ctc" else _read_hypotheses(text.files, utterances)
        hypotheses = [by_row[each] for each in kept]
    texts = hypotheses if hypotheses is not None else [reference_text(utterances[each]) for each in kept]
    if features.read_text and not any(texts):
        what = "nothing was recognised in any utterance" if recognised else "no utterance has a transcript"
        raise CorpusError(f"{what}, and the recipe's regression reads text")
    return Material(
        utterances=[utterances[each] for each in kept],
        texts=texts,
        hypotheses=hypotheses,
        voices=_stacked([heard.voices[each] for each in kept if heard.voices], len(kept)),
        sounds=_stacked([sounds[each] for each in kept if sounds], len(kept)),
        failures=list(failures.values()),
    )


def reference_text(utterance: Utterance) -> str:
    """The transcript as the manifest has it; empty where there is none."""
    supervisions = utterance.cut.supervisions
    return str(supervisions[0].text or "") if supervisions else ""


def _stacked(rows: Sequence[NDArray[np.floating]], count: int) -> NDArray[np.float64]:
    return np.stack(rows).astype(np.float64) if rows else np.zeros((count, 0))


def _sounds(
    regression: Regression, utterances: Sequence[Utterance], frontend: FrontEnd
) -> tuple[dict[int, NDArray[np.float64]], dict[int, str]]:
    """Functionals and eGeMAPS of each utterance, and why those that have none have none."""
    settings, rate = regression.features.functionals, frontend.sampling_rate
    found: dict[int, NDArray[np.float64]] = {}
    failures: dict[int, str] = {}
    if settings is None and regression.features.egemaps is None:
        return found, failures
    with progress("Functionals", total=len(utterances)) as advance:
        for number, utterance in enumerate(utterances):
            advance(1)
            try:
                waveform = load_waveform(utterance.cut, rate)
            except AudioError as error:
                failures[number] = str(error)
                continue
            parts = [functionals(waveform, frontend, settings)] if settings is not None else []
            if regression.features.egemaps is not None:
                parts.append(egemaps(waveform, rate))
            found[number] = np.concatenate(parts)
    return found, failures


def _read_hypotheses(paths: Sequence[Path], utterances: Sequence[Utterance]) -> dict[int, str]:
    """The text of each utterance, by its position, in CSV files with the columns id and text.

    Raises:
        CorpusError: naming the file that is none, or an utterance that no file has
    """
    texts: dict[str, str] = {}
    for path in paths:
        try:
            with path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                if missing := sorted({"id", "text"} - {*(reader.fieldnames or ())}):
                    raise CorpusError(f"{path}: has no column {' and no column '.join(missing)}")
                texts.update({row["id"]: (row["text"] or "")[:_LARGEST_CELL] for row in reader})
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise CorpusError(f"{path}: cannot be read ({error})") from None
    absent = [u.name for u in utterances if u.name not in texts]
    if absent:
        where = ", ".join(map(str, paths))
        raise CorpusError(f"{where}: no hypothesis for {len(absent)} utterances, such as {absent[0]}")
    return {row: normalise_text(texts[u.name]) or "" for row, u in enumerate(utterances)}
