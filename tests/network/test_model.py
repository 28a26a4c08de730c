"""The model folder: what is saved comes back, and nothing hostile in it is executed, allocated or believed."""

import json
import os
import pickle
import resource
import struct
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from sa2sr.config import EncoderSettings, FrontEnd, ModelSettings, Objectives, Scale
from sa2sr.errors import ModelError
from sa2sr.network.model import SpeechModel, load_model, save_model
from sa2sr.speech.batches import Batch

CONTEXT: Any = get_context("forkserver")
CONTEXT.set_forkserver_preload(["sa2sr.speech.store", "sa2sr.network.model"])

EMOTION = {"channels": 4, "heads": 2, "dropout": 0}
ALL_TASKS = {"ctc": 1, "sentiment": {"weight": 2, "units": 4}, "emotion": EMOTION}


def make(objectives: dict[str, Any] = ALL_TASKS, dropout: float = 0.0, seed: int = 0) -> SpeechModel:
    torch.manual_seed(seed)
    settings = ModelSettings(
        name="small",
        frontend=FrontEnd(filters=2),
        encoder=EncoderSettings(layers=2, units=3, dropout=dropout),
        objectives=Objectives.model_validate(objectives),
        scale=Scale(name="1-7", low=1, high=7),
    )
    return SpeechModel(settings)


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        names=["a", "b", "c"],
        frames=torch.randn(3, 12, 6, generator=generator),
        lengths=torch.tensor([12, 7, 9]),
        texts=["ab", "c", None],
        sentiment=torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]]),
        ratings=torch.tensor([[1.0, 2, 3], [4, 1, 2], [2, 5, 6]]),
        seconds=0.84,
    )


def learn(model: SpeechModel, steps: int = 2) -> dict[str, Tensor]:
    """The losses; every weight that may move has moved."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(steps):
        losses = model.train()(batch())
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
    return dict(losses)


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder that nobody has touched yet."""
    save_model(make(), tmp_path / "model")
    return tmp_path / "model"


# --- What is saved comes back -----------------------------------------------------------------------------------------


def test_a_saved_model_comes_back_bit_for_bit(tmp_path: Path) -> None:
    model = make()
    model.emotion.fit_ratings(batch().ratings)
    learn(model)
    save_model(model, tmp_path / "new" / "model")
    loaded = load_model(tmp_path / "new" / "model")
    assert loaded.settings == model.settings
    assert equal(weights(loaded), weights(model))
    losses, expected = loaded(batch()), model.eval()(batch())
    assert losses.keys() == {"ctc", "sentiment", "emotion"}
    assert equal(losses, {name: loss.detach() for name, loss in expected.items()})
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert all(p.device.type == "cpu" and p.dtype == torch.float32 for p in loaded.parameters())
    assert sorted(p.name for p in (tmp_path / "new" / "model").iterdir()) == ["config.yaml", "model.safetensors"]


def test_the_same_model_gives_the_same_bytes(folder: Path) -> None:
    save_model(load_model(folder), folder.parent / "copy")
    for name in ("config.yaml", "model.safetensors"):
        assert (folder.parent / "copy" / name).read_bytes() == (folder / name).read_bytes()


