import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

import sa2sr
from sa2sr.cli import main
from sa2sr.config import DIMENSIONS, EncoderSettings, FrontEnd, ModelSettings, Objectives, Scale
from sa2sr.errors import ModelError
from sa2sr.inference.assembly import Graph, Weights
from sa2sr.inference.engine import OnnxEngine, TorchEngine
from sa2sr.inference.export import export
from sa2sr.inference.graph import OUTPUTS, build_graph
from sa2sr.network.folder import read_settings, read_weights
from sa2sr.network.model import SpeechModel, load_model
from sa2sr.speech.features import stack

RandomModel = Callable[..., Path]
Voice = Callable[..., NDArray[np.float32]]
Outputs = dict[str, NDArray]

CLOSE = 1e-4  # on a scale from 1 to 7
DIRECTIONS: tuple[Literal["both", "forward"], ...] = ("both", "forward")
EVERYTHING = ("ctc", "sentiment", "emotion", "category")


def random_network(chosen: ModelSettings, seed: int = 0, gain: float = 1.0) -> SpeechModel:
    torch.manual_seed(seed)
    network = SpeechModel(chosen).eval().requires_grad_(False)
    for name, weights in network.named_parameters():
        weights.mul_(1 if "norm" in name else gain).add_(0.05 * torch.randn(weights.shape))
    network.emotion.rating_mean.copy_(torch.tensor([4.0, 3.5, 4.5]))
    network.emotion.rating_spread.copy_(torch.tensor([1.5, 1.0, 0.5]))
    return network


def weights_of(network: SpeechModel) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def by_torch(network: SpeechModel, frames: NDArray[np.float32]) -> Outputs:
    """The outputs for one utterance (T, filters) by itself."""
    stacked = torch.from_numpy(stack(frames, network.settings.frontend.stack))[None]
    lengths = torch.tensor([stacked.shape[1]])
    states, tasks = network.states(stacked, lengths), network.tasks()
    read = network.read_by("emotion", states, lengths, stacked)
    return {
        "steps": lengths.numpy()[0],
        "logits": tasks["ctc"].logits(states).numpy()[0],  # type: ignore[operator]
        "sentiment": tasks["sentiment"].logits(states, lengths).softmax(-1).numpy()[0],  # type: ignore[operator]
        **dict(zip(DIMENSIONS, network.emotion(read, lengths).numpy()[0], strict=True)),
        **({"category": tasks["category"].predict(states, lengths)[0]} if "category" in tasks else {}),
    }


def session_of(graph: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def by_onnx(session: onnxruntime.InferenceSession, utterances: Sequence[NDArray], padding: int, fill: float) -> Outputs:
    """The outputs for a batch, filled with anything."""
    lengths = np.array([len(each) for each in utterances])
    frames = np.full((len(utterances), lengths.max() + padding, utterances[0].shape[1]), fill, np.float32)
    for row, each in zip(frames, utterances, strict=True):
        row[: len(each)] = each
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"frames": frames, "lengths": lengths}), strict=True))


def assert_same(outputs: Outputs, expected: Sequence[Outputs]) -> None:
    assert set(outputs) == set(expected[0])
    for index, alone in enumerate(expected):
        steps = alone["steps"]
        assert outputs["steps"][index] == steps
        np.testing.assert_allclose(outputs["logits"][index, :steps], alone["logits"], rtol=1e-4, atol=1e-4)
        for name in alone.keys() - {"steps", "logits"}:
            np.testing.assert_allclose(outputs[name][index], alone[name], rtol=0, atol=CLOSE)


def is_steady(network: SpeechModel, frames: NDArray[np.float32], outputs: Outputs) -> bool:
    """Whether rounding is not what decides: a layer norm over two random channels can be a switch, and then torch in
    single precision is itself farther than ``CLOSE`` from double precision."""
    moved = by_torch(network, frames * np.float32(1 + 1e-6))
    return all(float(np.abs(moved[name] - outputs[name]).max()) < CLOSE for name in outputs.keys() - {"steps"})


# --- The graph computes what torch computes ---------------------------------------------------------------------------


