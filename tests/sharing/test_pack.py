"""Copies of models, smaller and with a card; and the model that comes with the package."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import soundfile
import torch
import yaml
from numpy.typing import NDArray

import sa2sr
from sa2sr.audio import probe
from sa2sr.cli import main
from sa2sr.config import DIMENSIONS, EncoderSettings, FrontEnd, ModelSettings, Objectives, Scale
from sa2sr.cuts import make_cut, write_cuts
from sa2sr.errors import ModelError
from sa2sr.inference.export import export
from sa2sr.intervals import calibration
from sa2sr.network import folder as model_folder
from sa2sr.network.folder import CARD_FILE, find_model, read_settings, read_weights, write_calibration
from sa2sr.network.model import SpeechModel, load_model, save_model
from sa2sr.sharing.card import card_text
from sa2sr.sharing.facts import CardFacts
from sa2sr.sharing.pack import pack

RandomModel = Callable[..., Path]
Voice = Callable[..., NDArray[np.float32]]
HEADS = ("ctc", "sentiment", "emotion")
FACTS = """
licence: cc-by-nc-sa-4.0
title: A test
languages: [en]
summary: Says what it was told.
data:
- {name: RAVDESS, licence: CC BY-NC-SA 4.0, use: "fine-tuning | activation", address: "https://example.org/ravdess"}
limits: Knows nothing.
"""


@pytest.fixture
def clip(tmp_path: Path, voice: Voice) -> Path:
    soundfile.write(tmp_path / "clip.wav", voice(1.5, 1), 16_000)
    return tmp_path / "clip.wav"


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["sa2sr", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code or 0)


def emotions(model: Path, clip: Path, engine: str) -> list[float]:
    (row,) = sa2sr.load(model, engine=engine).predict(clip, transcript=True, sentiment=True)
    return [*(getattr(row, dimension) for dimension in DIMENSIONS), row.negative or 0.0, row.positive or 0.0]


def test_half_precision_is_that_of_the_matrices(random_model: RandomModel, tmp_path: Path, clip: Path) -> None:
    model = random_model(units=32, heads=HEADS)
    half = pack(model, tmp_path / "half", half=True)
    stored, single = safetensors.numpy.load_file(half / "model.safetensors"), read_weights(model)
    assert {name: array.dtype.name for name, array in stored.items()} == {
        name: "float16" if array.ndim > 1 else "float32" for name, array in single.items()
    }
    assert (half / "model.safetensors").stat().st_size < 0.6 * (model / "model.safetensors").stat().st_size
    # The predictions are those of a model in single precision with the rounded weights, whatever loads them.
    rounded = SpeechModel(read_settings(model))
    rounded.load_state_dict({name: torch.from_numpy(array.astype(np.float32)) for name, array in stored.items()})
    save_model(rounded, tmp_path / "rounded")
    for engine in ("torch", "onnx"):
        assert emotions(half, clip, engine) == emotions(tmp_path / "rounded", clip, engine)
        np.testing.assert_allclose(emotions(half, clip, engine), emotions(model, clip, engine), atol=0.02)
    np.testing.assert_allclose(emotions(half, clip, "onnx"), emotions(half, clip, "torch"), atol=1e-4)
    export(half, tmp_path / "exported")
    assert emotions(tmp_path / "exported", clip, "onnx") == emotions(half, clip, "onnx")
    # And a further copy loses nothing more, nor does it grow.
    for again in (pack(half, tmp_path / "copy"), pack(half, tmp_path / "again", half=True)):
        assert (again / "model.safetensors").read_bytes() == (half / "model.safetensors").read_bytes()


def test_bfloat16_stays_what_it_is_unless_half_is_asked_for(random_model: RandomModel, tmp_path: Path) -> None:
    model = random_model(units=8)
    weights = {name: torch.from_numpy(array).bfloat16() for name, array in read_weights(model).items()}
    safetensors.torch.save_file(weights, model / "model.safetensors")
    for half in (False, True):
        stored = safetensors.torch.load_file(pack(model, tmp_path / str(half), half=half) / "model.safetensors")
        assert {name: tensor.dtype for name, tensor in stored.items()} == {
            name: torch.float16 if half and tensor.ndim > 1 else torch.bfloat16 for name, tensor in weights.items()
        }
        for name, tensor in stored.items():
            np.testing.assert_allclose(tensor.float(), weights[name].float(), rtol=0, atol=1e-7)


def test_numbers_beyond_half_precision_are_refused(random_model: RandomModel, tmp_path: Path) -> None:
    network = load_model(random_model())
    network.encoder.get_parameter("layers.0.weight_ih_l0").data[0, 0] = 1e5
    save_model(network, tmp_path / "large")
    with pytest.raises(ModelError, match=r"encoder.layers.0.weight_ih_l0 holds numbers beyond 65504"):
        pack(tmp_path / "large", tmp_path / "half", half=True)
    assert not (tmp_path / "half").exists()


def test_commands_on_a_card_can_be_pasted_whatever_the_folder_is_called(run: Path, tmp_path: Path) -> None:
    text = (pack(run, tmp_path / "it's mine") / CARD_FILE).read_text(encoding="utf-8")
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("sa2sr ")]
    assert {command[1] for command in commands} == {"predict", "evaluate"}
    assert all("it's mine" in command for command in commands)
    assert 'sa2sr.load("it\'s mine")' in text


def test_lean_leaves_the_heads_of_trainings_behind(tmp_path: Path, clip: Path) -> None:
    torch.manual_seed(0)
    settings = ModelSettings(
        name="all",
        encoder=EncoderSettings(layers=1, units=8),
        objectives=Objectives.model_validate(
            {"ctc": 0, "sentiment": 0, "cpc": 0, "speaker": {"speakers": ["Ann Doe", "Bob Roe"]}, "emotion": 1}
        ),
        scale=Scale(),
        drifted=("ctc", "cpc"),
    )
    save_model(SpeechModel(settings), tmp_path / "all")
    lean = pack(tmp_path / "all", tmp_path / "lean", lean=True)
    kept = read_settings(lean)
    assert (set(kept.objectives.active()), kept.drifted) == ({"ctc", "sentiment", "emotion"}, ("ctc",))
    assert b"Ann Doe" not in b"".join(path.read_bytes() for path in lean.iterdir())
    for engine in ("torch", "onnx"):
        whole, smaller = (sa2sr.load(each, engine=engine).predict(clip) for each in (tmp_path / "all", lean))
        assert smaller.rows == whole.rows
    pretrained = settings.model_copy(update={"objectives": Objectives.model_validate({"cpc": 1}), "scale": None})
    save_model(SpeechModel(pretrained), tmp_path / "cpc")
    with pytest.raises(ModelError, match="has no heads but cpc"):
        pack(tmp_path / "cpc", tmp_path / "no", lean=True)


def test_a_copy_does_without_heads_that_others_need_not_have(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: Path
) -> None:
    assert command(monkeypatch, "pack", run, tmp_path / "fewer", "--without", "sentiment", "--without", "ctc") == 0
    fewer = tmp_path / "fewer"
    assert set(read_settings(fewer).objectives.active()) == {"emotion"}
    assert not any(name.startswith(("objectives.sentiment", "objectives.ctc")) for name in read_weights(fewer))
    card = (fewer / CARD_FILE).read_text()
    assert "| valence |" in card
    assert "| sentiment |" not in card
    assert "| sentiment |" in (pack(run, tmp_path / "all") / CARD_FILE).read_text()
    for engine in ("torch", "onnx"):
        assert sa2sr.load(fewer, engine=engine).predict(clip).rows == sa2sr.load(run, engine=engine).predict(clip).rows
    assert command(monkeypatch, "pack", run, tmp_path / "no", "--without", "cpc") == 2
    voiceless = pack(run, tmp_path / "voiceless", without=["emotion"])
    assert not (voiceless / "intervals.json").exists()
    assert "## Intervals" in card
    assert "## Intervals" not in (voiceless / CARD_FILE).read_text()
    assert load_model(voiceless).settings.scale is None


def test_a_head_that_emotion_reads_is_not_left_out(random_model: RandomModel, tmp_path: Path) -> None:
    emotion = {"inputs": ["states", "sentiment"]}
    settings = ModelSettings(
        name="reads",
        encoder=EncoderSettings(layers=1, units=8),
        objectives=Objectives.model_validate({"sentiment": 1, "category": {"classes": ["a", "b"]}, "emotion": emotion}),
        scale=Scale(),
    )
    save_model(SpeechModel(settings), tmp_path / "reads")
    with pytest.raises(ModelError, match="emotion reads what sentiment says"):
        pack(tmp_path / "reads", tmp_path / "no", without=["sentiment"])
    kept = pack(tmp_path / "reads", tmp_path / "kept", without=["category"])
    assert set(read_settings(kept).objectives.active()) == {"sentiment", "emotion"}


@pytest.fixture
def run(random_model: RandomModel, tmp_path: Path) -> Path:
    """A run folder with a calibrated model and evaluations, one of them of another model."""
    folder = tmp_path / "run"
    folder.mkdir()
    random_model(heads=HEADS).rename(folder / "model")
    random = np.random.default_rng(0)
    ratings = random.uniform(1, 7, (60, 3))
    write_calibration(
        folder / "model", calibration(ratings + 1, ratings.tolist(), ["a"] * 60, ["/home/ann/secret/msp/dev.jsonl.gz"])
    )
    found = {
        "valence": {
            "utterances": 93,
            "interval_over": "speakers",
            "ccc": {"value": 0.412345, "low": 0.31, "high": 0.52},
            "rmse": {"value": 0.9, "low": None, "high": None},
            "pearson": {"value": None, "low": None, "high": None},
        },
        "sentiment": {"utterances": 40, "interval_over": None, "auc": {"value": 0.75, "low": None, "high": None}},
    }
    metrics = {
        "name": "random",
        "manifests": ["/home/ann/secret/ravdess/test.jsonl.gz"],
        "overall": found,
        "intervals": {"levels": {"0.9": {"valence": {"coverage": 0.91}}}},
    }
    for name, changes in (("ravdess-test", {}), ("other", {"name": "other"})):
        (folder / "evaluation" / name).mkdir(parents=True)
        (folder / "evaluation" / name / "metrics.json").write_text(json.dumps(metrics | changes))
    return folder


def test_the_card_says_what_was_measured(run: Path, tmp_path: Path) -> None:
    (run / "card.yaml").write_text(FACTS)
    out = pack(run, tmp_path / "out", name="ann/voices")
    assert {path.name for path in out.iterdir()} == {"README.md", "config.yaml", "intervals.json", "model.safetensors"}
    text = (out / CARD_FILE).read_text()
    # The hub's own reader of cards.
    card = huggingface_hub.ModelCard(text)
    assert (card.data.license, card.data.language, card.data.library_name) == ("cc-by-nc-sa-4.0", ["en"], "sa2sr")
    assert card.data.pipeline_tag == "audio-classification"
    results = {(r.dataset_name, r.metric_type, r.metric_name): r.metric_value for r in card.data.eval_results or []}
    assert results == {
        ("ravdess/test", "ccc", "CCC, valence"): 0.4123,
        ("ravdess/test", "rmse", "RMSE, valence"): 0.9,
        ("ravdess/test", "auc", "AUC, sentiment"): 0.75,
    }
    for expected in (
        "# A test\n\nSays what it was told.\n",
        'sa2sr.load("ann/voices")',
        "| ravdess/test | valence | 93 | CCC 0.412 [0.310, 0.520], RMSE 0.900 | 91.0 % |",
        "sa2sr evaluate ann/voices cuts/ravdess/test.jsonl.gz",
        "on msp/dev.jsonl.gz (activation: 60 utterances of 1 speakers",
        "| [RAVDESS](https://example.org/ravdess) | CC BY-NC-SA 4.0 | fine-tuning \\| activation |",
        "Knows nothing.",
    ):
        assert expected in text
    assert "secret" not in "".join(path.read_text(errors="ignore") for path in out.iterdir())


def test_the_card_evaluates_as_it_was_measured(
    random_model: RandomModel, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    random_model().rename(tmp_path / "run" / "model")
    tenth = [
        make_cut(f"u{n}", clip, probe(clip), ratings=dict.fromkeys(DIMENSIONS, 2.0 + n), scale=Scale(low=0, high=10))
        for n in range(3)
    ]
    for name, cuts in (
        ("as-it-is", [make_cut("u", clip, probe(clip), ratings={"valence": 3.0}, scale=Scale())]),
        ("mapped", tenth),
    ):
        write_cuts(tmp_path / "cuts" / name / "test.jsonl", cuts)
    for arguments in (("as-it-is",), ("mapped", "--map-scale")):
        path, *options = arguments
        manifest = tmp_path / "cuts" / path / "test.jsonl"
        assert command(monkeypatch, "evaluate", tmp_path / "run", manifest, "--resamples", "1", *options) == 0
    text = (pack(tmp_path / "run", tmp_path / "out", name="ann/voices") / CARD_FILE).read_text()
    assert "sa2sr evaluate ann/voices cuts/as-it-is/test.jsonl\n" in text
    assert "sa2sr evaluate ann/voices cuts/mapped/test.jsonl --map-scale\n" in text
    path = tmp_path / "run" / "evaluation" / "mapped-test" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"read": "recognised"}))
    text = (pack(tmp_path / "run", tmp_path / "again", name="ann/voices") / CARD_FILE).read_text()
    assert "cuts/mapped/test.jsonl --map-scale --read recognised\n" in text
    path.write_text(json.dumps(json.loads(path.read_text()) | {"read": "; rm -r ~"}))
    with pytest.raises(ModelError, match="is not an evaluation"):
        pack(tmp_path / "run", tmp_path / "no")


def test_an_evaluation_of_other_weights_is_not_published(
    random_model: RandomModel, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a training goes on after the evaluation."""
    run, manifest = tmp_path / "run", tmp_path / "cuts" / "test.jsonl"
    run.mkdir()
    random_model().rename(run / "model")
    write_cuts(manifest, [make_cut("u", clip, probe(clip), ratings={"valence": 3.0}, scale=Scale())])
    evaluation = ("evaluate", run, manifest, "--resamples", "1")
    assert command(monkeypatch, *evaluation) == 0
    write_calibration(run / "model", calibration(np.ones((60, 3)), np.ones((60, 3)).tolist(), ["a"] * 60, []))
    assert "What was measured" in (pack(run, tmp_path / "first") / CARD_FILE).read_text()
    save_model(load_model(random_model(seed=1)), run / "model")
    assert command(monkeypatch, "pack", run, tmp_path / "second") == 2
    with pytest.raises(ModelError, match=r"cuts-test/metrics.json: is of other weights .* evaluate again"):
        pack(run, tmp_path / "second")
    assert not (tmp_path / "second").exists()
    assert command(monkeypatch, *evaluation) == 0
    pack(run, tmp_path / "second")
    path = run / "evaluation" / "cuts-test" / "metrics.json"  # older ones do not say what they are of
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "digest"}))
    save_model(load_model(random_model(seed=2)), run / "model")
    assert "What was measured" in (pack(run, tmp_path / "third") / CARD_FILE).read_text()


