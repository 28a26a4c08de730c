"""An exported model: a folder with the network as ONNX graphs, which predicts without torch, here and elsewhere."""

from pathlib import Path

from sa2sr.config import ALPHABET, DIMENSIONS, SENTIMENTS, ModelSettings, to_yaml
from sa2sr.errors import ModelError
from sa2sr.files import atomic, write_json, write_text
from sa2sr.inference.graph import INPUTS, OUTPUTS, build_graph, outputs_of
from sa2sr.network.folder import (
    GRAPH_FILE,
    INT8_GRAPH_FILE,
    SETTINGS_FILE,
    WEIGHTS_FILE,
    read_settings,
    read_weights,
)

LABELS_FILE = "labels.json"


def export(model: str | Path, out: str | Path, *, int8: bool = True) -> Path:
    """Export a model as a folder of its own: settings, labels, scale, and the network in fp32 and int8.

    Args:
        model: a model folder, or a run folder
        out: the new folder; an exported model that is there is replaced
        int8: also in 8-bit integers: a third of the size and twice as fast, and a little less exact

    Returns:
        the new folder

    Raises:
        ModelError: if there is no model, ``out`` is one that can be trained on, or onnx is not installed
    """
    out = Path(out)
    settings, weights = read_settings(model), read_weights(model)
    if (out / WEIGHTS_FILE).exists():
        raise ModelError(f"{out}: is a model folder with weights; export into a folder of its own")
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
        write_json(out / LABELS_FILE, _labels(settings))
        write_text(out / SETTINGS_FILE, to_yaml(settings))
    except OSError as error:
        raise ModelError(f"{out}: cannot be written ({error.strerror or error})") from None
    return out


def _labels(settings: ModelSettings) -> dict[str, object]:
    """What a program of any language needs to know of the graphs."""
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
    return labels
