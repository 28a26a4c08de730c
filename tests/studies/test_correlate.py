import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.image import imread
from typer.testing import CliRunner

from sa2sr.audio import AudioInfo
from sa2sr.cli import app
from sa2sr.cuts import make_cut, write_cuts
from sa2sr.errors import CorpusError, UserError
from sa2sr.sentiment import Teacher
from sa2sr.studies.correlate import as_markdown, associate, correlate, emotion_classes, figures, heat_map
from sa2sr.studies.sentiment_counts import SentimentCounts, counts_of_cuts, counts_of_table, read_counts

# The paper's Table 1: negative, neutral, positive
EMOTIONS = ("sad", "anger", "frustrated", "neutral", "happy")
TABLE_1 = np.array([[339, 604, 137], [490, 518, 94], [658, 1049, 141], [253, 1251, 204], [252, 848, 533]])
INFO = AudioInfo(sampling_rate=16_000, samples=16_000, channels=1)


class WordTeacher:
    """``no`` is negative, ``yes`` positive, all else neutral; keeps what it was asked."""

    name = "words-1"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.extend(texts)
        places = [0 if "no" in text.split() else 2 if "yes" in text.split() else 1 for text in texts]
        return np.eye(3, dtype=np.float32)[places]


def never() -> Teacher:
    raise AssertionError("no teacher was needed")


def expanded(counts: np.ndarray, ranks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """One pair (sentiment, emotion rank) an utterance."""
    rows, columns = np.indices(counts.shape).reshape(2, -1)
    return np.repeat(columns, counts.ravel()), np.repeat(np.take(ranks, rows), counts.ravel())


def test_the_papers_counts() -> None:
    table = SentimentCounts(EMOTIONS, TABLE_1)
    result = correlate(table, groups=["sad+anger+frustrated"])
    assert result.spearman.value == pytest.approx(scipy.stats.spearmanr(*expanded(TABLE_1, [0, 0, 0, 1, 2])).statistic)
    assert round(result.spearman.value, 3) == 0.288
    assert 0.25 < result.spearman.low < 0.288 < result.spearman.high < 0.33
    assert correlate(table).spearman == result.spearman  # the default coding is the same
    without_neutral = correlate(table, order="sad+anger+frustrated,happy")
    assert round(without_neutral.spearman.value, 3) == 0.298
    np.testing.assert_array_equal(result.class_counts, [TABLE_1[:3].sum(axis=0), TABLE_1[3], TABLE_1[4]])


tables = arrays.arrays(np.int64, st.tuples(st.integers(2, 5), st.just(3)), elements=st.integers(0, 30))


@settings(deadline=None)
@given(tables)
def test_spearman_equals_scipys_on_the_utterances(counts: np.ndarray) -> None:
    assume((counts.sum(axis=0) > 0).sum() > 1)
    assume((counts.sum(axis=1) > 0).sum() > 1)
    names = [f"e{index}" for index in range(len(counts))]
    result = correlate(SentimentCounts(tuple(names), counts), order=",".join(reversed(names)), resamples=10)
    expected = scipy.stats.spearmanr(*expanded(counts, range(len(counts))[::-1])).statistic
    assert result.spearman.value == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(tables)
def test_association_follows_its_definition(counts: np.ndarray) -> None:
    kept = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    result = associate(counts)
    if min(kept.shape, default=0) < 2:
        assert math.isnan(result.cramers_v)
        return
    expected = np.outer(kept.sum(axis=1), kept.sum(axis=0)) / kept.sum()
    chi_square = ((kept - expected) ** 2 / expected).sum()
    assert result.chi_square == pytest.approx(chi_square, abs=1e-9)
    assert result.degrees_of_freedom == (kept.shape[0] - 1) * (kept.shape[1] - 1)
    assert result.p_value == pytest.approx(scipy.stats.chi2.sf(chi_square, result.degrees_of_freedom), abs=1e-12)
    assert result.cramers_v == pytest.approx(scipy.stats.contingency.association(kept, "cramer"), abs=1e-12)
    assert -1e-12 <= result.cramers_v <= 1 + 1e-12


def test_interval_is_that_of_a_bootstrap_over_utterances() -> None:
    counts = np.array([[30, 20, 10], [15, 40, 12], [8, 20, 33]])
    result = correlate(SentimentCounts(("sad", "neutral", "happy"), counts), resamples=4000)
    sentiments, ranks = expanded(counts, [0, 1, 2])
    generator = np.random.default_rng(1)
    draws = generator.integers(len(ranks), size=(1500, len(ranks)))
    values = [scipy.stats.spearmanr(sentiments[rows], ranks[rows]).statistic for rows in draws]
    assert [result.spearman.low, result.spearman.high] == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.015)


