"""Models on the hub, against a stand-in that speaks HTTP."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from numpy.typing import NDArray

import sa2sr
from sa2sr.errors import ModelError
from sa2sr.network.folder import find_model
from sa2sr.network.hub import HubName
from tests.sharing.stand_in import TOKEN, Hub

RandomModel = Callable[..., Path]
Voice = Callable[..., NDArray[np.float32]]
Run = Callable[..., Any]


@pytest.fixture
def clip(tmp_path: Path, voice: Voice) -> Path:
    soundfile.write(tmp_path / "clip.wav", voice(1.0, 1), 16_000)
    return tmp_path / "clip.wav"


def files_of(model: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()}


def valence(printed: str) -> float:
    return float(json.loads(printed)["valence"])


PREDICT = """
import json, sys, sa2sr
name, clip, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
(row,) = sa2sr.load(name, **options).predict(clip)
print(json.dumps({"valence": row.valence}))
"""


def predict(run: Run, name: str, clip: Path, *, options: dict[str, str] | None = None, **variables: str) -> Any:
    return run("-c", PREDICT, name, clip, json.dumps(options or {}), **variables)


def test_what_is_pushed_is_loaded_by_its_name(run: Run, hub: Hub, random_model: RandomModel, clip: Path) -> None:
    model = random_model(heads=("ctc", "sentiment", "emotion"))
    pushed = run("push", model, "ann/voices", "--licence", "cc-by-4.0", "--message", "first")
    assert (pushed.returncode, pushed.stdout) == (0, f"{hub.url}/ann/voices\n"), pushed.stderr
    assert set(hub.files("ann/voices")) == {"README.md", "config.yaml", "model.safetensors"}
    metadata = yaml.safe_load(hub.files("ann/voices")["README.md"].decode().split("---")[1])
    assert (metadata["license"], metadata["library_name"]) == ("cc-by-4.0", "sa2sr")

    (row,) = sa2sr.load(model).predict(clip)
    found = predict(run, "ann/voices", clip)
    assert found.returncode == 0, found.stderr
    assert valence(found.stdout) == row.valence
    # From the cache: without a network, and when the variable says so.
    hub.requests.clear()
    assert valence(predict(run, "ann/voices", clip, HF_HUB_OFFLINE="1").stdout) == row.valence
    assert hub.requests == []
    assert valence(predict(run, "ann/voices", clip, HF_ENDPOINT="http://127.0.0.1:9").stdout) == row.valence


def test_revisions(run: Run, hub: Hub, random_model: RandomModel, clip: Path) -> None:
    first, second = (random_model(seed=seed) for seed in (1, 2))
    program = f"""
import sa2sr
for folder, name in (({str(first)!r}, "ann/voices"), ({str(second)!r}, "ann/voices@better")):
    print(sa2sr.load(folder, engine="torch").push_to_hub(name, licence="mit", half=True, private=True))