@st.composite
def model_settings(draw: st.DrawFn) -> ModelSettings:
    heads = draw(st.integers(1, 3))
    kernels = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    emotion = {
        "channels": heads * draw(st.integers(1, 5)),
        "heads": heads,
        "kernels": kernels,
        "strides": draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        "inputs": draw(
            st.sampled_from(
                [["states"], ["frames"], ["posteriors", "states"], ["frames", "states"], ["states", "sentiment"]]
            )
        ),
        "negative_slope": draw(st.sampled_from([0.0, 0.5, 1.0])),
    }
    category = emotion | {"classes": tuple("abcdef"[: draw(st.integers(2, 6))]), "strides": (1, 2)}
    del category["inputs"]  # it reads the states
    summariser = {
        "summariser": draw(st.sampled_from(["lstm", "attention"])),
        "units": draw(st.integers(1, 5)),
        "weight": draw(st.sampled_from([0.0, 1.0])),
    }
    return ModelSettings(
        frontend=FrontEnd(filters=draw(st.integers(1, 6)), stack=draw(st.integers(1, 4))),
        encoder=EncoderSettings(
            layers=draw(st.integers(1, 3)), units=draw(st.integers(1, 9)), direction=draw(st.sampled_from(DIRECTIONS))
        ),
        # The graph leaves out what only a training needs.
        objectives=Objectives.model_validate(
            {"ctc": 1, "sentiment": summariser, "apc": 0, "emotion": emotion}
            | ({"category": category} if draw(st.booleans()) else {})
        ),
        scale=Scale(),
    )