def test_a_run_folder_stands_for_its_model(folder: Path) -> None:
    assert equal(weights(load_model(folder.parent)), weights(load_model(folder)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_become_single(folder: Path, dtype: torch.dtype) -> None:
    expected = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(expected, folder / "model.safetensors")
    model = load_model(folder)
    assert equal(weights(model), {name: tensor.float() for name, tensor in expected.items()})
    model(batch())


def test_a_folder_of_links_is_a_model(folder: Path) -> None:
    links = folder.parent / "links"
    links.mkdir()
    for name in ("config.yaml", "model.safetensors"):
        (links / name).symlink_to(folder / name)
    (folder.parent / "link").symlink_to(links)
    assert equal(weights(load_model(folder.parent / "link")), weights(load_model(folder)))


# --- Tasks and freezing -----------------------------------------------------------------------------------------------


def test_a_task_without_weight_is_kept_but_not_trained() -> None:
    model = make({"ctc": {"weight": 0}, "sentiment": {"units": 4}, "emotion": EMOTION})
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == {
        "objectives.ctc.output.weight",
        "objectives.ctc.output.bias",
    }
    before = weights(model)
    losses = learn(model)
    assert losses.keys() == {"sentiment", "emotion"}
    after = weights(model)
    for name in before:
        moved = not torch.equal(before[name], after[name])
        assert moved == (not name.startswith("objectives.ctc") and "rating" not in name), name
    with torch.no_grad():  # it still predicts
        states = model.states(batch().frames, batch().lengths)
        assert len(model.tasks()["ctc"].predict(states, batch().lengths)) == 3


def test_a_frozen_encoder_stays_as_it_is() -> None:
    model = make(dropout=0.5)
    model.freeze_encoder()
    before = weights(model)
    states = model.eval().states(batch().frames, batch().lengths)
    learn(model)
    assert equal(weights(model.encoder), {n.removeprefix("encoder."): w for n, w in before.items() if "encoder" in n})
    assert not torch.equal(
        weights(model)["objectives.emotion.output.weight"], before["objectives.emotion.output.weight"]
    )
    model.train()
    assert model.objectives.training
    assert not model.encoder.training
    with_gradients = model.states(batch().frames, batch().lengths)
    assert torch.equal(with_gradients, states)  # no dropout either
    assert not with_gradients.requires_grad


def test_an_encoder_that_is_not_frozen_learns() -> None:
    model = make()
    before = weights(model)
    learn(model)
    assert all(not torch.equal(w, before[n]) for n, w in weights(model).items() if n.startswith("encoder"))


def test_a_model_without_the_emotion_task_says_what_to_do() -> None:
    with pytest.raises(ModelError, match="its tasks are ctc; 'sa2sr finetune'"):
        _ = make({"ctc": 1}).emotion


# --- Hostile folders --------------------------------------------------------------------------------------------------


def refuse(folder: Path, *words: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert len(message) < 2000
    for word in words:
        assert word in message


def edit_settings(folder: Path, **changes: Any) -> None:
    """Change ``a__b`` in config.yaml."""
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    for key, value in changes.items():
        *path, last = key.split("__")
        node = settings
        for part in path:
            node = node[part]
        node[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_what_is_no_model_folder(tmp_path: Path, folder: Path) -> None:
    refuse(tmp_path / "nowhere", "does not exist", "config.yaml", "model.safetensors")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", "is not a model folder")
    refuse(folder / "config.yaml", "is not a model folder")
    refuse(folder / "config.yaml" / "deeper", "does not exist")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("name: x")
    refuse(tmp_path / "run", "no model yet")


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors"])
@pytest.mark.parametrize("kind", ["missing", "folder", "dangling link", "link to itself"])
def test_a_file_that_is_not_there(folder: Path, name: str, kind: str) -> None:
    (folder / name).unlink()
    if kind == "folder":
        (folder / name).mkdir()
    elif kind == "dangling link":
        (folder / name).symlink_to(folder / "gone")
    elif kind == "link to itself":
        (folder / name).symlink_to(folder / name)
    refuse(folder, "is not a model folder", name)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder__units": 4}, ("encoder.layers.0.weight_ih_l0 has shape (12, 6)", "asks for (16, 6)")),
        ({"encoder__layers": 3}, ("encoder.layers.2.weight_ih_l0 is missing",)),
        ({"encoder__layers": 1}, ("encoder.layers.1.", "does not know")),
        ({"objectives__emotion": None}, ("objectives.emotion.", "does not know")),
        ({"encoder__units": 10**9}, ("encoder.units", "4096")),
        ({"encoder__layers": 10**9}, ("encoder.layers", "32")),
        ({"encoder__units": -1}, ("encoder.units",)),
        ({"encoder__units": "many"}, ("encoder.units",)),
        ({"frontend__filters": 10**9}, ("frontend.filters",)),
        ({"objectives__emotion__channels": 10**9}, ("objectives.emotion.channels",)),
        ({"objectives__emotion__kernels": [10**9, 1]}, ("objectives.emotion.kernels",)),
        ({"objectives": {}}, ("objectives",)),
        ({"format": 2}, ("format",)),
        ({"more": 1}, ("more: unknown key",)),
        ({"name": "../../etc"}, ("name",)),
    ],
)
def test_settings_that_do_not_fit(folder: Path, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    edit_settings(folder, **changes)
    refuse(folder, *words)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- a list",
        b"a: [",
        b"\xff\xfe\x00",
        b"just words",
        b"!!python/object/apply:os.system ['touch OWNED']",
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
        b"x: " + b"y" * 200_000,
        b"[" * 50_000,
    ],
    ids=["empty", "list", "open", "binary", "text", "code", "aliases", "large", "deep"],
)
def test_a_config_that_is_no_settings_file(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "config.yaml").write_bytes(content)
    refuse(folder, "config.yaml")
    assert not (folder / "OWNED").exists()


class Payload:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_refused_unopened(folder: Path, tmp_path: Path) -> None:
    payload = Payload(tmp_path / "owned")
    for write in (
        lambda path: torch.save({"weights": payload}, path),
        lambda path: path.write_bytes(pickle.dumps(payload)),
    ):
        write(folder / "model.safetensors")
        refuse(folder, "model.safetensors", "is not a safetensors file")
        assert not (tmp_path / "owned").exists()
    pickle.loads(pickle.dumps(payload))
    assert (tmp_path / "owned").exists()  # the payload is alive


def header(tensors: dict[str, Any], data: bytes = b"") -> bytes:
    """A safetensors file by hand."""
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10**6) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        header({"w": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}),
        header({"w": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 0]}}),
        header({"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, bytes(8)),
        header({"w": {"dtype": "X9", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
    ],
)
def test_a_weights_file_that_is_none(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    refuse(folder, "model.safetensors", "is not a safetensors file")


def test_a_truncated_weights_file(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    for size in (1, 7, 8, 100, len(data) // 2, len(data) - 1):
        (folder / "model.safetensors").write_bytes(data[:size])
        refuse(folder, "is not a safetensors file")


def test_a_tensor_too_many_or_too_few(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update(extra=torch.zeros(2)))
    refuse(folder, "holds 'extra'")
    edit_weights(folder, lambda tensors: tensors.update({"\x1b[2J" * 1000: tensors.pop("extra")}))
    refuse(folder, r"holds '\x1b[2J")
    edit_weights(folder, lambda tensors: tensors.pop("\x1b[2J" * 1000))
    edit_weights(folder, lambda tensors: tensors.pop("objectives.ctc.output.bias"))
    refuse(folder, "objectives.ctc.output.bias is missing")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(folder: Path, value: float) -> None:
    edit_weights(folder, lambda tensors: tensors["objectives.ctc.output.weight"].view(-1)[7:8].fill_(value))
    refuse(folder, "objectives.ctc.output.weight", "not finite")


def test_weights_that_are_finite_only_in_double_precision(folder: Path) -> None:
    large = {"objectives.ctc.output.bias": torch.full((29,), 1e300, dtype=torch.float64)}
    edit_weights(folder, lambda tensors: tensors.update(large))
    refuse(folder, "objectives.ctc.output.bias", "not finite")


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("BOOL", 8), ("I8", 8), ("U64", 64), ("C64", 64), ("F8_E4M3", 8), ("F8_E8M0", 8), ("F4", 4), ("F6_E2M3", 6)],
)
def test_types_that_are_no_weights(folder: Path, dtype: str, bits: int) -> None:
    """All tensors of a type that no training writes."""
    tensors, offset = {}, 0
    for name, tensor in make().state_dict().items():
        size = -(-tensor.numel() * bits // 8)
        tensors[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offset += size
    (folder / "model.safetensors").write_bytes(header(tensors, bytes(offset)))
    refuse(folder, "model.safetensors")


# --- Memory -----------------------------------------------------------------------------------------------------------


def growth(folder: Path, results: Any) -> None:
    """Megabytes that an attempt to load takes at its peak."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        load_model(folder)
    except ModelError as error:
        results.put((str(error), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def refusal_in_another_process(folder: Path) -> tuple[str, float]:
    """The error that loading a folder raises, and the growth of the process."""
    results = CONTEXT.SimpleQueue()
    process = CONTEXT.Process(target=growth, args=(folder, results))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    message, megabytes = results.get()
    return message, megabytes


def test_a_small_file_cannot_claim_a_large_network(folder: Path) -> None:
    """These settings are allowed, and ask for some 60 GB of weights."""
    edit_settings(
        folder,
        encoder__units=4096,
        encoder__layers=32,
        objectives__sentiment__units=4096,
        objectives__emotion__channels=4096,
        objectives__emotion__kernels=[1000, 1000],
    )
    message, megabytes = refusal_in_another_process(folder)
    assert "asks for (16384, 6)" in message
    assert megabytes < 200


def test_a_large_file_is_not_read_when_it_does_not_fit(folder: Path) -> None:
    size = 2**30
    start = header({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}})
    with (folder / "model.safetensors").open("wb") as file:
        file.write(start)
        file.truncate(len(start) + size)  # a hole in the file
    message, megabytes = refusal_in_another_process(folder)
    assert "is missing" in message
    assert megabytes < 200
