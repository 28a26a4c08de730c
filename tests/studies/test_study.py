"""Studies: what is shared, and that killed and failing ones come to the same results as others."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from sa2sr.cuts import read_cuts, write_cuts
from sa2sr.errors import RecipeError
from sa2sr.speech.utterances import read_utterances
from sa2sr.studies.study_cell import draw_share
from sa2sr.studies.study_plan import Cell, make_plan
from sa2sr.studies.study_settings import load_study, shipped_studies

StudyFile = Callable[..., Path]
SWEEPS = {
    "lambda": {"key": "pretraining.objectives.sentiment.weight", "values": [5, 20], "systems": ["sa2sr"]},
    "labels": {"labels": [0.5, 1.0], "systems": ["none"]},
}


def command(study: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "sa2sr", "study", str(study), "--out", str(out), *more]


def run(study: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(study, out, *more), capture_output=True, text=True, timeout=300)


def names(study: Path, out: Path) -> list[str]:
    plan = make_plan(load_study(study), out)
    assert not plan.problems
    return [str(folder.relative_to(out)) for folder in plan.cells]


def cells(study: Path, out: Path) -> list[Cell]:
    return list(make_plan(load_study(study), out).cells.values())


def table(out: Path, name: str) -> list[dict[str, str]]:
    with (out / "report" / "tables" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- The plan ---------------------------------------------------------------------------------------------------------


def test_pretrainings_are_shared(study_file: StudyFile, tmp_path: Path) -> None:
    recipe = str(tmp_path / "tiny.yaml")
    systems = {
        "none": str(tmp_path / "tiny-scratch.yaml"),
        "sa2sr": recipe,
        "sa2sr-frozen": {"recipe": recipe, "frozen": True},
        "faster": {"recipe": recipe, "changes": ["finetuning.optimiser.rate=0.02"], "seeds": [1]},
        "asr": {"recipe": recipe, "changes": ["pretraining.objectives.sentiment=null"], "seeds": [0]},
    }
    study = study_file(systems=systems, seeds=[0, 1], sweeps=SWEEPS)
    out = tmp_path / "out"
    assert sorted(name for name in names(study, out) if name.startswith("pretrained")) == [
        "pretrained/asr-seed0",
        "pretrained/sa2sr-lambda-5-seed0",
        "pretrained/sa2sr-lambda-5-seed1",
        "pretrained/sa2sr-seed0",
        "pretrained/sa2sr-seed1",
    ]
    tuned = {cell.folder.name: cell for cell in cells(study, out) if cell.stage == "finetuning"}
    assert sorted(tuned) == sorted(
        [f"{system}-seed{seed}" for system in ("none", "sa2sr", "sa2sr-frozen") for seed in (0, 1)]
        + ["faster-seed1", "asr-seed0", "sa2sr-lambda-5-seed0", "sa2sr-lambda-5-seed1"]
        + ["none-labels-0-5-seed0", "none-labels-0-5-seed1"]
    )
    encoder = {name: cell.encoder and str(cell.encoder.relative_to(out)) for name, cell in tuned.items()}
    assert encoder["none-seed0"] is None
    assert encoder["sa2sr-seed1"] == encoder["sa2sr-frozen-seed1"] == encoder["faster-seed1"]
    assert encoder["sa2sr-lambda-5-seed1"] == "pretrained/sa2sr-lambda-5-seed1"
    assert [tuned[f"sa2sr{kind}-seed0"].recipe.finetuning.freeze_encoder for kind in ("", "-frozen")] == [False, True]  # type: ignore[union-attr]
    places = make_plan(load_study(study), out).places
    of_base = {(place.sweep, place.value) for place in places[tuned["sa2sr-seed0"].folder]}
    assert of_base == {(None, None), ("lambda", 20)}  # the recipe's own weight is a point of the sweep


def test_corpora_and_tests_are_not_lost_where_trainings_are_the_same(
    study_file: StudyFile, tmp_path: Path, tones: dict[str, Path]
) -> None:
    train, dev, test = (str(tones[part]) for part in ("train", "dev", "test"))
    corpora = {name: {"train": [train], "dev": [dev], "tests": {name: [test]}} for name in ("one", "two")}
    tuned = [c for c in cells(study_file(finetuning=corpora), tmp_path) if c.stage == "finetuning"]
    assert sorted((c.folder.parent.name, *c.tests) for c in tuned) == [("one", "one")] * 2 + [("two", "two")] * 2
    recipe = str(tmp_path / "tiny.yaml")
    heard = {"train": train, "dev": dev}
    systems = {
        "a": {"recipe": recipe, "pretraining": {**heard, "tests": {"seen": train}}},
        "b": {"recipe": recipe, "pretraining": {**heard, "tests": {"unseen": test}}},
        "c": {"recipe": recipe, "pretraining": {**heard, "tests": {"unseen": dev}}},
    }
    first, other = (c for c in cells(study_file(systems=systems), tmp_path) if c.stage == "pretraining")
    assert ([*first.tests], other.tests) == (["seen", "unseen"], {"unseen": (Path(dev),)})
    assert {c.encoder for c in cells(study_file(systems=systems), tmp_path) if c.encoder} <= {
        first.folder,
        other.folder,
    }


def test_what_a_cell_depends_on(study_file: StudyFile, tmp_path: Path, tones: dict[str, Path]) -> None:
    def digests(**changes: Any) -> dict[str, str]:
        return {cell.folder.name + cell.stage: cell.digest for cell in cells(study_file(**changes), tmp_path)}

    before = digests()
    assert digests() == before
    unchanged = ["pretraining.checkpoint_seconds=5", "finetuning.features.source=on-the-fly"]
    assert digests(changes=unchanged, features=str(tmp_path / "store")) == before
    of_finetuning = digests(changes=["finetuning.optimiser.rate=0.5"])
    assert of_finetuning["sa2sr-seed0pretraining"] == before["sa2sr-seed0pretraining"]
    assert of_finetuning["sa2sr-seed0finetuning"] != before["sa2sr-seed0finetuning"]
    of_pretraining = digests(changes=["pretraining.optimiser.rate=0.5"])
    assert all(of_pretraining[name] != before[name] for name in before if "none" not in name)
    assert of_pretraining["none-seed0finetuning"] == before["none-seed0finetuning"]
    assert not {*digests(seeds=[1]).values()} & {*before.values()}
    others = {"train": str(tones["test"]), "dev": str(tones["dev"])}
    heard_other = digests(pretraining=others)
    assert heard_other["sa2sr-seed0finetuning"] != before["sa2sr-seed0finetuning"]


def test_regressions_share_pretrainings_and_changes_reach_the_stages_that_are_there(
    study_file: StudyFile, tmp_path: Path
) -> None:
    systems = regressions(tmp_path)
    changes = ["finetuning.max_epochs=1", "pretraining.max_epochs=1", "regression.regressor=svr"]
    planned = cells(study_file(systems=systems, changes=changes, seeds=[3]), tmp_path / "out")
    assert [(cell.folder.name, cell.stage) for cell in planned] == [
        ("sa2sr-seed3", "pretraining"),
        ("sa2sr-seed3", "finetuning"),
        ("words-seed3", "regression"),
        ("heard-seed3", "regression"),
    ]
    pretraining, finetuning, words, heard = planned
    assert heard.encoder == finetuning.encoder == pretraining.folder
    assert words.encoder is None
    assert heard.recipe.regression is not None
    assert heard.recipe.regression.regressor == "svr"
    assert finetuning.recipe.finetuning is not None
    assert finetuning.recipe.finetuning.max_epochs == 1
    other = cells(study_file(systems=systems, changes=changes[:2], seeds=[3]), tmp_path / "out")
    assert [a.digest == b.digest for a, b in zip(planned, other, strict=True)] == [True, True, False, False]


def test_regressions_on_other_features_are_other_cells(study_file: StudyFile, tmp_path: Path) -> None:
    names = ["text-sentiment", "text-tfidf", "text", "functionals"]
    found = cells(study_file(systems={name: name for name in names}), tmp_path)
    assert [cell.recipe.name for cell in found] == names


@pytest.mark.parametrize("kind", ["files", "language_model", "lexicon"])
def test_files_that_a_recipe_names_belong_to_its_cell(study_file: StudyFile, tmp_path: Path, kind: str) -> None:
    own = tmp_path / "own.txt"
    text = {
        "files": {"source": "file", "files": [str(own)]},
        "language_model": {"source": "ctc", "beam": 5, "language_model": str(own)},
        "lexicon": {"source": "ctc", "beam": 5, "lexicon": str(own)},
    }[kind]
    recipe = {"extends": "tiny.yaml", "name": "x", "finetuning": None}
    (tmp_path / "x.yaml").write_text(json.dumps(recipe | {"regression": {"features": {"tfidf": {}}, "text": text}}))
    study = study_file(systems={"x": str(tmp_path / "x.yaml"), "none": str(tmp_path / "tiny-scratch.yaml")})

    def digests() -> dict[str, str]:
        return {f"{cell.stage} {cell.folder.name}": cell.digest for cell in cells(study, tmp_path / "out")}

    own.write_text("id,text\nu1,ba\n")
    before = digests()
    assert digests() == before
    own.write_text("id,text\nu1,so\n")
    after = digests()
    assert [name for name in before if before[name] != after[name]] == ["regression x-seed0"]
    own.unlink()
    assert "own.txt: cannot be read" in make_plan(load_study(study), tmp_path / "out").problems["tones/x-seed0"]


def regressions(folder: Path) -> dict[str, str]:
    """Systems that read: references, and what the pre-trained model hears; beside one that does not."""
    (folder / "words.yaml").write_text("name: words\nregression: {features: {tfidf: {fewest: 1}, functionals: {}}}\n")
    (folder / "heard.yaml").write_text(
        "extends: tiny.yaml\nname: heard\nfinetuning: null\n"
        "regression: {features: {tfidf: {unit: character, fewest: 1}}, text: {source: ctc, learn_from: reference}}\n"
    )
    return {
        name: str(folder / f"{file}.yaml") for name, file in (("sa2sr", "tiny"), ("words", "words"), ("heard", "heard"))
    }


def test_a_study_of_regressions(study_file: StudyFile, tmp_path: Path) -> None:
    enough_to_hear_something = ["pretraining.max_epochs=12", "pretraining.optimiser.rate=0.03"]
    study = study_file(systems=regressions(tmp_path), changes=enough_to_hear_something)
    out = tmp_path / "out"
    answer = run(study, out)
    assert answer.returncode == 0, answer.stderr
    concordances = {row["system"]: float(row["valence"].split()[0]) for row in table(out, "emotion-ccc")}
    assert concordances["words"] > 0.8
    assert {row["system"] for row in table(out, "emotion-differences")} == {"words", "heard"}
    errors = {row["system"]: row["wer"] for row in table(out, "emotion-other")}
    assert errors["words"] == errors["sa2sr"] == ""  # reads references; its encoder has left the recogniser behind
    assert 0 <= float(errors["heard"]) <= 1
    costs = {row["system"]: row for row in table(out, "costs")}
    weights = load_file(out / "finetuned" / "tones" / "words-seed0" / "model" / "model.safetensors")
    counted = [tensor.size for name, tensor in weights.items() if name.startswith("regression.")]
    assert int(costs["words"]["parameters"]) == sum(counted) > 0
    assert int(costs["heard"]["parameters"]) > int(costs["words"]["parameters"])  # with its recogniser
    encoders = {row["run"]: row["encoder"] for row in table(out, "finetuning")}
    assert encoders["words"] == "none: linear regression"
    assert "0 to do" in run(study, out).stderr


def test_what_cannot_be_planned_is_named_and_the_rest_is_planned(study_file: StudyFile, tmp_path: Path) -> None:
    systems = {
        "none": str(tmp_path / "tiny-scratch.yaml"),
        "lost": "no-such-recipe",
        "wrong": {"recipe": str(tmp_path / "tiny.yaml"), "changes": ["pretraining.no_such_key=1"]},
    }
    sweeps = {"rate": {"key": "finetuning.optimiser.rate", "values": [-1, 0.5], "systems": ["none"]}}
    plan = make_plan(load_study(study_file(systems=systems, sweeps=sweeps)), tmp_path)
    assert [folder.name for folder in plan.cells] == ["none-seed0", "none-rate-0-5-seed0"]
    assert list(plan.problems) == ["lost", "wrong", "none-rate--1-seed0"]
    assert "no-such-recipe" in plan.problems["lost"]
    assert "no_such_key" in plan.problems["wrong"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"systems": {}}, "systems"),
        ({"systems": {"a": {"recipe": "x", "frozn": True}}}, "systems.a.frozn: unknown key; allowed here: recipe"),
        ({"baseline": "asr"}, "there is no system 'asr'; systems: none, sa2sr"),
        ({"comparisons": {"sa2sr": "asr"}}, "there is no system 'asr'"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [-1]}, "seeds.0"),
        ({"systems": {"../up": "tiny"}}, "systems"),
        ({"sweeps": {"x": {"labels": [0.5], "key": "seed", "values": [1]}}}, "needs key and values, or labels"),
        ({"sweeps": {"x": {"labels": [1.5]}}}, "sweeps.x.labels.0"),
        ({"finetuning": {"c": {"train": "a", "dev": "b", "tests": {}}}}, "finetuning.c.tests"),
        ({"grid": 1}, "grid: unknown key"),
    ],
)
def test_mistakes_in_a_study_are_explained(study_file: StudyFile, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_study(study_file(**changes))
    assert message in str(caught.value)


def test_shipped_studies_can_be_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in shipped_studies():
        study = load_study(name)
        sets = [s for s in (study.pretraining, *study.finetuning.values()) if s is not None]
        for path in {p for s in sets for p in (*s.train, *s.dev)}:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        plan = make_plan(study, tmp_path / "out")
        assert not plan.problems
        assert {place.system for places in plan.places.values() for place in places} == {*study.systems}


# --- Whole studies ----------------------------------------------------------------------------------------------------


def results(out: Path) -> dict[str, bytes]:
    """What must not depend on how often a study was interrupted."""
    kept = ("model.safetensors", "predictions.csv")
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.name in kept}
    for name in ("emotion-ccc", "emotion-seeds", "emotion-differences", "sweep-labels-tones-unseen", "speech-scores"):
        path = out / "report" / "tables" / f"{name}.csv"
        found[name] = path.read_bytes() if path.exists() else b""
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tones: dict[str, Path]) -> Any:
    """A study of two systems, one that fails in training, and a sweep: its file, its folder, what the command said."""
    from tests.studies.conftest import write_study

    folder = tmp_path_factory.mktemp("study")
    recipe = str(folder / "tiny.yaml")
    study = write_study(
        folder,
        tones,
        systems={
            "none": str(folder / "tiny-scratch.yaml"),
            "sa2sr": recipe,
            "diverging": {"recipe": recipe, "changes": ["pretraining.optimiser.rate=1.0e+38"]},
        },
        comparisons={"none": "sa2sr"},
        sweeps={"labels": {"labels": [0.5, 1.0], "systems": ["none"]}},
        pretraining={
            "train": str(tones["train"]),
            "dev": str(tones["dev"]),
            "tests": {"heard": str(tones["test"])},
        },
    )
    answer = run(study, folder / "whole")
    return study, folder / "whole", answer


def test_a_cell_that_fails_is_reported_and_the_rest_goes_on(whole: Any) -> None:
    _, out, answer = whole
    assert answer.returncode == 1, answer.stderr
    failed = json.loads((out / "failures.json").read_text())
    assert list(failed) == ["pretrained/diverging-seed0", "finetuned/tones/diverging-seed0"]
    assert "not finite" in failed["pretrained/diverging-seed0"]
    assert "needs " in failed["finetuned/tones/diverging-seed0"]
    for name, reason in failed.items():
        assert (out / name / "failure.txt").read_text() == reason + "\n"
        assert f"{name}: FAILED" in answer.stderr
    assert "4 cells are done, 2 failed" in answer.stdout
    assert "of 6]" in answer.stderr
    assert [row["system"] for row in table(out, "emotion-ccc")] == ["none", "sa2sr"]
    assert [row["system"] for row in table(out, "speech-scores")] == ["sa2sr"]
    assert [row["value"] for row in table(out, "sweep-labels-tones-unseen")] == ["50 %", "100 %"]
    costs = {row["system"]: row for row in table(out, "costs")}
    weights = load_file(out / "finetuned" / "tones" / "sa2sr-seed0" / "model" / "model.safetensors")
    counted = [w for name, w in weights.items() if name.startswith("encoder.") or "emotion" in name]
    assert len(counted) < len(weights)  # heads of the pre-training came along
    assert int(costs["sa2sr"]["parameters"]) == int(costs["none"]["parameters"]) == sum(w.size for w in counted)
    assert (costs["none"]["pretraining_minutes"], costs["sa2sr"]["pretraining_minutes"] != "") == ("", True)
    told = json.loads((out / "finetuned/tones/none-seed0/evaluation/unseen/metrics.json").read_text())
    assert float(costs["none"]["prediction_real_time"]) > 0
    assert told["seconds"] > 0
    log = (out / "pretrained" / "diverging-seed0" / "log.txt").read_text()
    assert "not finite" in log
    environment = json.loads((out / "finetuned" / "tones" / "none-seed0" / "environment.json").read_text())
    assert environment["threads"] == 1


def test_a_share_of_several_corpora_keeps_them_apart(
    study_file: StudyFile, tones: dict[str, Path], tmp_path: Path
) -> None:
    """Cuts that name no corpus are of that of their folder, which a drawn manifest does not have."""
    cuts, named = [*read_cuts(tones["train"])], [*read_cuts(tones["dev"])]
    for cut in named:
        cut.supervisions[0].custom["corpus"] = "own"
    write_cuts(tmp_path / "one" / "train.jsonl", cuts[:6])
    write_cuts(tmp_path / "two" / "train.jsonl", cuts[6:])
    write_cuts(tmp_path / "three" / "train.jsonl", named)
    paths = [str(tmp_path / name / "train.jsonl") for name in ("one", "two", "three")]
    sets = {"train": paths, "dev": str(tones["dev"]), "tests": {"unseen": str(tones["test"])}}
    sweeps = {"labels": {"labels": [0.75], "systems": ["none"]}}
    study = study_file(finetuning={"joint": sets}, sweeps=sweeps)
    (cell,) = [cell for cell in cells(study, tmp_path / "out") if cell.drawn is not None]
    draw_share(cell)
    whole = {u.name: u.corpus.name for u in read_utterances(paths).utterances}
    drawn = {u.name: u.corpus.name for u in read_utterances([cell.drawn]).utterances}
    assert {*drawn.values()} == {"one", "two", "own"}
    assert drawn == {name: whole[name] for name in drawn}


def test_a_share_of_the_labels(whole: Any, tones: dict[str, Path]) -> None:
    _, out, _ = whole
    (drawn,) = (out / "labels").glob("*.jsonl.gz")
    everything = [cut.id for cut in read_cuts(tones["train"])]
    chosen = [cut.id for cut in read_cuts(drawn)]
    assert len(chosen) == len({*chosen}) == len(everything) // 2
    assert chosen == [name for name in everything if name in chosen]


def test_killed_twice_a_study_comes_to_the_same_results(whole: Any, tmp_path: Path) -> None:
    study, reference, _ = whole
    out = tmp_path / "out"
    for number, (seen, number_signal) in enumerate(
        [
            ("pretrained/sa2sr-seed0/checkpoint.safetensors", signal.SIGKILL),
            ("finetuned/*/sa2sr*/history.jsonl", signal.SIGINT),
        ]
    ):
        process = subprocess.Popen(command(study, out, "--jobs", "2"), stderr=subprocess.PIPE, text=True)
        while not list(out.glob(seen)):
            assert process.poll() is None, (number, process.communicate())
            time.sleep(0.002)
        process.send_signal(number_signal)
        process.wait(60)
        assert process.returncode in (-signal.SIGKILL, 130)
    (begun,) = (out / "finetuned" / "tones").glob("sa2sr*")
    for name in ("done.json", "evaluation/unseen/predictions.csv"):  # as if killed while it wrote these too
        path = begun / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / f".{path.name}.half{path.suffix}").write_text("half of it")
    answer = run(study, out, "--jobs", "2")
    assert answer.returncode == 1, answer.stderr
    ours, theirs = results(out), results(reference)
    assert ours.keys() == theirs.keys()
    assert len([name for name in ours if name.endswith("predictions.csv")]) == 4
    for name, content in ours.items():
        assert content == theirs[name], name
    left = [path for path in out.rglob(".*") if path.suffix != ".lock" and path.name != ".lock"]
    assert not left, "temporary files of killed processes"


def test_what_is_done_is_skipped_and_a_folder_of_another_training_left_alone(whole: Any) -> None:
    study, out, _ = whole
    values = json.loads(study.read_text())
    values["systems"] = {name: values["systems"][name] for name in ("none", "sa2sr")}
    changed = study.parent / "changed.yaml"
    changed.write_text(json.dumps(values | {"changes": ["finetuning.optimiser.rate=0.5"], "sweeps": {}}))
    before = results(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("model/*")}
    answer = run(changed, out)
    assert answer.returncode == 1, answer.stderr
    assert "3 cells, 1 done already; 0 to do" in answer.stderr
    for name in ("none-seed0", "sa2sr-seed0"):
        assert f"{out}/finetuned/tones/{name}: holds a training with another recipe.finetuning" in answer.stderr
    after = results(out)
    assert all(after[name] == content for name, content in before.items() if "/" in name)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("model/*")} == times


def test_what_failed_is_tried_again(whole: Any) -> None:
    study, out, _ = whole
    values = json.loads(study.read_text())
    values["systems"] = {"diverging": values["systems"]["diverging"]}
    alone = study.parent / "alone.yaml"
    alone.write_text(json.dumps(values | {"comparisons": {}, "sweeps": {}}))
    answer = run(alone, out)
    assert answer.returncode == 2
    assert "2 cells, 0 done already; 2 to do" in answer.stderr
    assert "pretrained/diverging-seed0: FAILED" in answer.stderr
    assert "nothing could be done" in answer.stderr
    assert (out / "pretrained" / "diverging-seed0" / "log.txt").read_text().count("not finite") == 2


def test_a_comparison_with_a_system_that_failed_is_left_out(study_file: StudyFile, tmp_path: Path) -> None:
    systems = {"lost": "no-such-recipe", "none": str(tmp_path / "tiny-scratch.yaml")}
    study = study_file(systems=systems, comparisons={"none": "lost"})  # the baseline is the first
    answer = run(study, tmp_path / "out")
    assert answer.returncode == 1, answer.stderr
    assert [row["system"] for row in table(tmp_path / "out", "emotion-ccc")] == ["none"]
    text = (tmp_path / "out" / "report" / "report.md").read_text(encoding="utf-8")
    assert "lost: has no results" in text
    assert "none minus lost: lost has no results" in text


def test_nothing_done_is_an_error(study_file: StudyFile, tmp_path: Path) -> None:
    answer = run(study_file(systems={"lost": "no-such-recipe"}), tmp_path / "out")
    assert answer.returncode == 2
    assert "nothing could be done" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert run(tmp_path / "no-such.yaml", tmp_path / "out").returncode == 2
