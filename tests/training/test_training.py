import json
import math
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from filelock import FileLock
from safetensors.torch import load_file

from sa2sr.cli import main
from sa2sr.config import Objectives, Optimiser, Recipe, to_yaml
from sa2sr.cuts import Cut, read_cuts, write_cuts
from sa2sr.errors import CorpusError, ModelError, RecipeError, UserError
from sa2sr.network.folder import read_settings
from sa2sr.network.model import SpeechModel, load_model, save_model
from sa2sr.training.evaluate import evaluate
from sa2sr.training.initial import drifted_heads
from sa2sr.training.optimisation import learning_rate_scale
from sa2sr.training.run import RunFolder, environment
from sa2sr.training.trainer import Trainer, train

MakeRecipe = Callable[..., Recipe]
MakeCut = Callable[..., Cut]


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(run.model / "model.safetensors")


def contents(folder: Path) -> dict[Path, bytes]:
    """Everything in a run folder but the time and place of the last start."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "environment.json")
    return {path: path.read_bytes() for path in files}


def without_times(run: RunFolder) -> list[dict[str, Any]]:
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in run.history()]


@pytest.fixture(scope="module")
def pretrained(make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of both objectives that stops when three epochs have brought nothing better."""
    recipe = make_recipe(
        {
            "pretraining.max_epochs": 30,
            "pretraining.patience": 3,
            "pretraining.optimiser": {"rate": 0.02},
            "pretraining.features": {"source": "on-the-fly"},
        }
    )
    return train(recipe, "pretraining", tmp_path_factory.mktemp("pretrained") / "run")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """``command("pretrain", ...)`` runs the command line in this process: exit code and standard error."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["sa2sr", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        return int(exit_.value.code or 0), capsys.readouterr().err

    return run


# --- What is learnt, and when a training ends -------------------------------------------------------------------------


def test_pretraining_learns(pretrained: RunFolder) -> None:
    first, last = (pretrained.history()[index]["train"] for index in (0, -1))
    assert last["ctc_loss"] < first["ctc_loss"] / 2
    assert last["sentiment_loss"] < first["sentiment_loss"] - 0.1
    assert min(entry["dev"]["ctc_loss"] for entry in pretrained.history()) < first["ctc_loss"] / 2


def test_finetuning_learns(make_recipe: MakeRecipe, pretrained: RunFolder, tmp_path: Path) -> None:
    recipe = make_recipe({"finetuning.max_epochs": 10, "finetuning.objectives.emotion.dropout": 0.0})
    history = train(recipe, "finetuning", tmp_path / "run", start_from=pretrained.path).history()
    assert history[-1]["train"]["emotion_loss"] < 0.7 < 2 < history[0]["train"]["emotion_loss"]
    for entry in history:
        assert entry["criterion"] == pytest.approx(-entry["dev"]["mean_ccc"])
        cccs = [entry["dev"][f"{dimension}_ccc"] for dimension in ("activation", "valence", "dominance")]
        assert entry["dev"]["mean_ccc"] == pytest.approx(np.mean(cccs))
    assert min(entry["criterion"] for entry in history) < -0.5


def test_early_stopping_on_cer_minus_auc(pretrained: RunFolder) -> None:
    history = pretrained.history()
    criteria = [entry["dev"]["cer"] - entry["dev"]["auc"] for entry in history]
    assert [entry["criterion"] for entry in history] == pytest.approx(criteria)
    best = [index for index, value in enumerate(criteria) if value < min(criteria[:index], default=math.inf)]
    assert [index for index, entry in enumerate(history) if entry["best"]] == best
    assert len(history) == best[-1] + 1 + 3 < 30
    assert json.loads(pretrained.metrics_file.read_text()) == history[best[-1]]


def test_the_model_is_that_of_the_best_epoch(
    pretrained: RunFolder, manifests: tuple[Path, Path], tmp_path: Path
) -> None:
    found = evaluate(pretrained.path, [manifests[1]], tmp_path / "out", resamples=2).metrics["overall"]
    best = json.loads(pretrained.metrics_file.read_text())["dev"]
    assert found["ctc"]["cer"]["value"] == pytest.approx(best["cer"])
    assert found["sentiment"]["auc"]["value"] == pytest.approx(best["auc"])


def test_one_objective_alone(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    for objective, criterion in (("ctc", lambda dev: dev["cer"]), ("sentiment", lambda dev: -dev["auc"])):
        recipe = make_recipe({"pretraining.objectives": {objective: 1}, "pretraining.max_epochs": 1})
        run = train(recipe, "pretraining", tmp_path / objective)
        (entry,) = run.history()
        assert entry["criterion"] == criterion(entry["dev"])
        assert list(entry["train"]) == [f"{objective}_loss"]
        assert list(load_model(run.path).tasks()) == [objective]


def test_a_finished_run_is_left_as_it_is(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run = train(make_recipe(), "pretraining", tmp_path / "run")
    before = contents(run.path)
    assert {path.name for path in before} >= {"history.jsonl", "metrics.json", "model.safetensors"}
    train(make_recipe(), "pretraining", run.path)
    assert contents(run.path) == before


def test_a_run_may_go_on_for_longer(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    short, long = (make_recipe({"pretraining.max_epochs": epochs}) for epochs in (1, 3))
    run, other = train(short, "pretraining", tmp_path / "run"), train(long, "pretraining", tmp_path / "other")
    assert len(run.history()) == 1
    train(long, "pretraining", run.path)
    assert without_times(run) == without_times(other)
    assert all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(run).items())
    more_patient = make_recipe({"pretraining.max_epochs": 3, "pretraining.patience": 50})
    assert train(more_patient, "pretraining", run.path).history() == run.history()


# --- The encoder and the learning rate --------------------------------------------------------------------------------


def test_a_frozen_encoder_stays_bit_for_bit(make_recipe: MakeRecipe, pretrained: RunFolder, tmp_path: Path) -> None:
    recipe = make_recipe({"finetuning.freeze_encoder": True})
    run = train(recipe, "finetuning", tmp_path / "run", start_from=pretrained.path)
    before = weights(pretrained)
    for name, tensor in weights(run).items():
        if not name.startswith("objectives.emotion."):  # the heads of the pre-training come along as they were
            assert torch.equal(tensor, before[name]), name
    assert len(run.history()[0]["rates"]) == 1
    assert read_settings(run.path).drifted == ()
    with pytest.raises(ModelError, match="freezes the encoder: name a pre-trained model with --encoder"):
        train(recipe, "finetuning", tmp_path / "other")


def test_heads_that_an_encoder_leaves_behind_are_listed(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    assert recipe.pretraining is not None
    assert recipe.finetuning is not None
    settings = load_settings(recipe).model_copy(update={"objectives": recipe.pretraining.objectives})
    alone = recipe.finetuning
    with_ctc = alone.model_copy(update={"objectives": Objectives.model_validate({"emotion": 1, "ctc": 0.1})})
    frozen = alone.model_copy(update={"freeze_encoder": True})
    assert drifted_heads(alone, settings) == ("ctc", "sentiment")
    assert drifted_heads(with_ctc, settings) == ("sentiment",)
    assert drifted_heads(frozen, settings) == ()
    further = settings.model_copy(update={"drifted": ("ctc", "sentiment")})
    assert drifted_heads(frozen, further) == ("ctc", "sentiment")  # what is gone does not come back by itself
    assert drifted_heads(with_ctc, further) == ("sentiment",)


def test_a_frozen_encoder_drops_nothing(make_recipe: MakeRecipe) -> None:
    settings = load_settings(make_recipe({"encoder": {"layers": 2, "units": 8, "dropout": 0.5}}))
    model = SpeechModel(settings)
    frames, lengths = torch.randn(2, 9, settings.frontend.dimension), torch.tensor([9, 5])

    def varies() -> bool:
        model.train()
        return not torch.equal(model.states(frames, lengths), model.states(frames, lengths))

    assert varies()
    model.freeze_encoder()
    assert not varies()
    assert not model.states(frames, lengths).requires_grad
    assert model.emotion.transformer.training  # its dropout is as it should be


def load_settings(recipe: Recipe) -> Any:
    from sa2sr.config import ModelSettings

    assert recipe.finetuning is not None
    parts = {"frontend": recipe.frontend, "encoder": recipe.encoder}
    return ModelSettings(**parts, objectives=recipe.finetuning.objectives)


def test_the_encoder_may_have_a_rate_of_its_own(make_recipe: MakeRecipe, pretrained: RunFolder, tmp_path: Path) -> None:
    rates = {"rate": 0.01, "encoder_rate": 1e-6}
    recipe = make_recipe({"finetuning.optimiser": rates})
    run = train(recipe, "finetuning", tmp_path / "run", start_from=pretrained.path)
    assert run.history()[0]["rates"] == [1e-6, 0.01]
    before, after = weights(pretrained), weights(run)
    steps = run.history()[-1]["step"]
    moved = [float((after[name] - before[name]).abs().max()) for name in before if name.startswith("encoder.")]
    assert 0 < max(moved) < 1.5e-6 * steps  # Adam's steps are about as long as the rate


@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_warmup_and_cosine_are_those_of_torch(warmup: int) -> None:
    settings = Optimiser(rate=0.5, warmup_steps=warmup, schedule="cosine")
    planned = 30
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, planned - warmup)
    schedule: Any = cosine
    if warmup:
        linear = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: (step + 1) / warmup)
        optimiser.param_groups[0]["lr"] = 0.5 / warmup
        schedule = torch.optim.lr_scheduler.SequentialLR(optimiser, [linear, cosine], [warmup])
    for step in range(planned + 1):
        expected = optimiser.param_groups[0]["lr"]
        assert 0.5 * learning_rate_scale(step, planned, settings) == pytest.approx(expected, abs=1e-9), step
        optimiser.step()
        schedule.step()
    assert learning_rate_scale(planned + 10, planned, settings) == 0
    constant = Optimiser(warmup_steps=warmup)
    assert {learning_rate_scale(step, planned, constant) for step in range(max(0, warmup - 1), 40)} == {1.0}


def test_a_training_follows_the_schedule(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    optimiser = {"rate": 0.01, "encoder_rate": 0.002, "warmup_steps": 2, "schedule": "cosine", "accumulate": 2}
    recipe = make_recipe({"pretraining.optimiser": optimiser, "pretraining.max_epochs": 3})
    history = train(recipe, "pretraining", tmp_path / "run").history()
    assert [entry["step"] for entry in history] == [2, 4, 6]  # three batches an epoch, two a step
    cosine = [0.5 * (1 + math.cos(math.pi * done / 4)) for done in (1, 3)]  # at the fourth and the sixth step
    for entry, scale in zip(history, [1.0, *cosine], strict=True):
        assert entry["rates"] == pytest.approx([0.002 * scale, 0.01 * scale])


def test_another_end_of_a_cosine_is_told(
    make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(epochs: int, schedule: str) -> str:
        optimiser = {"rate": 0.01, "schedule": schedule}
        recipe = make_recipe({"pretraining.optimiser": optimiser, "pretraining.max_epochs": epochs})
        train(recipe, "pretraining", tmp_path / schedule)
        return capsys.readouterr().err

    for schedule in ("cosine", "constant"):
        told = [said(epochs, schedule) for epochs in (1, 1, 2)]
        wanted = [0, 0, 1 if schedule == "cosine" else 0]
        assert [each.count("max_epochs was 1 and is 2: the cosine") for each in told] == wanted


# --- Precision, and where frames come from ----------------------------------------------------------------------------


def test_bf16_is_close_to_fp32_and_keeps_whole_weights(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    histories = []
    for precision in ("fp32", "bf16"):
        # No dropout: of the same seed a GPU draws other masks in another precision.
        objectives = {"ctc": {}, "sentiment": {"weight": 20}, "emotion": {"dropout": 0}}
        changes = {"precision": precision, "objectives": objectives}
        recipe = make_recipe({f"pretraining.{key}": value for key, value in changes.items()})
        run = train(recipe, "pretraining", tmp_path / precision)
        histories.append(run.history())
        assert {tensor.dtype for tensor in weights(run).values()} == {torch.float32}
    for one, other in zip(*histories, strict=True):
        assert one["train"] != other["train"]
        assert one["train"] == pytest.approx(other["train"], rel=0.05)


def test_a_store_and_frames_on_the_fly_are_the_same_but_for_half_precision(
    make_recipe: MakeRecipe, on_the_cpu: bool, tmp_path: Path
) -> None:
    histories = []
    for source in ("store", "on-the-fly"):
        changes = {
            "features": {"source": source, "store": str(tmp_path / "store"), "workers": int(source == "store")},
            "augmentation": {"speeds": [0.9, 1.0, 1.1], "probability": 0.5, "time_width": 10},
        }
        recipe = make_recipe({f"pretraining.{key}": value for key, value in changes.items()})
        histories.append(train(recipe, "pretraining", tmp_path / source).history())
    for one, other in zip(*histories, strict=True):
        assert one["train"] == pytest.approx(other["train"], rel=2e-3)
        if on_the_cpu:  # TensorFloat-32 rounds to as many bits
            assert one["train"] != other["train"]


def test_processes_that_load_what_is_recorded_anew_change_nothing(
    make_recipe: MakeRecipe, on_the_cpu: bool, tmp_path: Path
) -> None:
    """On a CPU the training loads itself unless told otherwise, and for a GPU at most eight processes do."""
    histories = []
    for workers, living in ((0, range(1) if on_the_cpu else range(1, 9)), (2, range(2, 3))):
        changes = {
            "augmentation": {"recording": 0.7},
            "features.workers": workers,
            "features.store": str(tmp_path / "s"),
        }
        recipe = make_recipe({f"pretraining.{key}": value for key, value in changes.items()})
        trainer = Trainer(recipe, "pretraining", RunFolder(tmp_path / str(workers)), None)
        trainer.run()
        assert len(multiprocessing.active_children()) in living  # for as long as the training, not for an epoch
        histories.append(without_times(trainer.folder))
        del trainer
    assert histories[0] == histories[1]


def test_tensorboard_shows_the_history(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(make_recipe({"pretraining.tensorboard": True}), "pretraining", tmp_path / "run")
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    for name, of_entry in {
        "criterion": lambda entry: entry["criterion"],
        "train/ctc_loss": lambda entry: entry["train"]["ctc_loss"],
        "dev/auc": lambda entry: entry["dev"]["auc"],
        "dev/sentiment_loss": lambda entry: entry["dev"]["sentiment_loss"],
    }.items():
        shown = [(event.step, event.value) for event in events.Scalars(name)]
        assert shown == [(entry["epoch"], pytest.approx(of_entry(entry), rel=1e-6)) for entry in run.history()]


# --- What is refused --------------------------------------------------------------------------------------------------


def test_a_run_folder_is_for_one_recipe(
    make_recipe: MakeRecipe, pretrained: RunFolder, random_model: Callable[..., Path], tmp_path: Path
) -> None:
    run = train(make_recipe(), "pretraining", tmp_path / "run")
    before = contents(run.path)
    for key, value, shown in [
        ("pretraining.optimiser.rate", 0.5, r"pretraining\.optimiser\.rate: 0\.01 there, 0\.5 now"),
        ("seed", 3, "seed: 0 there, 3 now"),
        ("pretraining.objectives.emotion", {}, r"pretraining\.objectives\.emotion: None there"),
        ("pretraining.train", ["other.jsonl"], r"pretraining\.train"),
    ]:
        with pytest.raises(RecipeError, match=rf"holds a run of another recipe \({shown}.*another --out"):
            train(make_recipe({key: value}), "pretraining", run.path)
    with pytest.raises(RecipeError, match=r"stage: pretraining there, finetuning now"):
        train(make_recipe(), "finetuning", run.path)
    with pytest.raises(RecipeError, match=r"--encoder: None there, .*run now"):
        train(make_recipe(), "pretraining", run.path, start_from=pretrained.path)
    assert contents(run.path) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["pretrain", "scratch-small"],
            "recipe 'scratch-small' has no pretraining; it has finetuning ('sa2sr finetune')",
        ),
        (["finetune", "text"], "recipe 'text' has no finetuning; it has regression ('sa2sr regress')"),
        (
            ["regress", "sa2sr"],
            "recipe 'sa2sr' has no regression; it has pretraining ('sa2sr pretrain') and finetuning",
        ),
        (["finetune", "sa2sr", "finetuning=null"], "recipe 'sa2sr' has no finetuning; it has pretraining"),
        (["pretrain", "scratch", "pretraining.objectives.ctx=1"], "ctx: unknown key"),
        (
            ["pretrain", "sa2sr", "pretraining.objectives.ctx=1"],
            "sa2sr.yaml:\n  pretraining.objectives.ctx: unknown key",
        ),
    ],
)
def test_a_stage_that_a_recipe_lacks(
    arguments: list[str], message: str, manifests: tuple[Path, Path], tmp_path: Path, command: Callable[..., Any]
) -> None:
    sets = ["--train", str(manifests[0]), "--dev", str(manifests[1])]
    code, said = command(*arguments, *sets, "--out", str(tmp_path / "run"))
    assert code == 2
    assert message in said
    assert not (tmp_path / "run").exists()


def test_other_data_under_the_same_name_is_refused(make_recipe: MakeRecipe, tone: MakeCut, tmp_path: Path) -> None:
    recipe = make_recipe({"pretraining.dev": [str(tmp_path / "dev.jsonl")]})
    write_cuts(tmp_path / "dev.jsonl", map(tone, range(3)))
    run = train(recipe, "pretraining", tmp_path / "run")
    write_cuts(tmp_path / "dev.jsonl", map(tone, range(6)))
    with pytest.raises(ModelError, match=r"checkpoint\.safetensors: was made from other data"):
        train(recipe, "pretraining", run.path)


def test_one_training_at_a_time_in_a_folder(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe({"pretraining.max_epochs": 1})
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"), pytest.raises(UserError, match="another training is at work"):
        train(recipe, "pretraining", tmp_path / "run")
    with pytest.raises(CorpusError) as failure:
        train(make_recipe({"pretraining.dev": []}), "pretraining", tmp_path / "run")
    assert failure  # which holds on to the frames of the training that failed, though not to the folder
    train(recipe, "pretraining", tmp_path / "run")


def test_a_history_that_has_lost_lines(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run = train(make_recipe(), "pretraining", tmp_path / "run")
    run.history_file.write_text(run.history_file.read_text().splitlines(keepends=True)[0])
    with pytest.raises(ModelError, match=r"history\.jsonl: has lost lines: 1 are left of 2; remove the run folder"):
        train(make_recipe(), "pretraining", run.path)


@pytest.mark.parametrize("name", ["train", "dev"])
def test_missing_sets(name: str, make_recipe: MakeRecipe, tmp_path: Path, command: Callable[..., Any]) -> None:
    (tmp_path / "recipe.yaml").write_text(to_yaml(make_recipe({f"pretraining.{name}": []})))
    code, error = command("pretrain", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    assert code == 2
    assert error == (
        f"sa2sr: no {name} manifest is given; use --{name} FILE, or the key {name} of the recipe's stage\n"
    )
    code, error = command(
        "pretrain", tmp_path / "recipe.yaml", "--out", tmp_path / "run", f"--{name}", tmp_path / "none.jsonl"
    )
    assert code == 2
    assert "none.jsonl: does not exist" in error
    assert "Traceback" not in error


def test_a_development_set_must_decide(make_recipe: MakeRecipe, tone: MakeCut, tmp_path: Path) -> None:
    dev = tmp_path / "dev.jsonl"
    neutral = {"custom": {"sentiment": [0.2, 0.5, 0.3]}}
    cases = [
        ("pretraining", neutral, "'sentiment': all of its sentiment labels are neutral, and an AUC needs two classes"),
        ("pretraining", {"custom": None}, "the dev set has no label for 'sentiment'; run 'sa2sr label' on it first"),
        ("pretraining", {"text": None}, "the dev set has no label for 'ctc'; transcripts are needed"),
        ("finetuning", {"ratings": {"valence": 3.0}}, "'emotion': none of its ratings differ"),
        ("finetuning", {"ratings": None}, "the dev set: none of 6 utterances can be used: 6 x no label for emotion"),
    ]
    for number, (stage, labels, reason) in enumerate(cases):
        write_cuts(dev, [tone(i, **labels) for i in range(6)])
        recipe = make_recipe({f"{stage}.dev": [str(dev)]})
        with pytest.raises(CorpusError, match=reason) as failure:
            train(recipe, stage, tmp_path / str(number))
        assert str(failure.value).startswith(f"{dev}: ")
        assert not (tmp_path / str(number) / "history.jsonl").exists()
    # Transcripts alone are enough for ASR, and ratings for emotions, whatever else the encoder once learnt.
    write_cuts(dev, [tone(i, **neutral) for i in range(6)])
    asr = make_recipe({"pretraining.dev": [str(dev)], "pretraining.objectives": {"ctc": 1, "sentiment": 0}})
    assert "auc" not in train(asr, "pretraining", tmp_path / "asr").history()[0]["dev"]


def test_an_encoder_must_be_of_the_recipe(
    make_recipe: MakeRecipe, pretrained: RunFolder, tmp_path: Path, command: Callable[..., Any]
) -> None:
    for change, shown in [
        ({"encoder.units": 9}, "encoder.units = 8, but the recipe 'tiny' has 9"),
        ({"encoder.layers": 2}, "encoder.layers = 1, but the recipe 'tiny' has 2"),
        ({"frontend.filters": 13}, "frontend.filters = 12, but the recipe 'tiny' has 13"),
    ]:
        with pytest.raises(ModelError, match=f"was trained with {shown}"):
            train(make_recipe(change), "finetuning", tmp_path / "run", start_from=pretrained.path)
    (tmp_path / "recipe.yaml").write_text(to_yaml(make_recipe()))
    code, error = command(
        "finetune", tmp_path / "recipe.yaml", "--encoder", tmp_path / "none", "--out", tmp_path / "run"
    )
    assert (code, error.splitlines()[-1].startswith(f"sa2sr: {tmp_path / 'none'}: does not exist")) == (2, True)


def test_fine_tuning_without_the_encoder_that_a_recipe_is_for_is_said(
    make_recipe: MakeRecipe, pretrained: RunFolder, tmp_path: Path, command: Callable[..., Any]
) -> None:
    """And done: it may be meant."""
    (tmp_path / "recipe.yaml").write_text(to_yaml(make_recipe({"finetuning.max_epochs": 1})))
    (tmp_path / "scratch.yaml").write_text(f"extends: {tmp_path / 'recipe.yaml'}\npretraining: null\n")
    warning = (
        "recipe 'tiny' is for an encoder that 'sa2sr pretrain' has trained, and none is named: this one starts at "
        "random; name one with --encoder RUN, or take a recipe without pre-training, such as 'scratch'"
    )
    outs = (tmp_path / str(number) for number in range(3))
    code, said = command("finetune", tmp_path / "recipe.yaml", "--out", next(outs))
    assert (code, said.count(warning)) == (0, 1)
    for arguments in (["recipe.yaml", "--encoder", pretrained.path], ["scratch.yaml"]):
        code, said = command("finetune", tmp_path / arguments[0], *arguments[1:], "--out", next(outs))
        assert (code, "without pre-training" in said) == (0, False)


@pytest.mark.parametrize(
    ("recipe", "start"), [("sa2sr", "at random"), ("sa2sr-wavlm", "from microsoft/wavlm-base-plus")]
)
def test_what_fine_tuning_starts_from_without_a_pretrained_encoder(
    recipe: str, start: str, tmp_path: Path, command: Callable[..., Any]
) -> None:
    code, said = command("finetune", recipe, "--out", tmp_path / "run")
    assert (code, f"this one starts {start}; " in said) == (2, True)  # there is nothing to train on


# --- Audio that is broken ---------------------------------------------------------------------------------------------


@pytest.fixture
def own_audio(tone: MakeCut, tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    """A manifest of a dozen utterances, and their files, which a test may break."""
    cuts, files = [tone(number) for number in range(12)], {}
    for cut in cuts:
        source = cut.recording.sources[0]
        files[cut.id] = tmp_path / f"{cut.id}.wav"
        files[cut.id].write_bytes(Path(source.source).read_bytes())
        source.source = str(files[cut.id])
    write_cuts(tmp_path / "train.jsonl", cuts)
    return tmp_path / "train.jsonl", files


@pytest.mark.parametrize("source", ["store", "on-the-fly"])
def test_audio_that_cannot_be_read_is_reported_and_the_rest_goes_on(
    source: str,
    make_recipe: MakeRecipe,
    own_audio: tuple[Path, dict[str, Path]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    manifest, files = own_audio
    files["u3"].write_bytes(b"no audio")
    files["u5"].unlink()
    features = {"source": source, "store": str(tmp_path / "store"), "workers": int(source == "store")}
    recipe = make_recipe({"pretraining.train": [str(manifest)], "pretraining.features": features})
    run = train(recipe, "pretraining", tmp_path / "run")
    error = capfd.readouterr().err
    assert sum(line.startswith("left out: ") for line in error.splitlines()) == 2  # in two epochs
    assert f"left out: {files['u3']}: is not audio" in error
    assert f"left out: {files['u5']}: does not exist" in error
    assert [entry["step"] for entry in run.history()] == [3, 6]
    hours = sum(cut.duration for cut in read_cuts(manifest) if cut.id not in ("u3", "u5")) / 3600
    assert run.history()[0]["speech_hours"] == pytest.approx(hours, abs=1e-4)
    for path in files.values():
        path.unlink(missing_ok=True)
    with pytest.raises(
        CorpusError, match=r"the audio of none of 12 utterances|train\.jsonl: nothing can be trained on"
    ):
        train(recipe, "pretraining", tmp_path / "other")


def test_audio_of_the_development_set_that_cannot_be_read(
    make_recipe: MakeRecipe, own_audio: tuple[Path, dict[str, Path]], tmp_path: Path
) -> None:
    manifest, files = own_audio
    features = {"source": "on-the-fly"}
    recipe = make_recipe({"pretraining.dev": [str(manifest)], "pretraining.features": features})
    for name in ("u1", "u2", "u4", "u5", "u7", "u8", "u10", "u11"):
        files[name].unlink()  # all that are left are negative
    with pytest.raises(CorpusError, match=r"train\.jsonl: auc cannot be computed: too much of the audio"):
        train(recipe, "pretraining", tmp_path / "run")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of overflows
def test_a_loss_that_is_not_finite_names_its_utterances_and_leaves_a_run_to_go_on_with(
    make_recipe: MakeRecipe,
    own_audio: tuple[Path, dict[str, Path]],
    tmp_path: Path,
    command: Callable[..., Any],
) -> None:
    manifest, files = own_audio
    changes = {
        "pretraining.train": [str(manifest)],
        "pretraining.features": {"source": "on-the-fly"},
        "pretraining.batches": {"utterances": 2},
        "pretraining.checkpoint_seconds": 1e-9,
        "pretraining.optimiser.clip": 1.0,
    }
    recipe = make_recipe(changes)
    untroubled = train(recipe, "pretraining", tmp_path / "untroubled")
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))

    good = files["u7"].read_bytes()
    samples, rate = soundfile.read(files["u7"])
    soundfile.write(files["u7"], np.sign(samples) * 1e38, rate, subtype="FLOAT")  # finite, but its energy is not
    for _ in range(2):
        code, error = command("pretrain", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
        assert code == 2
        assert "Traceback" not in error
        assert "the loss is not finite (ctc " in error
        names = error.split("utterances of the batch: ")[1].split(".")[0].split(", ")
        assert "u7" in names
        assert len(names) == 2
    assert RunFolder(tmp_path / "run").checkpoint.exists()  # u7 is not in the first batch

    files["u7"].write_bytes(good)
    code, error = command("pretrain", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    assert code == 0, error
    run = RunFolder(tmp_path / "run")
    assert without_times(run) == without_times(untroubled)
    assert all(torch.equal(tensor, weights(untroubled)[name]) for name, tensor in weights(run).items())


def test_a_rate_too_high_is_told(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe({"pretraining.optimiser.rate": 1e38})
    with pytest.raises(UserError, match=r"step \d: the loss is not finite .* a lower pretraining\.optimiser\.rate"):
        train(recipe, "pretraining", tmp_path / "run")


# --- Models that came before ------------------------------------------------------------------------------------------


def test_finetuning_keeps_what_the_encoder_learnt(
    make_recipe: MakeRecipe, pretrained: RunFolder, manifests: tuple[Path, Path], tmp_path: Path
) -> None:
    run = train(make_recipe(), "finetuning", tmp_path / "run", start_from=pretrained.model)
    model = load_model(run.path)
    assert list(model.tasks()) == ["ctc", "sentiment", "emotion"]
    assert list(model.trained_tasks()) == ["emotion"]
    assert model.settings.scale is not None
    ratings = np.array([list(cut.supervisions[0].custom.values())[1:4] for cut in read_cuts(manifests[0])], float)
    assert model.emotion.rating_mean.tolist() == pytest.approx(ratings.mean(0).tolist(), rel=1e-5)
    assert model.emotion.rating_spread.tolist() == pytest.approx(ratings.std(0).tolist(), rel=1e-5)


def test_a_head_of_another_shape_begins_anew(make_recipe: MakeRecipe, pretrained: RunFolder, tmp_path: Path) -> None:
    objectives = Objectives.model_validate({"ctc": 1, "sentiment": {"weight": 20, "units": 5}})
    recipe = make_recipe({"pretraining.objectives": objectives.model_dump(), "pretraining.max_epochs": 1})
    run = train(recipe, "pretraining", tmp_path / "run", start_from=pretrained.path)
    first = run.history()[0]["train"]
    assert first["ctc_loss"] < pretrained.history()[0]["train"]["ctc_loss"] / 2  # which goes on
    save_model(load_model(run.path), tmp_path / "again")
    assert load_model(tmp_path / "again").settings == load_model(run.path).settings


def test_pretraining_goes_on_from_another_on_the_command_line(
    make_recipe: MakeRecipe, pretrained: RunFolder, tmp_path: Path, command: Callable[..., Any]
) -> None:
    (tmp_path / "recipe.yaml").write_text(to_yaml(make_recipe({"pretraining.max_epochs": 1})))
    out = tmp_path / "run"
    assert command("pretrain", tmp_path / "recipe.yaml", "--encoder", pretrained.path, "--out", out)[0] == 0
    assert RunFolder(out).history()[0]["dev"]["cer"] <= pretrained.history()[0]["dev"]["cer"]
    assert RunFolder(out).history()[0]["train"]["ctc_loss"] < pretrained.history()[0]["train"]["ctc_loss"] / 2


@pytest.mark.parametrize(
    ("arguments", "command_line"),
    [
        (["/venv/bin/sa2sr", "pretrain", "my recipe.yaml"], "sa2sr pretrain 'my recipe.yaml'"),
        (["/src/sa2sr/__main__.py", "study", "x"], "sa2sr study x"),
        (["train_all.py"], "train_all.py"),
    ],
)
def test_the_command_of_a_run_is_what_a_shell_takes(
    arguments: list[str], command_line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", arguments)
    assert environment()["command"] == command_line
