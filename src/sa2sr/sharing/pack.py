"""A copy of a model that others can use: its files and nothing else, smaller where that costs nothing, with a card."""

import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import ModelSettings, to_yaml
from sa2sr.errors import ModelError
from sa2sr.files import atomic, write_text
from sa2sr.network.folder import (
    CARD_FILE,
    FOLDER_FILES,
    INTERVALS_FILE,
    SETTINGS_FILE,
    SHIPPED,
    SHIPPED_FOLDER,
    WEIGHTS_FILE,
    check_place,
    find_model,
    is_exported,
    read_calibration,
    read_settings,
    read_stored_weights,
    run_of,
    without_heads,
)
from sa2sr.network.hub import hub_name, upload
from sa2sr.sharing.card import card_text
from sa2sr.sharing.facts import FACTS_FILE, CardFacts, read_facts
from sa2sr.sharing.measured import read_evaluations

Weights = Mapping[str, NDArray[np.floating]]


def pack(
    model: str | Path,
    out: str | Path,
    *,
    half: bool = False,
    lean: bool = False,
    without: Collection[str] = (),
    card: str | Path | None = None,
    licence: str | None = None,
    name: str | None = None,
) -> Path:
    """Copy a model with what others need: settings, weights, intervals, and a model card.

    Args:
        model: a model folder, exported or not, a run folder, or a name on the hub
        out: the new folder; a model that is there is replaced
        half: matrices in half precision (fp16), half the size; vectors, which hardly count, stay as they are. What is
            stored in half precision stays so in any case
        lean: without heads that only served a training (APC, CPC, speakers, whose names would be in the settings)
        without: other heads that are left out, such as ``category``
        card: a ``card.yaml``; by default that of the model folder or of its run folder. With neither, nor ``licence``,
            a card that the model folder has is copied
        licence: of the weights, in place of the card's
        name: by which others load it, for the card; by default that of the folder

    Raises:
        ModelError: if there is no model, it cannot be written or made smaller like this, a head is missing or another
            reads it, or an evaluation beside it is of other weights
    """
    source, out = find_model(model), Path(out)
    exported = is_exported(source)
    if source.resolve() == out.resolve():
        raise ModelError(f"{out}: is the model itself; name another folder")
    check_place(out)
    if exported and (half or lean or without):
        raise ModelError(f"{source}: is an exported model, which is copied as it is; pack the model that it came from")
    settings = read_settings(source, exported=exported)
    weights: Weights = {} if exported else read_stored_weights(source)
    if dropped := _of_no_use(settings, lean, without, source):
        settings, weights = without_heads(settings, weights, dropped)
    if half:
        weights = _half(weights, source)
    facts = _facts(source, card, licence)
    unwanted = (INTERVALS_FILE,) if settings.scale is None else ()  # they are of emotions
    shown = SHIPPED if out.resolve() == SHIPPED_FOLDER else name or out.resolve().name
    text = _card(source, settings, facts, shown, sum(each.size for each in weights.values()))
    try:
        # Without its settings a folder is no model, so that one half written is not taken for one.
        for each in (SETTINGS_FILE, *FOLDER_FILES):
            (out / each).unlink(missing_ok=True)
        if weights:
            _write_weights(out / WEIGHTS_FILE, weights)
        for each in FOLDER_FILES:
            if each not in (SETTINGS_FILE, WEIGHTS_FILE, CARD_FILE, *unwanted) and (source / each).is_file():
                with atomic(out / each) as temporary:
                    shutil.copyfile(source / each, temporary)
        write_text(out / CARD_FILE, text)
        write_text(out / SETTINGS_FILE, to_yaml(settings))
    except OSError as error:
        raise ModelError(f"{out}: cannot be written ({error.strerror or error})") from None
    return out


def push(
    model: str | Path,
    name: str,
    *,
    half: bool = False,
    lean: bool = False,
    without: Collection[str] = (),
    card: str | Path | None = None,
    licence: str | None = None,
    private: bool = False,
    message: str | None = None,
) -> str:
    """Share a model on the hub; returns its address there.

    Args:
        model: as for :func:`pack`
        name: ``user/name``, or ``user/name@branch``
        half: as for :func:`pack`
        lean: likewise
        without: likewise
        card: likewise
        licence: likewise; one is needed, here or in the card
        private: whether a new repository is only for those who are let in
        message: of the commit

    Raises:
        ModelError: if there is no model, no licence, or the hub does not take it
    """
    where, source = hub_name(name), find_model(model)
    facts = _facts(source, card, licence)
    known = facts.licence is not None if facts is not None else (source / CARD_FILE).is_file()  # a card has said it
    if not known:
        raise ModelError(
            f"{source}: the licence of the weights is not known, which others need to know: --licence cc-by-4.0, or "
            f"{FACTS_FILE} in that folder; the data that a model learnt from may ask for one"
        )
    with tempfile.TemporaryDirectory(prefix="sa2sr-") as folder:
        options = {"half": half, "lean": lean, "without": without, "card": card, "licence": licence}
        packed = pack(source, folder, **options, name=str(where))  # type: ignore[arg-type]
        return upload(packed, where, private=private, message=message)


def _facts(source: Path, path: str | Path | None, licence: str | None) -> CardFacts | None:
    """What people say of a model; None where they have said nothing."""
    places = [Path(path)] if path is not None else [source / FACTS_FILE, run_of(source) / FACTS_FILE]
    known = next((each for each in places if path is not None or each.is_file()), None)
    return read_facts(known, licence) if known is not None or licence is not None else None


def _card(source: Path, settings: ModelSettings, facts: CardFacts | None, name: str, parameters: int) -> str:
    if facts is None and (source / CARD_FILE).is_file():
        return (source / CARD_FILE).read_text(encoding="utf-8", errors="replace")
    evaluations = [each.of_heads(settings) for each in read_evaluations(run_of(source), settings.name, source)]
    measured = [each for each in evaluations if each.overall]
    calibration = read_calibration(source) if settings.scale is not None else None
    described = facts or CardFacts()
    return card_text(settings, described, measured, calibration, name=name, parameters=parameters or None)


def _of_no_use(settings: ModelSettings, lean: bool, without: Collection[str], source: Path) -> list[str]:
    """The heads that a copy does without."""
    objectives = settings.objectives.active()
    if missing := [name for name in without if name not in objectives]:
        raise ModelError(f"{source}: has no head {missing[0]} to leave out; it has {', '.join(objectives)}")
    if "emotion" not in without and (needed := [name for name in without if name in settings.read_by_emotion]):
        raise ModelError(f"{source}: emotion reads what {needed[0]} says, which cannot be left out")
    dropped = [name for name, task in objectives.items() if name in without or (lean and task.stays_behind)]
    if len(dropped) == len(objectives):
        raise ModelError(f"{source}: has no heads but {', '.join(dropped)}, of which a model needs one")
    return dropped


def _half(weights: Weights, source: Path) -> Weights:
    """Matrices in fp16. Vectors are biases, norms and the statistics of the ratings: few, and not small errors."""
    largest = float(np.finfo(np.float16).max)
    for name, array in weights.items():
        if array.ndim > 1 and np.abs(array).max(initial=0) > largest:
            raise ModelError(f"{source}: {name} holds numbers beyond {largest:g}, which half precision does not have")
    return {name: array.astype(np.float16) if array.ndim > 1 else array for name, array in weights.items()}


def _write_weights(path: Path, weights: Weights) -> None:
    from safetensors.numpy import save

    with atomic(path) as temporary:
        temporary.write_bytes(save({name: np.ascontiguousarray(array) for name, array in weights.items()}))
