"""The network as an ONNX graph, built from its weights: any batch, any duration, any lengths.

It computes what :mod:`sa2sr.network` computes, without torch. The operators are those of ONNX 17; in the int8 form
the encoder's layers are onnxruntime's DynamicQuantizeLSTM. All else stays in single precision, since it is too small
to gain anything.

What the graph reads is in :data:`INPUTS`; what it gives depends on the tasks of the model: :data:`OUTPUTS`.
"""

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import ALPHABET, DIMENSIONS, SENTIMENTS, ModelSettings, ReadoutSettings, SentimentSettings
from sa2sr.errors import ModelError
from sa2sr.inference.assembly import Axis, Graph, Weight, Weights, axes, type_of
from sa2sr.network.folder import without_heads

if TYPE_CHECKING:
    from onnx import ModelProto

INPUTS = {
    "frames": "log mel filterbank energies, normalised over each utterance, padded with anything, (B, T, filters)",
    "lengths": "frames of each utterance, at least 1, (B,)",
}
OUTPUTS: dict[str, tuple[str, str]] = {  # name -> (task, what it is)
    "steps": ("", "stacked frames of each utterance, (B,); later logits are padding"),
    "logits": ("ctc", "before the softmax over characters, (B, T', 29)"),
    "sentiment": ("sentiment", "probabilities of negative, neutral and positive, (B, 3)"),
    **dict.fromkeys(DIMENSIONS, ("emotion", "on the scale of the ratings, not clipped to it, (B,)")),
    "category": ("category", "probabilities of the K categories, (B, K)"),
}
_TASKS = {task for task, _ in OUTPUTS.values() if task}
_CHARACTERS = 1 + len(ALPHABET)  # with the blank
_AXES: dict[str, tuple[Axis, ...]] = {
    "logits": ("B", "T_stacked", _CHARACTERS),
    "sentiment": ("B", len(SENTIMENTS)),
}
# 8-bit weights are kept within 7: x86 processors without VNNI add two products of bytes in 16 bits, which would
# overflow, and the numbers would depend on the machine.
_LARGEST = 63


def outputs_of(settings: ModelSettings) -> list[str]:
    """The outputs that the graph of a model has."""
    tasks = {"", *settings.objectives.active()}
    return [name for name, (task, _) in OUTPUTS.items() if task in tasks]


