"""Dividing cuts by speaker, for corpora without partitions of their own."""

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sa2sr.cuts import Cut, read_cuts, write_cuts
from sa2sr.errors import CorpusError


def split_by_speaker(
    inputs: Sequence[str | Path], out: str | Path, shares: Mapping[str, float], seed: int = 0
) -> dict[str, list[Cut]]:
    """Divide manifests into parts that share no speaker, and write ``OUT/<part>.jsonl.gz``.

    Which speakers a part gets depends on their names and the seed alone, so that a corpus that grows keeps its order.
    The parts are filled in turn, up to their share of the hours; a cut without a speaker counts as one of its own.

    Args:
        inputs: manifests
        out: folder of the parts
        shares: of the hours, by name of the part, such as ``{"train": 0.9, "dev": 0.1}``
        seed: another seed, another division

    Raises:
        CorpusError: if there is nothing to divide, or too few speakers to give every part one; if an id occurs twice;
            if a part would replace a manifest that is divided
    """
    if not shares or any(not share > 0 or not math.isfinite(share) for share in shares.values()):
        raise CorpusError(f"the parts need shares above 0, such as train=0.9 dev=0.1; got {dict(shares)}")
    outputs = {name: Path(out) / f"{name}.jsonl.gz" for name in shares}
    _keep_inputs(inputs, outputs.values())
    speakers: dict[str, list[Cut]] = defaultdict(list)
    origins: dict[str, str | Path] = {}
    for path in inputs:
        for cut in read_cuts(path):
            if cut.id in origins:
                raise CorpusError(f"{path}: the id '{cut.id}' was in {origins[cut.id]} already; give a manifest once")
            origins[cut.id] = path
            speaker = cut.supervisions[0].speaker if cut.supervisions else None
            speakers[f"speaker {speaker}" if speaker else f"cut {cut.id}"].append(cut)
    if len(speakers) < len(shares):
        raise CorpusError(
            f"{len(speakers)} speaker(s) in {', '.join(map(str, inputs))} cannot fill {len(shares)} parts"
        )
    order = sorted(speakers, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    hours = sum(cut.duration for cuts in speakers.values() for cut in cuts)
    # Small parts first: they are filled most exactly while there are many speakers left to choose from.
    by_size = sorted(shares, key=lambda name: shares[name])
    parts: dict[str, list[Cut]] = {name: [] for name in shares}
    waiting = list(by_size)
    for position, name in enumerate(order):
        part = waiting[0]
        parts[part] += speakers[name]
        filled = sum(cut.duration for cut in parts[part]) >= hours * shares[part] / sum(shares.values())
        scarce = len(order) - position - 1 <= len(waiting) - 1
        if len(waiting) > 1 and (filled or scarce):
            waiting.pop(0)
    for part, cuts in parts.items():
        cuts.sort(key=lambda cut: cut.id)
        write_cuts(outputs[part], cuts)
    return parts


def _keep_inputs(inputs: Iterable[str | Path], outputs: Iterable[Path]) -> None:
    """Refuse to write where is read: half of a manifest in its own place is the other half lost."""
    sources = {Path(path).resolve(): path for path in inputs}
    for path in outputs:
        if path.resolve() in sources:
            raise CorpusError(f"{path} is one of the manifests to divide; choose another folder with --out")


def parse_shares(text: str) -> dict[str, float]:
    """Read ``train=0.9,dev=0.1``.

    Raises:
        CorpusError: if it is not of that form, or names a part twice
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.strip().partition("=")
        if name in shares:
            raise CorpusError(f"'{text}' names the part {name} twice")
        try:
            shares[name] = float(share)
        except ValueError:
            raise CorpusError(f"'{text}' is not of the form train=0.9,dev=0.1") from None
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise CorpusError(f"'{name}' is not a name for a part: letters, digits, _ and - make one")
    return shares
