"""An exported model: a folder with the network as ONNX graphs, which predicts without torch, here and elsewhere."""

from math import isfinite
from pathlib import Path

from sa2sr.config import ALPHABET, DIMENSIONS, SENTIMENTS, ModelSettings, to_yaml
from sa2sr.errors import ModelError
from sa2sr.files import atomic, write_json, write_text
from sa2sr.inference.graph import INPUTS, OUTPUTS, build_graph, outputs_of
from sa2sr.intervals import REPORTED_LEVELS, Calibration
from sa2sr.network.folder import (
    GRAPH_FILE,
    INT8_GRAPH_FILE,
    INTERVALS_FILE,
    LABELS_FILE,
    SETTINGS_FILE,
    WEIGHTS_FILE,
    check_place,
    find_model,
    read_calibration,
    read_settings,
    read_weights,
)


def export(model: str | Path, out: str | Path, *, int8: bool = True) -> Path:
    """Export a model as a folder of its own: settings, labels, scale, and the network in fp32 and int8.

    Args:
        model: a model folder, a run folder, a name on the hub, or ``default``
        out: the new folder; an exported model that is there is replaced
        int8: also in 8-bit integers: a third of the size and twice as fast, and a little less exact

    Returns:
        the new folder

    Raises:
        ModelError: if there is no model, ``out`` is one that can be trained on or holds anything else, or onnx is
            not installed
    """
    model, out = find_model(model), Path(out)
    settings, weights, calibration = read_settings(model), read_weights(model), read_calibration(model)
    if (out / WEIGHTS_FILE).exists():
        raise ModelError(f"{out}: is a model folder with weights; export into a folder of its own")
    check_place(out)
    graphs = {GRAPH_FILE: build_graph(settings, weights)}
    if int8:
        graphs[INT8_GRAPH_FILE] = build_graph(settings, weights, int8=True)
    try:
        # Without its settings a folder is no model, so that one half written is not taken for one.
        (out / SETTINGS_FILE).unlink(missing_ok=True)
        (out / INT8_GRAPH_FILE).unlink(missing_ok=True)
        for name, graph in graphs.items():
            with atomic(out / name) as temporary:
                temporary.write_bytes(graph.SerializeToString())
        (out / INTERVALS_FILE).unlink(missing_ok=True)
        if calibration is not None:
            write_json(out / INTERVALS_FILE, calibration.model_dump(mode="json"))
        write_json(out / LABELS_FILE, _labels(settings, calibration))
        write_text(out / SETTINGS_FILE, to_yaml(settings))
    except OSError as error:
        raise ModelError(f"{out}: cannot be written ({error.strerror or error})") from None
    return out


def _labels(settings: ModelSettings, calibration: Calibration | None) -> dict[str, object]:
    """What a program of any language needs to know of the graphs.

    An interval is the prediction, clipped to the scale, +- its half width, and clipped again.
    """
    objectives = settings.objectives
    labels: dict[str, object] = {
        "model": settings.name,
        "inputs": INPUTS,
        "outputs": {name: OUTPUTS[name][1] for name in outputs_of(settings)},
    }
    if objectives.ctc:
        labels["characters"] = ["", *ALPHABET]  # the blank is none
    if objectives.sentiment:
        labels["sentiments"] = SENTIMENTS
    if objectives.emotion and settings.scale:
        labels |= {"dimensions": DIMENSIONS, "scale": settings.scale.model_dump()}
    if objectives.category:
        labels["categories"] = settings.categories
    if calibration is not None:
        labels["half_widths"] = {
            f"{level:g}": [half if isfinite(half) else None for half in calibration.half_widths(level).tolist()]
            for level in REPORTED_LEVELS
        }
    return labels