"""
    pushed = run("-c", program)
    assert pushed.stdout.split() == [f"{hub.url}/ann/voices", f"{hub.url}/ann/voices/tree/better"], pushed.stderr
    assert hub.repositories["ann/voices"].private
    expected = [sa2sr.load(each).predict(clip)[0].valence for each in (first, second)]
    commit = hub.repositories["ann/voices"].branches["better"]
    for name, options, number in (
        ("ann/voices", {}, expected[0]),
        ("ann/voices@better", {}, expected[1]),
        ("hf://ann/voices", {"revision": commit}, expected[1]),
    ):
        found = predict(run, name, clip, options=options)
        assert valence(found.stdout) == pytest.approx(number, abs=0.01), found.stderr
    assert abs(expected[0] - expected[1]) > 0.02
    for name, token, reason in (
        ("ann/voices@worse", TOKEN, "ann/voices: has no revision 'worse' on the hub"),
        ("bob/voices", TOKEN, "bob/voices: is neither a folder here nor a model on the hub"),
        ("eve/voices", "another", "eve/voices: is neither a folder here nor a model on the hub; if it is private, log"),
    ):
        hub.repositories["eve/voices"] = hub.repositories["ann/voices"]
        refused = run("predict", clip, "--model", name, HF_TOKEN=token)
        assert refused.returncode == 2, refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert reason in refused.stderr


def test_a_new_commit_replaces_the_model(run: Run, hub: Hub, random_model: RandomModel, tmp_path: Path) -> None:
    model = random_model()
    exported = tmp_path / "exported"
    hub.publish("ann/voices", {"model.onnx": b"old", "notes.txt": b"by hand", "README.md": b"old"})
    assert run("export", model, exported, "--no-int8").returncode == 0
    assert run("push", model, "ann/voices", "--licence", "mit").returncode == 0
    assert set(hub.files("ann/voices")) == {"README.md", "config.yaml", "model.safetensors", "notes.txt"}
    pushed = run("push", exported, "ann/voices", "--licence", "mit")
    assert pushed.returncode == 0, pushed.stderr
    assert set(hub.files("ann/voices")) == {"README.md", "config.yaml", "labels.json", "model.onnx", "notes.txt"}
    assert hub.files("ann/voices")["model.onnx"] == (exported / "model.onnx").read_bytes()


def test_only_the_files_of_a_model_are_fetched(run: Run, hub: Hub, random_model: RandomModel, tmp_path: Path) -> None:
    hostile = {"../../escaped.txt": b"x", "a/../../../escaped.txt": b"x", "pytorch_model.bin": b"x", "run.py": b"x"}
    hub.publish("eve/voices", {**files_of(random_model()), **hostile})
    found = run("-c", "from sa2sr.network.folder import find_model; print(find_model('eve/voices'))")
    assert found.returncode == 0, found.stderr
    folder = Path(found.stdout.strip())
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "model.safetensors"}
    written = {path.name for path in tmp_path.rglob("*")}
    assert written.isdisjoint({"escaped.txt", "pytorch_model.bin", "run.py"})
    # What is there is no model of its owner's to change.
    for command in (("calibrate", "eve/voices", "cuts.jsonl"), ("pack", "eve/voices", folder)):
        assert run(*command).returncode == 2
    hub.publish("eve/none", {"weights.bin": b"x", "README.md": b"x"})
    refused = run("evaluate", "eve/none", "cuts.jsonl")
    assert (refused.returncode, "eve/none: is on the hub, but not a model of sa2sr" in refused.stderr) == (2, True)


def test_who_may_not_and_what_cannot_be_reached(run: Run, hub: Hub, random_model: RandomModel) -> None:
    model = random_model()
    for variables, reason in (
        ({"HF_TOKEN": "another"}, "log in with 'hf auth login', or set HF_TOKEN"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "ann/voices: the hub cannot be"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
    ):
        refused = run("push", model, "ann/voices", "--licence", "mit", **variables)
        assert refused.returncode == 2, refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert reason in refused.stderr
    assert hub.repositories == {}
    refused = run("push", model, "ann/voices")
    assert (refused.returncode, "--licence cc-by-4.0" in refused.stderr) == (2, True)
    refused = run("push", model, "voices", "--licence", "mit")
    assert (refused.returncode, "'voices' is not the name of a model on the hub" in refused.stderr) == (2, True)


def test_a_folder_comes_before_the_hub(
    run: Run, hub: Hub, random_model: RandomModel, tmp_path: Path, clip: Path
) -> None:
    here, there = random_model(seed=1), random_model(seed=2)
    hub.publish("ann/voices", files_of(there))
    shutil.copytree(here, tmp_path / "ann" / "voices")
    expected = [sa2sr.load(each).predict(clip)[0].valence for each in (here, there)]
    assert valence(predict(run, "ann/voices", clip).stdout) == expected[0]
    assert hub.requests == []
    assert valence(predict(run, "hf://ann/voices", clip).stdout) == expected[1]
    # A folder that is misspelt is not asked for on the hub.
    hub.requests.clear()
    refused = run("predict", clip, "--model", "ann/voice")
    assert (refused.returncode, "ann/voice: does not exist" in refused.stderr, hub.requests) == (2, True, [])


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("user/name", "user/name", None),
        ("hf://user/na.me-2", "user/na.me-2", None),
        ("user/name@v1.0", "user/name", "v1.0"),
        ("user/name@refs/pr/1", "user/name", "refs/pr/1"),
        (Path("hf://user/name"), "user/name", None),
    ],
)
def test_names(text: str | Path, repository: str, revision: str | None) -> None:
    name = HubName.parse(text)
    assert name is not None
    assert (name.repository, name.at(None).revision) == (repository, revision)


@pytest.mark.parametrize(
    "text", ["name", "a/b/c", "/a/b", "../b", "a/..", "a/b..c", "a--b/c", "a/b@", "a/b\n", "~/b", "a b/c", "http://a/b"]
)
def test_what_is_no_name(text: str) -> None:
    assert HubName.parse(text) is None
    with pytest.raises(ModelError, match="does not exist"):
        find_model(text)


@pytest.mark.parametrize("revision", ["../../main", "a b", "", "-x", "/x", "x" * 300])
def test_what_is_no_revision(revision: str) -> None:
    with pytest.raises(ModelError, match="cannot be a revision"):
        find_model("user/name", revision)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"user/name: does not exist here, .*pip install 'sa2sr\[hub\]'"):
        sa2sr.load("user/name")


def test_a_revision_is_of_the_hub(random_model: RandomModel) -> None:
    with pytest.raises(ModelError, match="is not on the hub"):
        find_model(random_model(), "main")
    with pytest.raises(ModelError, match="name one of both"):
        find_model("user/name@v1", "v2")