def test_a_card_of_what_the_folders_know_alone(run: Path, tmp_path: Path) -> None:
    text = (pack(run, tmp_path / "a") / CARD_FILE).read_text()
    assert "on the scale 1-7, 1 to 7." in text
    assert "The licence of the weights is not stated." in text
    assert "license" not in yaml.safe_load(text.split("---")[1])
    assert "not of what somebody feels" in text
    # A card that somebody has written goes along, unless something new is said.
    (tmp_path / "a" / CARD_FILE).write_text("by hand")
    assert (pack(tmp_path / "a", tmp_path / "b") / CARD_FILE).read_text() == "by hand"
    assert "The weights: mit." in (pack(tmp_path / "a", tmp_path / "b", licence="mit") / CARD_FILE).read_text()


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ({"freeze": "all"}, "encoder microsoft/wavlm-base-plus, which stayed as it was, read by a learnt mean"),
        ({"freeze": "none", "readout": "last"}, "all of which was trained further, read by its last layer"),
        ({"freeze": 3}, "but for its convolutions and its 3 lowest layers"),
        ({"lora": {"rank": 4}}, "beside LoRA adapters of rank 4"),
        ({"name": "/home/ann/secret/wavlm"}, "The pre-trained encoder wavlm, which was trained further but for its"),
    ],
)
def test_a_pretrained_encoder_is_called_what_it_is(encoder: dict[str, Any], said: str) -> None:
    values = {"kind": "transformers", "name": "microsoft/wavlm-base-plus"} | encoder
    settings = ModelSettings(
        name="tuned",
        frontend=FrontEnd(kind="waveform", step_ms=20, stack=1),
        encoder=EncoderSettings.model_validate(values),
        objectives=Objectives.model_validate({"ctc": 1}),
    )
    text = card_text(settings, CardFacts(), parameters=94_000_000).partition("## How it was made")[2]
    assert said in text
    assert "layers, 94.0 million parameters. Heads: ctc." in text or "layer, 94.0 million parameters" in text
    assert "It reads the waveform of 16,000 Hz" in text
    for wrong in ("transformers of", "192", "log mel", "/home/ann"):
        assert wrong not in text


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ("licence: CC BY 4.0", "licence"),
        ("license: mit", "license"),
        ("languages: [English]", "languages"),
        ("data: RAVDESS", "data"),
        ("- a", "mapping"),
        ("a: &a [*a]", "aliases"),
    ],
)
def test_mistakes_in_facts(run: Path, tmp_path: Path, facts: str, reason: str) -> None:
    (tmp_path / "card.yaml").write_text(facts)
    with pytest.raises(ModelError, match=reason):
        pack(run, tmp_path / "out", card=tmp_path / "card.yaml")
    assert not (tmp_path / "out").exists()