# --- Coding -----------------------------------------------------------------------------------------------------------


def ranks(*arguments: object) -> dict[str, int | None]:
    return {own.name: own.rank for own in emotion_classes(*arguments)}  # type: ignore[arg-type]


def test_default_coding() -> None:
    emotions = ["happy", "surprise", "sadness", "neutral", "joy", "other", "contempt"]
    assert ranks(emotions) == {
        "happy": 2, "surprise": None, "sadness": 0, "neutral": 1, "joy": 2, "other": None, "contempt": 0,
    }  # fmt: skip


def test_groups_and_orders() -> None:
    three = {"sad+anger+frustrated": 0, "neutral": 1, "happy": 2}
    assert ranks(EMOTIONS, ["Sad + anger+frustrated"]) == three
    assert ranks(EMOTIONS, [], "sad+anger+frustrated, neutral, Happy") == three
    assert ranks(EMOTIONS, ["sad+anger+frustrated"], "anger<neutral<happy") == three  # a member names its group
    assert ranks(EMOTIONS, ["sad+anger"], "happy,frustrated+neutral,sad+anger") == {
        "sad+anger": 2, "frustrated+neutral": 1, "happy": 0,
    }  # fmt: skip
    assert ranks(EMOTIONS, [], "frustrated,sad") == {
        "sad": 1, "anger": None, "frustrated": 0, "neutral": None, "happy": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("groups", "order", "message"),
    [
        (["sad+angry"], None, "'angry' in 'sad\\+angry' is no emotion of the table, which has sad, anger"),
        (["sad+anger", "anger+happy"], None, "'anger' is in two groups"),
        (["sad+happy"], None, "different polarity"),
        ([], "sad,joy", "'joy' in the order is no emotion"),
        ([], "sad,happy,sad", "twice"),
        (["sad+anger"], "sad,anger,happy", "twice"),
        ([], "sad", "two classes at least"),
        ([], "+", "is no emotion"),
    ],
)
def test_wrong_codings_are_refused(groups: list[str], order: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        emotion_classes(EMOTIONS, groups, order)


def test_without_ranked_emotions_there_is_no_correlation() -> None:
    result = correlate(SentimentCounts(("surprise", "other"), np.array([[1, 2, 3], [3, 2, 1]])))
    assert figures(result)["spearman"] is None
    assert "no emotion is ranked" in as_markdown(result)
    alone = as_markdown(correlate(SentimentCounts(("sad", "happy"), np.array([[0, 2, 0], [0, 3, 0]]))))
    assert "Spearman's correlation needs two ranks" in alone
    assert "Chi-square and Cramer's V need two emotions" in alone
    assert "nan" not in alone


# --- Reading ----------------------------------------------------------------------------------------------------------


def test_melds_layout(tmp_path: Path) -> None:
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
    end = ',0,0,4,7,"00:20:57,256","00:21:00,049"\n'
    rows = [
        '1,"Oh no he\u2019s lost it.",Phoebe,sadness,negative',
        "2,yes,Joey,Joy,positive",
        "3,yes,Joey,joy,neutral",
        "4,yes,Ross,surprise,positive",
        "5,,Ross,joy,positive",
        "6,no,Ross,,negative",
    ]
    path = tmp_path / "meld.csv"
    path.write_text(header + "".join(row + end for row in rows), encoding="utf-8")
    teacher = WordTeacher()
    table = counts_of_table([path, path], lambda: teacher)
    assert dict(zip(table.emotions, table.counts.tolist(), strict=True)) == {
        "joy": [0, 0, 4], "sadness": [2, 0, 0], "surprise": [0, 0, 2],
    }  # fmt: skip
    assert sorted(teacher.asked) == ["Oh no he\u2019s lost it.", "yes"]  # each once
    assert table.teachers == {"words-1": 8}
    assert table.skipped == {"without a transcript": 2, "without an emotion": 2}
    by_people = counts_of_table([path], never, sentiment_column="Sentiment")
    assert dict(zip(by_people.emotions, by_people.counts.tolist(), strict=True))["joy"] == [0, 1, 2]


def test_other_columns_and_broken_tables(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("said\tfelt\nno\tsad\nyes\thappy\nyes\ttoo\tmany\n")
    table = counts_of_table([path], WordTeacher, text_column="said", emotion_column="Felt")
    assert table.emotions == ("sad", "happy")
    assert sum(table.skipped.values()) == 1
    with pytest.raises(CorpusError, match="has no column emotion or emoclass; its columns are said, felt"):
        counts_of_table([path], WordTeacher, text_column="said")
    with pytest.raises(CorpusError, match="has no column 'words'"):
        counts_of_table([path], WordTeacher, text_column="words", emotion_column="felt")
    path.write_text("text,emotion\n" + "".join(f"a,e{number}\n" for number in range(101)))
    with pytest.raises(CorpusError, match="more than 100 emotions; is it the right column"):
        counts_of_table([path], WordTeacher)
    path.write_text("text,emotion\n,sad\n")
    with pytest.raises(CorpusError, match=r"no utterance has an emotion and a text \(1 without a transcript\)"):
        counts_of_table([path], WordTeacher)


def test_cuts(tmp_path: Path) -> None:
    labelled = {"sentiment": [0.1, 0.2, 0.7], "sentiment_teacher": "other-2"}
    cuts = [
        make_cut("a", "a.wav", INFO, text="no", emotion="sad"),
        make_cut("b", "a.wav", INFO, text="no", emotion="Happy", custom=labelled),
        make_cut("c", "a.wav", INFO, text="no"),
        make_cut("d", "a.wav", INFO, emotion="sad"),
        make_cut("e", "a.wav", INFO, text="no", emotion="sad", custom={"sentiment": [None, "x"]}),
    ]
    path = tmp_path / "cuts.jsonl"
    write_cuts(path, cuts)
    table = counts_of_cuts([path], WordTeacher)
    assert (table.emotions, table.counts.tolist()) == (("sad", "happy"), [[2, 0, 0], [0, 0, 1]])
    assert table.teachers == {"other-2": 1, "words-1": 2}
    assert table.skipped == {"without an emotion": 1, "without a transcript": 1}
    relabelled = counts_of_cuts([path], WordTeacher, relabel=True)
    assert relabelled.counts.tolist() == [[2, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("emotion,negative,neutral\nsad,1,2\n", "has no column 'positive'"),
        ("emotion,negative,neutral,positive\nsad,1,2,-3\n", "line 2: 1, 2, -3 must be three whole numbers"),
        ("emotion,negative,neutral,positive\nsad,1,2,3.5\n", "whole numbers"),
        ("emotion,negative,neutral,positive\nsad,1,2,\u0663\n", "whole numbers"),
        ("emotion,negative,neutral,positive\nsad,1,2,3\nSad,1,2,3\n", "line 3: the emotion 'sad' is empty or occurs"),
        ("emotion,negative,neutral,positive\nsad,1,2\n", "row does not fit the header"),
        ("emotion,negative,neutral,positive\nsad,0,0,0\n", "counts no utterance"),
        ("emotion,negative,neutral,positive\n", "counts no utterance"),
        ("", "is empty"),
    ],
)
def test_wrong_counts_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        read_counts(path)


@pytest.mark.parametrize("name", ["Total", "total", "Grand  total", "SUM", "all", "Overall"])
def test_rows_and_columns_of_sums_are_no_emotions(tmp_path: Path, name: str) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(f"Emotion,Negative,Neutral,Positive,Total\nsad,1,2,3,6\nhappy,4,5,6,15\n{name},5,7,9,21\n")
    table = read_counts(path)
    assert (table.emotions, table.counts.tolist()) == (("sad", "happy"), [[1, 2, 3], [4, 5, 6]])
    assert f"Not counted: 1 row of sums, '{name}'." in as_markdown(correlate(table, resamples=10))
    path.write_text(f'Emotion,Negative,Neutral,Positive\nsad,1,2,3\n{name},"1,205",10%,\n')
    assert read_counts(path).emotions == ("sad",)  # whatever is in the row


def test_command_names_the_option_for_a_table_and_for_cuts(tmp_path: Path) -> None:
    table, cuts = tmp_path / "train.CSV", tmp_path / "train.jsonl.gz"
    table.write_text("Utterance,Emotion\nno,sad\n")
    write_cuts(cuts, [make_cut("a", "a.wav", INFO, text="no", emotion="sad")])
    wrong = CliRunner().invoke(app, ["correlate", str(table)]).exception
    assert isinstance(wrong, CorpusError)
    assert str(wrong).startswith(f"{table}: is a table, not a manifest of cuts; name it with --csv")
    wrong = CliRunner().invoke(app, ["correlate", "--csv", str(cuts)]).exception
    assert isinstance(wrong, CorpusError)
    assert str(wrong) == f"{cuts}: is a manifest of cuts, not a table; name it without --csv"


# --- Showing it -------------------------------------------------------------------------------------------------------


def test_command_on_the_papers_counts(tmp_path: Path) -> None:
    path = tmp_path / "table1.csv"
    lines = [f"{name.title()},{','.join(map(str, row))}" for name, row in zip(EMOTIONS, TABLE_1, strict=True)]
    path.write_text("Emotion,Negative,Neutral,Positive\n" + "\n".join(lines))
    command = ["correlate", "--counts", str(path), "--group", "sad+anger+frustrated", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert round(shown["spearman"], 3) == 0.288
    assert shown["coding"]["emotion"] == {"sad+anger+frustrated": 0, "neutral": 1, "happy": 2}
    assert shown["emotions"]["happy"]["counts"] == {"negative": 252, "neutral": 848, "positive": 533}
    assert shown["emotions"]["happy"]["percentages"]["positive"] == pytest.approx(100 * 533 / 1633, abs=0.01)
    assert shown["chi_square"] == pytest.approx(scipy.stats.chi2_contingency(TABLE_1).statistic)
    assert shown["cramers_v"] == pytest.approx(scipy.stats.contingency.association(TABLE_1, "cramer"))
    assert shown["utterances"] == 7371
    assert json.loads((tmp_path / "out" / "correlation.json").read_text()) == shown
    printed = CliRunner().invoke(app, command).stdout
    assert printed == (tmp_path / "out" / "correlation.md").read_text()
    assert "| happy | 252 (15.4%) | 848 (51.9%) | 533 (32.6%) | 1,633 |" in printed
    assert "Spearman's correlation 0.288" in printed
    picture = imread(tmp_path / "out" / "correlation.png")
    assert picture.shape[0] > 300
    assert picture.shape[1] > 600


def test_command_wants_one_source(tmp_path: Path) -> None:
    for arguments in ([], ["x.jsonl", "--counts", "y.csv"]):
        assert isinstance(CliRunner().invoke(app, ["correlate", *arguments]).exception, UserError)


def test_heat_map_colours_are_the_shares() -> None:
    """Darker is more, and names are shown as they are, whatever is in them."""
    counts = np.array([[98, 1, 1], [1, 98, 1]])
    pixels = imread(io.BytesIO(heat_map(correlate(SentimentCounts(("$\\frac", "<b>"), counts)))))[..., :3]
    dark = pixels.sum(axis=2) < 1.0
    rows, columns = np.nonzero(dark & (pixels[..., 2] > pixels[..., 0] + 0.2))  # dark blue
    upper = rows < np.median(rows)
    assert columns[upper].mean() < columns[~upper].mean()
