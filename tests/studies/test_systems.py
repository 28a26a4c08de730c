"""Several seeds pooled to one system, beside scipy, torchmetrics and loops of numpy."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.functional.regression import concordance_corrcoef

from sa2sr.config import DIMENSIONS, load_recipe, to_yaml
from sa2sr.errors import UserError
from sa2sr.metrics import bootstrap, difference, resampled
from sa2sr.studies.paper import reported_ccc
from sa2sr.studies.records import Evaluation, read_evaluation
from sa2sr.studies.report import make_report
from sa2sr.studies.systems import RESAMPLES, System, concordances, differences, drawn_unit, split_seed

COUNT = 120
SPEAKERS = [f"speaker {index % 20}" for index in range(COUNT)]
GENDERS = ["female" if index % 20 < 8 else "male" for index in range(COUNT)]
TRUTH = np.random.default_rng(0).uniform(1, 7, (COUNT, 3)).round(2)


def said(noise: float, seed: int) -> np.ndarray:
    return np.clip(TRUTH + np.random.default_rng(seed).normal(0, noise, TRUTH.shape), 1, 7)


def write_evaluation(run: Path, predicted: np.ndarray, order: Sequence[int] = range(COUNT)) -> Path:
    folder = run / "evaluation" / "test"
    folder.mkdir(parents=True)
    scale = {"name": "1-7", "low": 1.0, "high": 7.0}
    metrics = {"model": str(run / "model"), "manifests": ["/data/set/test.jsonl.gz"], "scale": scale}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "speaker", "gender", *(c for d in DIMENSIONS for c in (f"{d}_truth", d))])
        for row in order:
            pairs = [float(c) for pair in zip(TRUTH[row], predicted[row], strict=True) for c in pair]
            writer.writerow([f"u{row}", SPEAKERS[row], GENDERS[row], *pairs])
    return folder


def evaluation(folder: Path) -> Evaluation:
    found = read_evaluation(folder, "x", [])
    assert found is not None
    return found


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def independent_ccc(predicted: np.ndarray, truth: np.ndarray) -> float:
    covariance = np.mean((predicted - predicted.mean()) * (truth - truth.mean()))
    return float(2 * covariance / (predicted.var() + truth.var() + (predicted.mean() - truth.mean()) ** 2))


def drawn_utterances(random: np.random.RandomState) -> np.ndarray:
    members = [np.flatnonzero(np.array(SPEAKERS) == name) for name in sorted({*SPEAKERS})]
    return np.concatenate([members[i] for i in random.choice(len(members), len(members))])


def drawn_mean(cccs: Sequence[float], random: np.random.RandomState) -> float:
    """The documented resample of a mean over seeds, in other words."""
    count = len(cccs)
    centre = np.mean(cccs)
    return float(centre + np.sqrt(count / (count - 1)) * (np.mean(random.choice(cccs, count)) - centre))


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, list[np.ndarray]]:
    """Two systems of three and four seeds below ``tmp_path / "in"``, as nobody's study left them."""
    predicted = {
        "asr": [said(noise, seed) for seed, noise in enumerate((1.6, 1.9, 2.3))],
        "sa2sr": [said(noise, 10 + seed) for seed, noise in enumerate((1.1, 1.3, 1.2, 0.9))],
    }
    random = np.random.default_rng(5)
    for system, seeds in predicted.items():
        for seed, values in enumerate(seeds):
            write_evaluation(tmp_path / "in" / f"{system}-seed{seed}", values, random.permutation(COUNT))
    return predicted