def build_graph(
    settings: ModelSettings, weights: Mapping[str, Weight], *, heads: Collection[str] | None = None, int8: bool = False
) -> "ModelProto":
    """Build the graph of a model.

    Args:
        settings: of the model
        weights: by the names that they have in a model folder
        heads: tasks that are heard beside the emotions, such as ``ctc``; by default all. The others are left out,
            since onnxruntime computes whatever a graph has, wanted or not
        int8: multiply in the encoder by 8-bit integers

    Raises:
        ModelError: if the weights are not those of the settings, there is no graph of its encoder, or onnx is not
            installed
    """
    if settings.encoder.kind != "lstm":
        of_kind = {"conformer": "a conformer"}.get(settings.encoder.kind, f"of the kind {settings.encoder.kind}")
        raise ModelError(
            f"the model '{settings.name}' cannot be exported or run by the onnx engine: its encoder is "
            f"{of_kind}, and ONNX is for lstm alone; the torch engine predicts with it"
        )
    if settings.reads_texts:
        raise ModelError(
            f"the model '{settings.name}' cannot be exported or run by the onnx engine: it reads what it recognises, "
            "which ONNX cannot; the torch engine predicts with it"
        )
    kept = {"emotion", *settings.read_by_emotion, *(_TASKS if heads is None else heads)}
    of_no_output = [name for name in settings.objectives.active() if name not in kept]
    settings, weights = without_heads(settings, weights, of_no_output)
    frontend, objectives = settings.frontend, settings.objectives
    inputs = objectives.emotion.inputs if objectives.emotion else ()
    graph = Graph(Weights(weights))
    frames, steps = _stack(graph, "frames", "lengths", frontend.stack, frontend.dimension)
    graph("Identity", steps, name="steps")
    short_steps = graph("Cast", steps, to=type_of(np.int32))  # the LSTM operator's type of lengths
    parts = {"frames": (frames, frontend.dimension)}  # that emotions may be told from, and their sizes
    states, size = graph("Transpose", frames, perm=[1, 0, 2]), frontend.dimension
    for layer in range(settings.encoder.layers):
        part, units = f"encoder.layers.{layer}", settings.encoder.units
        directions = ("", "_reverse") if settings.encoder.direction == "both" else ("",)
        states = _lstm(graph, part, states, short_steps, (size, units), directions, int8=int8)
        size = len(directions) * units
    states = graph("Transpose", states, perm=[1, 0, 2])  # (B, T', H)
    parts["states"] = states, size
    if objectives.ctc:
        logits = _linear(graph, "objectives.ctc.output", states, size, _CHARACTERS, name="logits")
        if "posteriors" in inputs:
            parts["posteriors"] = _until_the_end(graph, graph("Softmax", logits, axis=-1), states, steps), _CHARACTERS
    if objectives.sentiment:
        summarise = {"lstm": _last_state, "attention": _attention_pooling}[objectives.sentiment.summariser]
        summary = summarise(graph, states, short_steps, size, objectives.sentiment)
        scores = _linear(graph, "objectives.sentiment.output", summary, objectives.sentiment.units, len(SENTIMENTS))
        graph("Softmax", scores, name="sentiment", axis=-1)
        if "sentiment" in inputs:
            sentiment = graph("Unsqueeze", graph("LogSoftmax", scores, axis=-1), axes(1))  # the same at every step
            parts["sentiment"] = _until_the_end(graph, sentiment, states, steps), len(SENTIMENTS)
    if objectives.emotion:
        read, width = parts[inputs[0]]
        for part in inputs[1:]:
            read, width = graph("Concat", read, parts[part][0], axis=-1), width + parts[part][1]
        part = "objectives.emotion"
        standard = _readout(graph, part, read, steps, width, objectives.emotion, len(DIMENSIONS))
        spread, mean = (graph.weights.take(f"{part}.rating_{name}", len(DIMENSIONS)) for name in ("spread", "mean"))
        emotions = graph("Add", graph("Mul", standard, spread), mean)
        for index, name in enumerate(DIMENSIONS):
            graph("Gather", emotions, np.int64(index), name=name, axis=1)
    categories = settings.categories
    if objectives.category:
        scores = _readout(graph, "objectives.category", states, steps, size, objectives.category, len(categories))
        graph("Softmax", scores, name="category", axis=-1)
    graph.weights.none_left()
    return graph.model(
        {"frames": ("B", "T", frontend.filters), "lengths": ("B",)},
        {name: {**_AXES, "category": ("B", len(categories))}.get(name, ("B",)) for name in outputs_of(settings)},
        int8=int8,
    )


# --- The parts of the network, in the order of the data ---------------------------------------------------------------


def _stack(graph: Graph, frames: str, lengths: str, width: int, dimension: int) -> tuple[str, str]:
    """Join adjacent frames: (B, T, filters) and (B,) -> (B, T', D) and (B,). Padding becomes 0."""
    valid = graph("Unsqueeze", _valid(graph, frames, lengths), axes(2))
    frames = graph("Where", valid, frames, np.float32(0))
    missing = graph("Mod", graph("Neg", _steps(graph, frames)), np.int64(width))
    padding = graph("Concat", axes(0, 0, 0, 0), graph("Unsqueeze", missing, axes(0)), axes(0), axis=0)
    stacked = graph("Reshape", graph("Pad", frames, padding), axes(0, -1, dimension))
    return stacked, graph("Div", graph("Add", lengths, np.int64(width - 1)), np.int64(width))


def _lstm(
    graph: Graph,
    part: str,
    states: str,
    steps: str,
    sizes: tuple[int, int],
    directions: tuple[str, ...],
    *,
    int8: bool,
) -> str:
    """An LSTM layer: (T', B, size) -> (T', B, H) with H = directions * units, 0 past the end."""
    (size, units), count = sizes, len(directions)
    inputs, recurrent, bias = graph.weights.lstm(part, size, units, directions)
    options: dict[str, Any] = {"direction": "bidirectional" if count == 2 else "forward", "hidden_size": units}
    if int8:
        (w, w_scale), (r, r_scale) = _quantise(inputs), _quantise(recurrent)
        zeros = np.zeros(w_scale.shape, np.int8)
        absent = ("", "", "")  # initial states and peepholes
        operands = (states, w, r, bias, steps, *absent, w_scale, zeros, r_scale, zeros)
        outputs = graph("DynamicQuantizeLSTM", *operands, domain="com.microsoft", **options)
    else:
        outputs = graph("LSTM", states, inputs, recurrent, bias, steps, **options)
    # (T', directions, B, units) -> (T', B, directions, units) -> (T', B, directions * units)
    return graph("Reshape", graph("Transpose", outputs, perm=[0, 2, 1, 3]), axes(0, 0, count * units))


