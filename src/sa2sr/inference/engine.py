"""What computes: an engine takes the frames of a batch of clips and gives their emotions."""

import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS, ModelSettings
from sa2sr.errors import ModelError
from sa2sr.inference.graph import build_graph, outputs_of
from sa2sr.network.folder import GRAPH_FILE, INT8_GRAPH_FILE, is_exported, read_weights
from sa2sr.processes import processors
from sa2sr.speech.features import Frames
from sa2sr.speech.text import read_ctc

EngineName = Literal["auto", "onnx", "torch"]
_OUTPUTS = {"ctc": "logits", "sentiment": "sentiment", "category": "category"}  # of the graph, by head


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the network makes of a clip."""

    emotions: NDArray[np.float32]  # activation, valence and dominance, (3,); NaN if the model has no such head
    transcript: str | None = None
    sentiment: NDArray[np.float32] | None = None  # probabilities of negative, neutral and positive, (3,)
    category: NDArray[np.float32] | None = None  # probabilities of the categories, (K,)


class Engine(Protocol):
    """The network of a model folder, whatever runs it."""

    def hear(self, frames: Sequence[Frames], heads: Collection[str] = ()) -> list[Outputs]:
        """What the network makes of clips, whose company does not matter.

        Args:
            frames: of each clip, stacked (T', D), or its samples (samples, 1)
            heads: to hear beside activation, valence and dominance: ``ctc`` for transcripts, ``sentiment``,
                ``category``
        """

    def emotions(self, frames: Sequence[Frames]) -> NDArray[np.float32]:
        """Activation, valence and dominance of B clips, (B, 3)."""
        return np.stack([each.emotions for each in self.hear(frames)])


def make_engine(
    folder: Path, settings: ModelSettings, name: str = "auto", *, device: str = "cpu", int8: bool = False
) -> Engine:
    """The engine that is asked for.

    Args:
        folder: of a model, exported or not
        settings: of the model
        name: ``"onnx"``, ``"torch"``, or ``"auto"``: onnx on a CPU where onnxruntime is installed, otherwise torch,
            which other encoders than the LSTM, and a model that reads what it recognises, need everywhere
        device: that torch computes on
        int8: multiply by 8-bit integers, which onnx can: faster, and a little less exact

    Raises:
        ModelError: if the engine cannot run this model, or is not installed
    """
    if name not in get_args(EngineName):
        raise ModelError(f"there is no engine '{name}'; there are {', '.join(get_args(EngineName))}")
    exported = is_exported(folder)
    if name == "auto":
        in_onnx = settings.encoder.kind == "lstm" and not settings.reads_texts
        can_be_fast = device == "cpu" and in_onnx and _installed("onnx", "onnxruntime")
        name = "onnx" if exported or int8 or can_be_fast else "torch"
    if name == "onnx":
        if device != "cpu":
            raise ModelError(f"device '{device}' cannot be used: the onnx engine computes on the CPU")
        if exported:
            return OnnxEngine(folder / (INT8_GRAPH_FILE if int8 else GRAPH_FILE), settings)
        return OnnxEngine(GraphBuilder(settings, read_weights(folder), int8), settings)
    if exported:
        raise ModelError(f"{folder}: is an exported model, which the onnx engine runs, not the torch engine")
    if int8:
        raise ModelError("int8 is the onnx engine's; the torch engine computes in single precision")
    return TorchEngine(folder, device)


@dataclass(frozen=True, slots=True)
class GraphBuilder:
    """The weights of a network, of which graphs are built when they are needed, each with the heads that are heard."""

    settings: ModelSettings
    weights: Mapping[str, NDArray[np.float32]]
    int8: bool = False

    def __post_init__(self) -> None:
        """Look at the weights of all heads: an error now, and not when one is heard.

        Raises:
            ModelError: if they are not those of the settings, or onnx is not installed
        """
        build_graph(self.settings, self.weights, int8=self.int8)

    def build(self, heads: Collection[str]) -> bytes:
        """As :func:`sa2sr.inference.graph.build_graph`, in the form of a file."""
        graph = build_graph(self.settings, self.weights, heads=heads, int8=self.int8)
        return bytes(graph.SerializeToString())


class OnnxEngine(Engine):
    """Onnxruntime on CPU cores, each with one clip at a time.

    Batches would hardly be faster, and so a clip has no company: its numbers are the same to the last bit whatever is
    predicted beside it. In int8 they would not even be close, since the scale of the integers is that of a batch.
    """

    def __init__(self, source: Path | GraphBuilder, settings: ModelSettings, threads: int | None = None) -> None:
        """Load a graph.

        Args:
            source: of an exported model, the file with its graph; or what graphs are built from
            settings: of its model
            threads: clips at a time; by default as many as there are cores, or as OMP_NUM_THREADS says

        Raises:
            ModelError: if it is not the graph of such a model, or onnxruntime is not installed
        """
        self.filters = settings.frontend.filters
        self.dimensions = DIMENSIONS if settings.objectives.emotion else ()
        self.threads = threads or cores()
        self._source, self._sessions = source, dict[frozenset[str], Any]()
        self._pool: ThreadPoolExecutor | None = None
        session = self.session()
        if isinstance(source, Path):
            _check_exported(session, settings, source)

    def session(self, heads: Collection[str] = ()) -> Any:
        """The onnxruntime session that hears these heads beside emotions, with as few others as may be."""
        wanted = frozenset[str]() if isinstance(self._source, Path) else frozenset(heads)
        if wanted not in self._sessions:
            graph = self._source if isinstance(self._source, Path) else self._source.build(wanted)
            self._sessions[wanted] = make_session(graph)
        return self._sessions[wanted]

    def hear(self, frames: Sequence[Frames], heads: Collection[str] = ()) -> list[Outputs]:
        """As :meth:`Engine.hear`."""
        session = self.session(heads)
        if len(frames) < 2 or self.threads < 2:
            return [self._hear(session, each, heads) for each in frames]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads)
        return list(self._pool.map(self._hear, repeat(session), frames, repeat(heads)))

    def _hear(self, session: Any, stacked: Frames, heads: Collection[str]) -> Outputs:
        # What fills the last stacked frame counts as frames here, which gives the same.
        frames = stacked.reshape(1, -1, self.filters)
        lengths = np.array([frames.shape[1]], np.int64)
        wanted = {**{name: name for name in self.dimensions}, **{head: _OUTPUTS[head] for head in heads}}
        values = session.run([*wanted.values()], {"frames": frames, "lengths": lengths})
        said = {name: each[0] for name, each in zip(wanted, values, strict=True)}
        emotions = np.array([said.get(name, np.nan) for name in DIMENSIONS], np.float32)
        transcript = read_ctc(said["ctc"].argmax(-1).tolist()) if "ctc" in said else None
        return Outputs(emotions, transcript, said.get("sentiment"), said.get("category"))


class TorchEngine(Engine):
    """PyTorch in single precision."""

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        """Load the network.

        Raises:
            ModelError: if the folder is not a model, or torch does not know the device
        """
        import torch

        from sa2sr.network.model import load_model

        try:
            self.device = torch.device(device)
            self.network = load_model(folder, self.device)
        except (RuntimeError, AssertionError) as error:  # of torch, in several ways, when a device is not there
            raise ModelError(f"device '{device}' cannot be used: {str(error).splitlines()[0]}") from None
        self.reads = self.network.settings.reads_texts
        if self.reads:
            _ = self.network.recogniser  # an error now, not with the first clip

    def hear(self, frames: Sequence[Frames], heads: Collection[str] = ()) -> list[Outputs]:
        """As :meth:`Engine.hear`."""
        import torch

        lengths = torch.tensor([len(each) for each in frames])
        padded = torch.zeros(len(frames), int(lengths.max()), frames[0].shape[1])
        for row, each in zip(padded, frames, strict=True):
            row[: len(each)] = torch.from_numpy(each)
        # TensorFloat-32 would round to 10 bits, differently in every batch.
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            lengths = lengths.to(self.device)
            padded = padded.to(self.device)
            states, tasks = self.network.states(padded, lengths), self.network.tasks()
            lengths = self.network.state_lengths(lengths)
            said = {head: tasks[head].predict(states, lengths) for head in heads}
            emotions: Any = np.full((len(frames), len(DIMENSIONS)), np.nan, np.float32)
            if "emotion" in tasks:
                read = self.network.read_by("emotion", states, lengths, padded)
                texts = self.network.recogniser.predict(states, lengths) if self.reads else None
                emotions = self.network.emotion(read, lengths, texts).cpu().numpy()
        others = [said.get(head, [None] * len(frames)) for head in ("ctc", "sentiment", "category")]
        return [Outputs(*each) for each in zip(emotions, *others, strict=True)]


def make_session(graph: Path | bytes) -> Any:
    """An onnxruntime session of one thread.

    Raises:
        ModelError: if it is not a graph, or onnxruntime is not installed
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # from 1.32 on it would report to Microsoft
    try:
        import onnxruntime
    except ImportError:
        raise ModelError("the onnx engine needs onnxruntime: pip install 'sa2sr[onnx]'") from None
    if isinstance(graph, Path) and not graph.is_file():
        remedy = "; export the model with --int8" if graph.name == INT8_GRAPH_FILE else ""
        raise ModelError(f"{graph}: does not exist{remedy}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it would remember every duration for ever
    options.log_severity_level = 4  # what goes wrong is raised
    try:
        source = str(graph) if isinstance(graph, Path) else graph
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's have no base of their own
        name = graph if isinstance(graph, Path) else "the graph of the model"
        raise ModelError(f"{name}: is not a graph that onnxruntime runs ({str(error).splitlines()[0][:300]})") from None


def _check_exported(session: Any, settings: ModelSettings, graph: Path) -> None:
    """Raise a ModelError where a graph is not that of such a model."""
    filters, count = settings.frontend.filters, len(settings.categories)
    expected = {"frames": ["B", "T", filters], "lengths": ["B"]}
    if {each.name: each.shape for each in session.get_inputs()} != expected:
        raise ModelError(f"{graph}: does not read LFBE of {filters} filters, which config.yaml says")
    outputs = {each.name: each.shape for each in session.get_outputs()}
    if missing := {*outputs_of(settings)} - outputs.keys():
        raise ModelError(f"{graph}: has no output '{min(missing)}', which config.yaml says")
    if count and outputs["category"] != ["B", count]:
        raise ModelError(f"{graph}: does not tell {count} categories apart, which config.yaml says")


def cores() -> int:
    """How many clips to compute at a time: as OMP_NUM_THREADS says, or as many as this process has processors."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return processors()


def _installed(*modules: str) -> bool:
    return all(find_spec(module) is not None for module in modules)