def test_tables_over_seeds_equal_an_independent_computation(tmp_path: Path, runs: dict[str, list[np.ndarray]]) -> None:
    make_report([tmp_path / "in"], tmp_path / "out", baseline="asr")
    tables = tmp_path / "out" / "tables"
    rows = {row["system"]: row for row in read_table(tables / "emotion-ccc.csv")}
    spread = {row["system"]: row for row in read_table(tables / "emotion-seeds.csv")}
    other = {row["system"]: row for row in read_table(tables / "emotion-other.csv")}
    (difference,) = read_table(tables / "emotion-differences.csv")
    assert list(rows) == ["asr", "sa2sr"]
    assert [rows[s]["seeds"] for s in rows] == ["3", "4"]
    assert spread["sa2sr"]["seeds"] == "0, 1, 2, 3"
    random = np.random.RandomState(8)
    draws = [drawn_utterances(random) for _ in range(RESAMPLES)]
    for index, dimension in enumerate(DIMENSIONS):
        resampled = {}
        for system, seeds in runs.items():
            values = [
                float(concordance_corrcoef(torch.tensor(v[:, index]), torch.tensor(TRUTH[:, index]))) for v in seeds
            ]
            biased = [independent_ccc(v[:, index], TRUTH[:, index]) for v in seeds]
            assert np.allclose(values, biased, atol=0.02)  # torchmetrics divides by N - 1, and so differs a little
            assert float(rows[system][dimension]) == pytest.approx(np.mean(biased), abs=1e-9)
            assert float(spread[system][f"{dimension}_mean"]) == pytest.approx(np.mean(biased), abs=1e-9)
            assert float(spread[system][f"{dimension}_sd"]) == pytest.approx(np.std(biased, ddof=1), abs=1e-9)
            assert float(spread[system][f"{dimension}_lowest"]) == pytest.approx(min(biased), abs=1e-9)
            assert float(spread[system][f"{dimension}_highest"]) == pytest.approx(max(biased), abs=1e-9)
            correlations = [np.corrcoef(v[:, index], TRUTH[:, index])[0, 1] for v in seeds]
            assert float(other[system][f"{dimension}_pearson"]) == pytest.approx(np.mean(correlations), abs=1e-9)
            resampled[system] = [
                drawn_mean([independent_ccc(v[draw, index], TRUTH[draw, index]) for v in seeds], random)
                for draw in draws
            ]
            low, high = np.percentile(resampled[system], [2.5, 97.5])
            assert float(rows[system][f"{dimension}_low"]) == pytest.approx(low, abs=0.025)
            assert float(rows[system][f"{dimension}_high"]) == pytest.approx(high, abs=0.025)
        value = float(rows["sa2sr"][dimension]) - float(rows["asr"][dimension])
        assert float(difference[dimension]) == pytest.approx(value, abs=1e-9)
        apart = np.subtract(resampled["sa2sr"], resampled["asr"])
        low, high = np.percentile(apart, [2.5, 97.5])
        assert float(difference[f"{dimension}_low"]) == pytest.approx(low, abs=0.03)
        assert float(difference[f"{dimension}_high"]) == pytest.approx(high, abs=0.03)
        p_value = 2 * min((apart <= 0).mean(), (apart >= 0).mean())
        assert float(difference[f"{dimension}_p"]) == pytest.approx(p_value, abs=0.02)


def test_residuals_equal_an_independent_computation(tmp_path: Path, runs: dict[str, list[np.ndarray]]) -> None:
    make_report([tmp_path / "in"], tmp_path / "out")
    by_gender = {(r["system"], r["gender"]): r for r in read_table(tmp_path / "out" / "tables" / "emotion-gender.csv")}
    by_speaker = {row["system"]: row for row in read_table(tmp_path / "out" / "tables" / "emotion-speakers.csv")}
    for system, seeds in runs.items():
        left = np.mean(seeds, axis=0) - TRUTH
        for gender in ("female", "male"):
            own = left[np.array(GENDERS) == gender]
            row = by_gender[system, gender]
            assert row["utterances"] == str(len(own))
            for index, dimension in enumerate(DIMENSIONS):
                assert float(row[f"{dimension}_residual"]) == pytest.approx(own[:, index].mean(), abs=1e-9)
                assert float(row[f"{dimension}_rmse"]) == pytest.approx(np.sqrt((own[:, index] ** 2).mean()), abs=1e-9)
        means = {s: left[np.array(SPEAKERS) == s].mean(axis=0) for s in {*SPEAKERS}}
        for index, dimension in enumerate(DIMENSIONS):
            of_speakers = {speaker: mean[index] for speaker, mean in means.items()}
            spread = np.std([*of_speakers.values()], ddof=1)
            assert float(by_speaker[system][f"{dimension}_spread"]) == pytest.approx(spread, abs=1e-9)
            farthest = max(of_speakers, key=lambda speaker: abs(of_speakers[speaker]))
            assert by_speaker[system][f"{dimension}_farthest"].startswith(f"{farthest} (")


def test_utterances_without_ratings_count_nowhere(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "a", said(1.0, 1))
    header, *lines = (folder / "predictions.csv").read_text().splitlines()
    blank = [
        ",".join([*line.split(",")[:3], *("" if i % 2 == 0 else c for i, c in enumerate(line.split(",")[3:]))])
        for line in lines[30:]
    ]
    (folder / "predictions.csv").write_text("\n".join([header, *lines[:30], *blank]) + "\n")
    make_report([tmp_path / "a"], tmp_path / "out")
    tables = tmp_path / "out" / "tables"
    assert read_table(tables / "emotion-ccc.csv")[0]["utterances"] == "30"
    genders = {row["gender"]: row["utterances"] for row in read_table(tables / "emotion-gender.csv")}
    assert genders == {"female": str(GENDERS[:30].count("female")), "male": str(GENDERS[:30].count("male"))}