@settings(max_examples=30, deadline=None)
@given(
    model_settings(),
    st.lists(st.integers(1, 60), min_size=1, max_size=5),
    st.integers(0, 20),
    st.sampled_from([0.0, 1e3, float("nan")]),
    st.integers(0, 99),
)
def test_any_network_on_any_batch(
    chosen: ModelSettings, lengths: list[int], padding: int, fill: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    network = random_network(chosen, seed, gain=2)
    utterances = [random.standard_normal((each, chosen.frontend.filters), dtype=np.float32) for each in lengths]
    expected = [by_torch(network, each) for each in utterances]
    assume(all(is_steady(network, *pair) for pair in zip(utterances, expected, strict=True)))
    graph = build_graph(chosen, weights_of(network))
    onnx.checker.check_model(graph, full_check=True)
    outputs = by_onnx(session_of(graph), utterances, padding, fill)
    assert_same(outputs, expected)


@settings(max_examples=20, deadline=None)
@given(model_settings(), st.sets(st.sampled_from(["ctc", "sentiment", "category"])), st.integers(0, 99))
def test_a_graph_has_the_heads_that_are_heard_and_those_that_emotions_are_told_from(
    chosen: ModelSettings, heads: set[str], seed: int
) -> None:
    weights = weights_of(random_network(chosen, seed, gain=2))
    frames = np.random.default_rng(seed).standard_normal((40, chosen.frontend.filters), dtype=np.float32)
    whole, part = build_graph(chosen, weights), build_graph(chosen, weights, heads=heads)
    onnx.checker.check_model(part, full_check=True)
    outputs, expected = (by_onnx(session_of(graph), [frames], 0, 0.0) for graph in (part, whole))
    for name, value in outputs.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    needed = {"emotion", *heads, *chosen.read_by_emotion} & chosen.objectives.active().keys()
    assert outputs.keys() == {name for name, (task, _) in OUTPUTS.items() if task in {"", *needed}}
    parts = {f"objectives.{task}" for task, _ in OUTPUTS.values() if task not in needed}
    left_out = sum(array.size for name, array in weights.items() if ".".join(name.split(".")[:2]) in parts)
    assert numbers_in(part) + left_out <= numbers_in(whole)


def numbers_in(graph: onnx.ModelProto) -> int:
    return sum(onnx.numpy_helper.to_array(each).size for each in graph.graph.initializer)


@pytest.mark.parametrize(
    "inputs", [["posteriors"], ["posteriors", "states"], ["frames", "posteriors"], ["states", "sentiment"]]
)
def test_what_lies_past_the_end_of_an_utterance_shorter_than_a_kernel(inputs: list[str]) -> None:
    """Characters are probable past the end too, where the states are 0."""
    emotion = {"channels": 3, "heads": 1, "kernels": (6, 3), "inputs": inputs}
    objectives = Objectives.model_validate({"ctc": 1, "sentiment": {"units": 2}, "emotion": emotion})
    chosen = ModelSettings(
        frontend=FrontEnd(filters=2), encoder=EncoderSettings(layers=1, units=2), objectives=objectives
    )
    network = random_network(chosen, gain=2)
    frames = np.random.default_rng(0).standard_normal((3, 2), dtype=np.float32)
    session = session_of(build_graph(chosen, weights_of(network)))
    stacked, lengths = whole(frames, chosen)
    states = network.states(stacked, lengths)
    assert states.shape[1] < 6
    expected = network.emotion(network.read_by("emotion", states, lengths, stacked), lengths)[0].numpy()
    for padding in (0, 40):
        outputs = by_onnx(session, [frames], padding, 1e3)
        np.testing.assert_allclose([outputs[name][0] for name in DIMENSIONS], expected, rtol=0, atol=CLOSE)


def whole(frames: NDArray[np.float32], chosen: ModelSettings) -> tuple[torch.Tensor, torch.Tensor]:
    stacked = torch.from_numpy(stack(frames, chosen.frontend.stack))[None]
    return stacked, torch.tensor([stacked.shape[1]])


@pytest.mark.parametrize(
    ("summariser", "encoder"),
    [
        ("lstm", EncoderSettings()),
        ("attention", EncoderSettings()),
        ("attention", EncoderSettings(direction="forward", units=328)),
    ],
    ids=["lstm", "attention", "forward"],
)
def test_the_papers_network(summariser: str, encoder: EncoderSettings) -> None:
    chosen = ModelSettings(
        encoder=encoder,
        objectives=Objectives.model_validate({"ctc": 1, "sentiment": {"summariser": summariser}, "emotion": 1}),
        scale=Scale(),
    )
    network = random_network(chosen, gain=2)
    random = np.random.default_rng(0)
    utterances = [random.standard_normal((each, 40), dtype=np.float32) for each in (1, 7, 150, 333)]
    expected = [by_torch(network, each) for each in utterances]
    assert np.std([each["valence"] for each in expected]) > 100 * CLOSE  # or the equality would mean nothing
    assert_same(by_onnx(session_of(build_graph(chosen, weights_of(network))), utterances, 3, 9.0), expected)
    exact, rough = (
        build_graph(chosen, weights_of(network)),
        build_graph(chosen, weights_of(network), int8=True),
    )
    assert rough.ByteSize() < 0.35 * exact.ByteSize()
    session = session_of(rough)
    eighths = [by_onnx(session, [each], 0, 0.0) for each in utterances]
    for dimension in DIMENSIONS:
        errors = [float(a[dimension][0] - b[dimension]) for a, b in zip(eighths, expected, strict=True)]
        assert 0 < np.abs(errors).max() < 0.15


def test_integers_are_close_to_the_weights_and_leave_room(random_model: RandomModel) -> None:
    """Sums of two products of a byte and a weight must fit into 16 bits on processors without VNNI."""
    folder = random_model(layers=2, units=16, gain=3)
    weights = read_weights(folder)
    weights["encoder.layers.0.weight_ih_l0"][5] = 0  # a unit that hears nothing
    graph = build_graph(read_settings(folder), weights, int8=True)
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.graph.initializer}
    layers = [node for node in graph.graph.node if node.op_type == "DynamicQuantizeLSTM"]
    assert len(layers) == 2
    assert not [node for node in graph.graph.node if node.op_type == "LSTM"]
    for number, node in enumerate(layers):
        original = Weights(weights).lstm(f"encoder.layers.{number}", 120 if number == 0 else 32, 16, ("", "_reverse"))
        for inputs, expected in zip(((1, 8, 9), (2, 10, 11)), original, strict=False):
            integers, scale, zero = (constants[node.input[each]] for each in inputs)
            assert 2 * 255 * int(np.abs(integers).max()) < 2**15
            assert not zero.any()
            restored = (integers * scale[:, None, :]).transpose(0, 2, 1)
            assert (np.abs(restored - expected) <= scale[:, :, None] / 2 * 1.001).all()