def test_mistakes(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is the model itself"):
        pack(run, run / "model")
    with pytest.raises(ModelError, match="holds other files"):
        pack(run, tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "README.md").write_text("mine")
    with pytest.raises(ModelError, match="holds other files"):
        pack(run, tmp_path / "docs")
    assert (tmp_path / "docs" / "README.md").read_text() == "mine"
    with pytest.raises(ModelError, match="is an exported model"):
        pack(export(run, tmp_path / "exported"), tmp_path / "out", half=True)
    with pytest.raises(ModelError, match=r"--licence:\s+licence: .*such as mit, cc-by-nc-sa-4.0"):
        pack(run, tmp_path / "out", licence="CC BY")
    with pytest.raises(ModelError, match=r"none.yaml: .*(does not exist|cannot be read)"):
        pack(run, tmp_path / "out", card=tmp_path / "none.yaml")
    (run / "evaluation" / "ravdess-test" / "metrics.json").write_text("{}")
    with pytest.raises(ModelError, match=r"metrics.json: is not an evaluation \(KeyError"):
        pack(run, tmp_path / "out")


# --- The model that comes with the package ----------------------------------------------------------------------------


@pytest.fixture
def shipped(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in the place of that which comes with the package."""
    monkeypatch.delenv("SA2SR_MODEL", raising=False)
    place = tmp_path / "package" / "default"
    monkeypatch.setattr(model_folder, "SHIPPED_FOLDER", place)
    monkeypatch.setattr("sa2sr.sharing.pack.SHIPPED_FOLDER", place)
    return pack(run, place, half=True)


def test_the_shipped_model_is_the_default(
    shipped: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_model: RandomModel
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = sa2sr.load(shipped).predict(clip)
    assert "sa2sr.load().predict" in (shipped / CARD_FILE).read_text()
    assert sa2sr.load().predict(clip) == expected
    assert sa2sr.load("default", engine="torch").predict(clip)[0].valence == pytest.approx(
        expected[0].valence, abs=1e-4
    )
    assert command(monkeypatch, "predict", clip, "--out", tmp_path / "a.csv") == 0
    assert sa2sr.read_table(tmp_path / "a.csv") == expected
    assert command(monkeypatch, "export", "default", tmp_path / "onnx", "--no-int8") == 0
    assert sa2sr.load(tmp_path / "onnx").predict(clip) == expected
    # A folder of that name comes first, where the name is written; the variable replaces the model.
    other = random_model(seed=5)
    monkeypatch.setenv("SA2SR_MODEL", str(other))
    assert sa2sr.load().predict(clip) == sa2sr.load(other).predict(clip) != expected
    monkeypatch.delenv("SA2SR_MODEL")
    pack(other, tmp_path / "default")
    assert sa2sr.load("default").predict(clip) == sa2sr.load(other).predict(clip)
    assert sa2sr.load().predict(clip) == expected


def test_nothing_is_written_beside_the_shipped_model(
    shipped: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cut = make_cut("a", clip, probe(clip), ratings={"valence": 2.0}, scale=Scale())
    write_cuts(tmp_path / "calls" / "test.jsonl", [cut])
    assert command(monkeypatch, "evaluate", "default", "calls/test.jsonl") == 0
    assert (tmp_path / "runs" / "random" / "evaluation" / "calls-test" / "metrics.json").is_file()
    assert command(monkeypatch, "calibrate", "default", "cuts.jsonl") == 2
    assert model_folder.is_shared(find_model())
    assert {path.name for path in shipped.parent.iterdir()} == {"default"}


def test_without_a_shipped_model_one_must_be_named(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SA2SR_MODEL", raising=False)
    monkeypatch.setattr(model_folder, "SHIPPED_FOLDER", tmp_path / "none")
    for arguments in (("predict", clip), ("serve",), ("export", "default", tmp_path / "out")):
        assert command(monkeypatch, *arguments) == 2
        assert "such as --model runs/emotion, or set SA2SR_MODEL" in capsys.readouterr().err
    with pytest.raises(ModelError, match="no model comes with this installation"):
        sa2sr.load()


def test_the_shipped_model_predicts_without_torch_or_network(shipped: Path, clip: Path) -> None:
    program = f"""
import socket, sys
heavy = ("torch", "lhotse", "accelerate", "huggingface_hub", "transformers")
sys.modules |= dict.fromkeys(heavy)  # these cannot be imported any more
def refuse(*arguments, **options):
    raise OSError("no network")
socket.socket.connect = refuse
from pathlib import Path
from sa2sr.network import folder
folder.SHIPPED_FOLDER = Path({str(shipped)!r})
sys.argv = ["sa2sr", "predict", {str(clip)!r}, "--transcript", "--out", {str(clip.with_suffix(".csv"))!r}]
from sa2sr.cli import main
main()
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    expected: Any = sa2sr.load(shipped, engine="torch").predict(clip, transcript=True)[0]
    (row,) = sa2sr.read_table(clip.with_suffix(".csv"))
    assert row.transcript == expected.transcript
    assert [getattr(row, name) for name in DIMENSIONS] == pytest.approx(
        [getattr(expected, name) for name in DIMENSIONS], abs=1e-4
    )
