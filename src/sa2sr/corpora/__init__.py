"""A corpus on disk becomes cut manifests, one a split: :func:`prepare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa2sr.config import validate
from sa2sr.corpora import crema_d, emobank, iemocap, kaldi, librispeech, msp_podcast, ravdess, table, text
from sa2sr.corpora.spoken import AnyCorpus, SpokenCorpus
from sa2sr.errors import CorpusError, RecipeError

if TYPE_CHECKING:
    from sa2sr.corpora.report import Report

_MODULES = (librispeech, msp_podcast, iemocap, ravdess, crema_d, kaldi, table, emobank, text)
CORPORA: dict[str, AnyCorpus] = {module.CORPUS.name: module.CORPUS for module in _MODULES}


def find(name: str) -> AnyCorpus:
    """A corpus by its name.

    Raises:
        CorpusError: if there is none
    """
    if name not in CORPORA:
        raise CorpusError(f"corpus '{name}' is not known; known: {', '.join(CORPORA)}")
    return CORPORA[name]


def prepare(
    corpus: str,
    source: str | Path,
    out: str | Path,
    *,
    allow_speaker_overlap: bool = False,
    verify: bool = True,
    jobs: int | None = None,
    **options: Any,
) -> "Report":
    """Turn a corpus on disk into ``out/<split>.jsonl.gz`` and ``out/report.json``.

    What cannot be used is left out and reported, item by item with the reason; the rest goes on. Corpora of texts are
    spoken into ``out/audio``; interrupted, the same call goes on where it was.

    Args:
        corpus: one of :data:`CORPORA`
        source: the corpus's folder (or file, for a table)
        out: folder for the manifests
        allow_speaker_overlap: accept speakers, and audio, that are in several splits
        verify: decode all audio, so that faults show now and durations are exact; otherwise only headers are read
        jobs: processes that decode and speak; by default one a processor
        **options: the corpus's own, such as ``dev_actors="17-20"``

    Raises:
        CorpusError: if there is nothing to use, or the corpus or an option is unknown, or splits share speakers
        UserError: if a text is to be spoken and espeak-ng is not installed (the extra ``demo``)
    """
    from sa2sr.corpora.preparation import write_manifests  # takes seconds to import

    chosen = find(corpus)
    try:
        settings = validate(chosen.options, options, f"options of {corpus}")
    except RecipeError as error:
        raise CorpusError(str(error)) from None
    return write_manifests(
        chosen.spoken_into(Path(out), jobs) if isinstance(chosen, SpokenCorpus) else chosen,
        Path(source),
        Path(out),
        settings,
        allow_speaker_overlap=allow_speaker_overlap,
        decode=verify,
        jobs=jobs,
    )