def test_one_seed_is_the_plain_bootstrap(tmp_path: Path) -> None:
    folders = [write_evaluation(tmp_path / name, said(noise, 1)) for name, noise in (("a", 1.0), ("b", 2.0))]
    systems = [System(folder.parent.parent.name, [evaluation(folder)]) for folder in folders]
    found, apart = concordances(systems[0]), differences(*systems)
    for index, dimension in enumerate(DIMENSIONS):
        a, b = (said(noise, 1)[:, index] for noise in (1.0, 2.0))
        options = {"speakers": SPEAKERS, "resamples": RESAMPLES}
        of_a, of_b = (bootstrap(each, TRUTH[:, index], **options) for each in (a, b))
        drawn = [resampled(each, TRUTH[:, index], **options) for each in (a, b)]
        assert found[dimension] == of_a
        assert apart[dimension] == difference(of_a.value - of_b.value, drawn[0] - drawn[1])


def test_seeds_that_are_equal_add_nothing(tmp_path: Path) -> None:
    folders = [write_evaluation(tmp_path / str(seed), said(1.0, 1)) for seed in range(3)]
    evaluations = [evaluation(folder) for folder in folders]
    one, three = concordances(System("a", evaluations[:1])), concordances(System("a", evaluations))
    for dimension in DIMENSIONS:
        for bound in ("value", "low", "high"):
            assert getattr(three[dimension], bound) == pytest.approx(getattr(one[dimension], bound), abs=1e-12)


def test_seeds_that_differ_widen_the_interval(tmp_path: Path) -> None:
    """By as much as the variance of a mean of seeds says, where utterances hardly add anything."""
    biases = np.array([-2.0, -0.7, 0.1, 1.9])
    folders = [write_evaluation(tmp_path / str(number), TRUTH + bias) for number, bias in enumerate(biases)]
    system = System("a", [evaluation(folder) for folder in folders])
    values = np.array([independent_ccc(TRUTH[:, 0] + bias, TRUTH[:, 0]) for bias in biases])
    found = concordances(system)["activation"]
    standard_error = values.std(ddof=1) / np.sqrt(len(values))
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(standard_error, rel=0.2)


def test_a_difference_within_the_noise_of_seeds_is_not_significant(tmp_path: Path) -> None:
    """Pooling utterances alone would call it so: single seeds are far apart."""
    noises = {"a": (0.5, 1.5, 2.5), "b": (0.6, 1.7, 2.7)}
    systems = []
    for name, own in noises.items():
        folders = [write_evaluation(tmp_path / f"{name}{i}", said(noise, i)) for i, noise in enumerate(own)]
        systems.append(System(name, [evaluation(folder) for folder in folders]))
    assert all(difference.p_value > 0.2 for difference in differences(*systems).values())
    single = [System(system.name, system.evaluations[:1]) for system in (systems[0], systems[1])]
    apart = [System("best", single[0].evaluations), System("worst", systems[1].evaluations[2:])]
    assert all(difference.p_value < 0.01 for difference in differences(*apart).values())


def test_names_and_their_seeds() -> None:
    assert split_seed("asr-seed0") == ("asr", 0)
    assert split_seed("asr-small-seed12") == ("asr-small", 12)
    assert split_seed("seed3/asr") == ("asr", 3)
    assert split_seed("runs/seed=3") == ("runs", 3)
    assert split_seed("asr seed_4") == ("asr", 4)
    for name in ("asr", "seed0", "aseed1", "seedling-2", "asr-seed1b"):
        assert split_seed(name) == (name, None)


def test_seeds_are_pooled_only_where_the_recipes_agree(tmp_path: Path) -> None:
    for seed, changes in ((0, []), (1, []), (2, ["encoder.layers=4"])):
        run = tmp_path / "in" / f"asr-seed{seed}"
        write_evaluation(run, said(1.0, seed))
        (run / "recipe.yaml").write_text(to_yaml(load_recipe("asr-small", [f"seed={seed}", *changes])))
        (run / "history.jsonl").write_text('{"dev": {"mean_ccc": 0.5}, "best": true, "seconds": 60}\n')
        (run / "metrics.json").write_text("{}")
        (run / "environment.json").write_text('{"stage": "finetuning"}')
    make_report([tmp_path / "in"], tmp_path / "out")
    rows = read_table(tmp_path / "out" / "tables" / "emotion-ccc.csv")
    assert [row["system"] for row in rows] == ["asr-seed0", "asr-seed1", "asr-seed2"]
    (tmp_path / "in" / "asr-seed2" / "recipe.yaml").write_text(to_yaml(load_recipe("asr-small", ["seed=2"])))
    make_report([tmp_path / "in"], tmp_path / "again")
    (row,) = read_table(tmp_path / "again" / "tables" / "emotion-ccc.csv")
    assert (row["system"], row["seeds"]) == ("asr", "3")