def test_gates_are_reordered() -> None:
    """Against a cell that is computed here, from the operator's definition: Y of one step from zero states."""
    random = np.random.default_rng(0)
    names = {"weight_ih_l0": (8, 3), "weight_hh_l0": (8, 2), "bias_ih_l0": (8,), "bias_hh_l0": (8,)}
    arrays = {name: random.standard_normal(shape, dtype=np.float32) for name, shape in names.items()}
    inputs, _, bias = Weights({f"x.{name}": array for name, array in arrays.items()}).lstm("x", 3, 2, ("",))
    x = random.standard_normal(3, dtype=np.float32)
    i, o, _, c = np.split(inputs[0] @ x + bias[0, :8] + bias[0, 8:], 4)
    layer = torch.nn.LSTM(3, 2)
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    expected = layer(torch.from_numpy(x)[None])[0][0].detach().numpy()
    np.testing.assert_allclose(sigmoid(o) * np.tanh(sigmoid(i) * np.tanh(c)), expected, rtol=1e-5)


# --- Engines ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(random_model: RandomModel) -> Path:
    return random_model(layers=2, units=16, heads=EVERYTHING, gain=3)


@pytest.fixture(scope="module")
def exported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(folder, tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture(scope="module")
def clips(voice: Voice) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(1)
    return [random.standard_normal((steps, 120), dtype=np.float32) for steps in (50, 1, 3, 120, 17, 2, 50)]


@pytest.mark.parametrize("int8", [False, True])
def test_numbers_are_the_same_to_the_last_bit_in_any_company(
    exported: Path, clips: list[NDArray[np.float32]], int8: bool
) -> None:
    engine = sa2sr.load(exported, int8=int8).engine
    assert isinstance(engine, OnnxEngine)
    together = engine.emotions(clips)
    assert together.std(0).min() > 0.01
    for threads in (1, 3):
        engine = OnnxEngine(
            exported / f"model{'.int8' if int8 else ''}.onnx", read_settings(exported, exported=True), threads
        )
        np.testing.assert_array_equal(engine.emotions(clips), together)
        for some in ([0], [3, 1], [6, 5, 4, 3]):
            np.testing.assert_array_equal(engine.emotions([clips[each] for each in some]), together[some])


def test_engines_agree(folder: Path, exported: Path, clips: list[NDArray[np.float32]]) -> None:
    torch_, onnx_, exported_ = (
        sa2sr.load(path, engine=engine).engine
        for path, engine in ((folder, "torch"), (folder, "onnx"), (exported, "auto"))
    )
    assert isinstance(torch_, TorchEngine)
    np.testing.assert_allclose(onnx_.emotions(clips), torch_.emotions(clips), rtol=0, atol=CLOSE)
    np.testing.assert_array_equal(exported_.emotions(clips), onnx_.emotions(clips))
    rough = sa2sr.load(folder, int8=True).engine.emotions(clips)
    np.testing.assert_array_equal(sa2sr.load(exported, int8=True).engine.emotions(clips), rough)
    assert 0 < np.abs(rough - onnx_.emotions(clips)).max() < 0.3


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_weights_in_two_bytes(random_model: RandomModel, clips: list[NDArray[np.float32]], kind: torch.dtype) -> None:
    folder = random_model(seed=3)
    path = folder / "model.safetensors"
    save_file({name: tensor.to(kind) for name, tensor in load_file(path).items()}, path)
    by_name = [sa2sr.load(folder, engine=name).engine.emotions(clips) for name in ("onnx", "torch")]
    np.testing.assert_allclose(*by_name, rtol=0, atol=CLOSE)


def test_weights_that_are_no_numbers(random_model: RandomModel) -> None:
    folder = random_model()
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = next(iter(weights))
    save_file(weights | {name: weights[name].to(torch.float8_e4m3fn)}, path)
    with pytest.raises(ModelError, match="holds numbers of a type other than"):
        sa2sr.load(folder, engine="onnx")
    save_file(weights | {name: weights[name] / 0}, path)
    with pytest.raises(ModelError, match="not finite"):
        sa2sr.load(folder, engine="onnx")
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="is not a safetensors file"):
        sa2sr.load(folder, engine="onnx")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"engine": "steam"}, "no engine 'steam'; there are auto, onnx, torch"),
        ({"engine": "onnx", "device": "cuda"}, "device 'cuda' cannot be used: the onnx engine"),
        ({"engine": "torch", "int8": True}, "int8 is the onnx engine's"),
    ],
)
def test_engines_that_cannot_be(folder: Path, options: dict[str, str], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        sa2sr.load(folder, **options)  # type: ignore[arg-type]


# --- Folders ----------------------------------------------------------------------------------------------------------


def test_an_exported_folder(folder: Path, exported: Path, random_model: RandomModel, tmp_path: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {"config.yaml", "labels.json", "model.int8.onnx", "model.onnx"}
    assert read_settings(exported, exported=True) == read_settings(folder)
    labels = json.loads((exported / "labels.json").read_text())
    graph = onnx.load(exported / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert [each.name for each in graph.graph.output] == list(labels["outputs"])
    assert [each.name for each in graph.graph.input] == list(labels["inputs"])
    assert labels["dimensions"] == ["activation", "valence", "dominance"]
    assert labels["scale"] == {"name": "1-7", "low": 1.0, "high": 7.0}
    assert labels["sentiments"] == ["negative", "neutral", "positive"]
    assert labels["categories"] == ["angry", "happy", "neutral", "sad"]
    assert (len(labels["characters"]), labels["characters"][:4]) == (29, ["", " ", "'", "a"])
    # Another model in the same place, without int8, leaves nothing of the first.
    again = tmp_path / "again"
    export(folder, again)
    export(random_model(heads=("emotion",)), again, int8=False)
    assert {path.name for path in again.iterdir()} == {"config.yaml", "labels.json", "model.onnx"}
    assert set(json.loads((again / "labels.json").read_text())["outputs"]) == {"steps", *DIMENSIONS}
    with pytest.raises(ModelError, match=r"model\.int8\.onnx: does not exist; export the model with --int8"):
        sa2sr.load(again, int8=True)


def test_a_pretrained_model_is_exported_too(random_model: RandomModel, tmp_path: Path) -> None:
    folder = random_model(heads=("ctc", "sentiment"))
    exported = export(folder, tmp_path / "model")
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_outputs()] == ["steps", "logits", "sentiment"]
    with pytest.raises(ModelError, match="only been pre-trained"):
        sa2sr.load(exported).predict(np.ones(100), 16_000)


def test_folders_that_cannot_be_exported_or_used(folder: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="export into a folder of its own"):
        export(folder, folder)
    for use in (lambda: export(exported, tmp_path / "x"), lambda: load_model(exported)):
        with pytest.raises(ModelError, match="is an exported model, which only predicts"):
            use()
    with pytest.raises(ModelError, match="which the onnx engine runs"):
        sa2sr.load(exported, engine="torch")
    for name, other in (("run", "recipe.yaml"), ("corpus", "train.jsonl.gz"), ("project", "README.md")):
        (tmp_path / name).mkdir()
        (tmp_path / name / other).write_text("mine")
        with pytest.raises(ModelError, match=f"{name}: holds other files than those of a model"):
            export(folder, tmp_path / name)
        assert [path.name for path in (tmp_path / name).iterdir()] == [other]
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(ModelError, match="cannot be written"):
        export(folder, blocked)


def test_graphs_that_do_not_fit(exported: Path, random_model: RandomModel, tmp_path: Path) -> None:
    broken = export(random_model(), tmp_path / "broken")
    content = (broken / "model.onnx").read_bytes()
    for damaged in (b"", b"no graph", content[:1000], content[: len(content) // 2]):
        (broken / "model.onnx").write_bytes(damaged)
        with pytest.raises(ModelError, match=r"model\.onnx: is not a graph that onnxruntime runs"):
            sa2sr.load(broken)
    (broken / "model.onnx").write_bytes(content)
    other = (broken / "config.yaml").read_text().replace("filters: 40", "filters: 39")
    (broken / "config.yaml").write_text(other)
    with pytest.raises(ModelError, match="does not read LFBE of 39 filters"):
        sa2sr.load(broken)
    (broken / "config.yaml").write_text((exported / "config.yaml").read_text())
    with pytest.raises(ModelError, match="has no output 'category'"):
        sa2sr.load(broken)
    (broken / "model.onnx").write_bytes((exported / "model.onnx").read_bytes())
    fewer = (exported / "config.yaml").read_text().replace("    - sad\n", "")
    (broken / "config.yaml").write_text(fewer)
    with pytest.raises(ModelError, match=r"does not tell 3 categories apart, which config\.yaml says"):
        sa2sr.load(broken)


def test_weights_that_do_not_fit(random_model: RandomModel) -> None:
    folder = random_model()
    chosen, weights = read_settings(folder), read_weights(folder)
    for wrong, reason in (
        ({"objectives.emotion.output.bias": np.zeros(4, np.float32)}, r"output.bias has shape \(4,\).*asks for \(3,\)"),
        ({"another": np.zeros(1, np.float32)}, r"another \(and 0 more\) that config.yaml does not know"),
    ):
        with pytest.raises(ModelError, match=reason):
            build_graph(chosen, weights | wrong)
    del weights["encoder.layers.0.bias_hh_l0_reverse"]
    with pytest.raises(ModelError, match="bias_hh_l0_reverse is missing"):
        build_graph(chosen, weights)


def test_weights_of_a_head_that_do_not_fit_are_told_before_it_is_heard(random_model: RandomModel) -> None:
    folder = random_model(heads=("emotion", "ctc"))
    path = folder / "model.safetensors"
    save_file(load_file(path) | {"objectives.ctc.output.bias": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match=r"objectives\.ctc\.output\.bias has shape \(3,\)"):
        sa2sr.load(folder, engine="onnx")


def test_without_onnx_the_remedy_is_named(folder: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"needs onnx: pip install 'sa2sr\[onnx\]'"):
        Graph(Weights({}))
    sa2sr.load(exported)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"needs onnxruntime: pip install 'sa2sr\[onnx\]'"):
        sa2sr.load(exported)


@pytest.mark.parametrize("kind", ["exported", "folder"])
def test_torch_is_not_needed(kind: str, request: pytest.FixtureRequest, voice: Voice, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, voice(1.0), 16_000)
    program = f"""
import sys
heavy = ("torch", "lhotse", "accelerate", "transformers", "pandas", "matplotlib", "scipy.stats")
sys.modules |= dict.fromkeys(heavy)  # these cannot be imported any more
import sa2sr
(row,) = sa2sr.load({str(request.getfixturevalue(kind))!r}).predict({str(path)!r})
assert 1 <= row.valence <= 7
rooms = ("sa2sr.training", "sa2sr.corpora", "sa2sr.studies", "sa2sr.cuts", "onnxruntime.quantization")
print([name for name, module in sys.modules.items() if module and name.startswith((*heavy, *rooms))])
print("onnx" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"[]\n{kind == 'folder'}\n", "")


def test_the_command(
    folder: Path,
    exported: Path,
    voice: Voice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sa2sr", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        return int(exit_.value.code or 0), *capsys.readouterr()

    code, out, _ = run("export", folder, tmp_path / "small", "--no-int8")
    assert (code, [line.split(" (")[0] for line in out.splitlines()]) == (0, [str(tmp_path / "small" / "model.onnx")])
    code, out, _ = run("export", folder, tmp_path / "both")
    assert (code, len(out.splitlines())) == (0, 2)
    code, _, err = run("export", exported, tmp_path / "no")
    assert (code, "is an exported model" in err, (tmp_path / "no").exists()) == (2, True, False)
    path = tmp_path / "a.wav"
    soundfile.write(path, voice(2.0), 16_000)
    tables = {}
    for name, arguments in {
        "torch": (folder, "--engine", "torch"),
        "onnx": (folder, "--engine", "onnx"),
        "exported": (tmp_path / "small",),
        "int8": (tmp_path / "both", "--int8"),
    }.items():
        table = tmp_path / f"{name}.csv"
        assert run("predict", path, "--model", *arguments, "-o", table)[0] == 0
        tables[name] = [getattr(sa2sr.read_table(table)[0], dimension) for dimension in DIMENSIONS]
    np.testing.assert_allclose(tables["torch"], tables["onnx"], rtol=0, atol=CLOSE)
    assert tables["onnx"] == tables["exported"] != tables["int8"]
    code, _, err = run("predict", path, "--model", folder, "--engine", "steam")
    assert (code, "no engine 'steam'" in err) == (2, True)