def _last_state(graph: Graph, states: str, steps: str, size: int, settings: SentimentSettings) -> str:
    """(B, T', H) -> (B, units), the state of an LSTM after the last valid frame."""
    inputs, recurrent, bias = graph.weights.lstm("objectives.sentiment.summariser.lstm", size, settings.units, ("",))
    states = graph("Transpose", states, perm=[1, 0, 2])
    last = graph("LSTM", states, inputs, recurrent, bias, steps, position=1, hidden_size=settings.units)
    return graph("Squeeze", last, axes(0))


def _attention_pooling(graph: Graph, states: str, steps: str, size: int, settings: SentimentSettings) -> str:
    """(B, T', H) -> (B, units), weighted over the valid frames."""
    part = "objectives.sentiment.summariser"
    values = graph("Tanh", _linear(graph, f"{part}.values", states, size, settings.units))
    scores = _linear(graph, f"{part}.scores", values, settings.units, 1)
    valid = graph("Unsqueeze", _valid(graph, states, graph("Cast", steps, to=type_of(np.int64))), axes(2))
    shares = graph("Softmax", graph("Where", valid, scores, np.float32(-np.inf)), axis=1)
    return graph("ReduceSum", graph("Mul", shares, values), axes(1), keepdims=0)


def _readout(
    graph: Graph, part: str, states: str, steps: str, size: int, settings: ReadoutSettings, outputs: int
) -> str:
    """(B, T', H) -> (B, outputs): masked convolutions, transformer block, mean and variance over time, linear layer."""
    channels = settings.channels
    for index, (kernel, stride) in enumerate(zip(settings.kernels, settings.strides, strict=True)):
        convolution = f"{part}.convolutions.{index}.convolution"
        states, steps = _masked_convolution(graph, convolution, states, steps, (channels, size, kernel), stride)
        size = channels
    valid = _valid(graph, states, steps)
    mask = graph("Unsqueeze", graph("Cast", valid, to=type_of(np.float32)), axes(2))  # (B, T'', 1)
    states = graph("LeakyRelu", _normalise_samples(graph, states, mask, channels), alpha=settings.negative_slope)
    states = _transformer(graph, f"{part}.transformer", states, valid, channels, settings.heads)
    count = graph("ReduceSum", mask, axes(1), keepdims=1)
    moments = [graph("Squeeze", each, axes(1)) for each in _moments(graph, states, mask, count, axes(1))]
    return _linear(graph, f"{part}.output", graph("Concat", *moments, axis=1), 2 * channels, outputs)


def _masked_convolution(
    graph: Graph,
    part: str,
    states: str,
    steps: str,
    shape: tuple[int, int, int],
    stride: int,
) -> tuple[str, str]:
    """(B, T, C), 0 past the end, and (B,) -> (B, T_out, channels), likewise, and (B,)."""
    kernel = np.int64(shape[2])
    missing = graph("Max", graph("Sub", kernel, _steps(graph, states)), np.int64(0))
    padding = graph("Concat", axes(0, 0, 0, 0, 0), graph("Unsqueeze", missing, axes(0)), axis=0)
    padded = graph("Pad", graph("Transpose", states, perm=[0, 2, 1]), padding)
    weight, bias = graph.weights.take(f"{part}.weight", *shape), graph.weights.take(f"{part}.bias", shape[0])
    outputs = graph("Transpose", graph("Conv", padded, weight, bias, strides=[stride]), perm=[0, 2, 1])
    beyond = graph("Max", graph("Sub", steps, kernel), np.int64(0))
    steps = graph("Add", graph("Div", beyond, np.int64(stride)), np.int64(1))
    valid = graph("Unsqueeze", _valid(graph, outputs, steps), axes(2))
    return graph("Where", valid, outputs, np.float32(0)), steps


def _normalise_samples(graph: Graph, states: str, mask: str, channels: int) -> str:
    """Mean 0 and variance 1 over the valid frames and channels of each utterance, 0 past its end."""
    count = graph("Mul", graph("ReduceSum", mask, axes(1, 2), keepdims=1), np.float32(channels))
    mean, variance = _moments(graph, states, mask, count, axes(1, 2))
    centred = graph("Mul", graph("Sub", states, mean), mask)
    return graph("Div", centred, graph("Sqrt", graph("Add", variance, np.float32(1e-5))))