def test_the_paper_stands_beside_ours(tmp_path: Path, runs: dict[str, list[np.ndarray]]) -> None:
    files = make_report([tmp_path / "in"], tmp_path / "out")
    rows = {row["system"]: row for row in read_table(tmp_path / "out" / "tables" / "emotion-ccc.csv")}
    assert [rows["sa2sr"][f"{d}_paper"] for d in DIMENSIONS] == ["0.679", "0.412", "0.564"]
    assert [rows["asr"][f"{d}_paper"] for d in DIMENSIONS] == ["0.649", "0.393", "0.544"]
    assert "paper, MSP-Podcast" in files.html.read_text(encoding="utf-8")
    assert reported_ccc(["scratch-small"]) == reported_ccc(["none"]) == (0.603, 0.304, 0.511)
    assert reported_ccc(["mine", "sa2sr-small-frozen"]) == (0.508, 0.403, 0.483)
    assert reported_ccc(["cpc"]) == (0.706, 0.377, 0.639)
    assert reported_ccc(["apc-small", "mine"]) is None
    make_report([tmp_path / "in"], tmp_path / "without", with_paper=False)
    assert "activation_paper" not in read_table(tmp_path / "without" / "tables" / "emotion-ccc.csv")[0]


def test_comparisons(tmp_path: Path, runs: dict[str, list[np.ndarray]]) -> None:
    write_evaluation(tmp_path / "in" / "none", said(3.0, 50))
    make_report([tmp_path / "in"], tmp_path / "out", baseline="none", comparisons=[("sa2sr", "asr")])
    tables = tmp_path / "out" / "tables"
    (row,) = read_table(tables / "emotion-comparisons.csv")
    assert (row["system"], row["reference"]) == ("sa2sr", "asr")
    means = {r["system"]: float(r["valence"]) for r in read_table(tables / "emotion-ccc.csv")}
    assert float(row["valence"]) == pytest.approx(means["sa2sr"] - means["asr"], abs=1e-9)
    with pytest.raises(UserError, match="'sa2s'; there are asr, none, sa2sr"):
        make_report([tmp_path / "in"], tmp_path / "out", comparisons=[("sa2s", "asr")])


def test_order(tmp_path: Path, runs: dict[str, list[np.ndarray]]) -> None:
    write_evaluation(tmp_path / "in" / "none", said(3.0, 50))
    make_report([tmp_path / "in"], tmp_path / "out", baseline="none", order=["sa2sr", "asr"])
    rows = read_table(tmp_path / "out" / "tables" / "emotion-ccc.csv")
    assert [row["system"] for row in rows] == ["none", "sa2sr", "asr"]


def test_sentences_are_drawn_where_several_voices_say_the_same(tmp_path: Path) -> None:
    """Three copies of every utterance make no interval narrower, as drawing utterances would."""
    folder = write_evaluation(tmp_path / "once", said(1.0, 1))
    header, *lines = (folder / "predictions.csv").read_text().splitlines()
    copies = [f"v{voice}{line},{line.split(',')[0]}" for voice in range(3) for line in lines]
    thrice = tmp_path / "thrice" / "evaluation" / "test"
    thrice.mkdir(parents=True)
    (thrice / "predictions.csv").write_text("\n".join([f"{header},sentence", *copies]) + "\n")
    (thrice / "metrics.json").write_text((folder / "metrics.json").read_text())
    once, repeated = (System("a", [evaluation(each)]) for each in (folder, thrice))
    expected = concordances(once, resample="utterances")
    for resample in ("auto", "sentences"):
        assert drawn_unit(repeated, range(3 * COUNT), resample) == "sentences"  # type: ignore[arg-type]
        found = concordances(repeated, resample=resample)  # type: ignore[arg-type]
        for dimension in DIMENSIONS:
            for bound in ("value", "low", "high"):
                assert getattr(found[dimension], bound) == pytest.approx(getattr(expected[dimension], bound), abs=1e-9)
    by_utterance = concordances(repeated, resample="utterances")["valence"]
    width = expected["valence"].high - expected["valence"].low
    assert by_utterance.high - by_utterance.low < 0.75 * width
    assert drawn_unit(once, range(COUNT), "auto") == "speakers"
    assert drawn_unit(once, range(5), "auto") == "utterances"