def _moments(graph: Graph, states: str, mask: str, count: str, axes: NDArray[np.int64]) -> tuple[str, str]:
    """Mean and variance (1/N) over ``axes`` where ``mask``, which stay with size 1."""
    mean = graph("Div", graph("ReduceSum", graph("Mul", states, mask), axes, keepdims=1), count)
    centred = graph("Mul", graph("Sub", states, mean), mask)
    squares = graph("ReduceSum", graph("Mul", centred, centred), axes, keepdims=1)
    return mean, graph("Div", squares, count)


def _transformer(graph: Graph, part: str, states: str, valid: str, channels: int, heads: int) -> str:
    """A block as in the original transformer (Vaswani et al., 2017), normalised after each residual: (B, T'', C)."""

    def residual(states: str, branch: str, norm: str) -> str:
        scale, bias = (graph.weights.take(f"{part}.{norm}.{name}", channels) for name in ("weight", "bias"))
        return graph("LayerNormalization", graph("Add", states, branch), scale, bias, axis=-1, epsilon=1e-5)

    attended = _attention(graph, f"{part}.self_attn", states, valid, channels, heads)
    states = residual(states, attended, "norm1")
    hidden = graph("Relu", _linear(graph, f"{part}.linear1", states, channels, channels))
    return residual(states, _linear(graph, f"{part}.linear2", hidden, channels, channels), "norm2")


def _attention(graph: Graph, part: str, states: str, valid: str, channels: int, heads: int) -> str:
    """Self-attention of several heads to the valid frames: (B, T'', C) -> (B, T'', C)."""
    matrices = np.split(graph.weights.take(f"{part}.in_proj_weight", 3 * channels, channels), 3)
    biases = np.split(graph.weights.take(f"{part}.in_proj_bias", 3 * channels), 3)
    width = channels // heads

    def projected(index: int, perm: list[int]) -> str:
        flat = graph("Add", graph("MatMul", states, matrices[index].T), biases[index])
        return graph("Transpose", graph("Reshape", flat, axes(0, 0, heads, width)), perm=perm)

    queries, keys, values = projected(0, [0, 2, 1, 3]), projected(1, [0, 2, 3, 1]), projected(2, [0, 2, 1, 3])
    scores = graph("Mul", graph("MatMul", queries, keys), np.float32(1 / math.sqrt(width)))  # (B, heads, T'', T'')
    allowed = graph("Unsqueeze", valid, axes(1, 2))
    shares = graph("Softmax", graph("Where", allowed, scores, np.float32(-np.inf)), axis=-1)
    joined = graph("Transpose", graph("MatMul", shares, values), perm=[0, 2, 1, 3])
    joined = graph("Reshape", joined, axes(0, 0, channels))
    return _linear(graph, f"{part}.out_proj", joined, channels, channels)


def _linear(graph: Graph, part: str, states: str, inputs: int, outputs: int, *, name: str | None = None) -> str:
    """A linear layer over the last axis."""
    weight, bias = graph.weights.take(f"{part}.weight", outputs, inputs), graph.weights.take(f"{part}.bias", outputs)
    return graph("Add", graph("MatMul", states, weight.T), bias, name=name)


def _valid(graph: Graph, sequences: str, lengths: str) -> str:
    """(B, T, ...) sequences and (B,) lengths -> (B, T), true within the lengths."""
    ahead = graph("Range", np.int64(0), _steps(graph, sequences), np.int64(1))
    return graph("Less", ahead, graph("Unsqueeze", lengths, axes(1)))


def _until_the_end(graph: Graph, values: str, states: str, steps: str) -> str:
    """(B, T' or 1, C) values for (B, T', H) states -> (B, T', C), 0 past the end, as a readout expects."""
    return graph("Where", graph("Unsqueeze", _valid(graph, states, steps), axes(2)), values, np.float32(0))


def _steps(graph: Graph, sequences: str) -> str:
    """T of (B, T, ...) sequences."""
    return graph("Gather", graph("Shape", sequences), np.int64(1))


def _quantise(weight: Weight) -> tuple[NDArray[np.int8], Weight]:
    """(directions, 4 * units, size) -> 8-bit integers (directions, size, 4 * units), and the scale of each output."""
    scale = np.maximum(np.abs(weight).max(2), 1e-12) / _LARGEST
    integers = np.rint(weight / scale[:, :, None]).astype(np.int8)
    return integers.transpose(0, 2, 1), scale.astype(np.float32)
