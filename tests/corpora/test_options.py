import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from sa2sr.cli import app
from sa2sr.corpora import CORPORA, find
from sa2sr.corpora.options import describe, parse_options, parse_scale
from sa2sr.corpora.spoken import SpokenCorpus
from sa2sr.errors import CorpusError, UserError


def test_words_become_options() -> None:
    ravdess, iemocap, table = map(find, ("ravdess", "iemocap", "table"))
    assert parse_options(ravdess, ["--dev-actors", "1-4", "--test-actors=5"]) == {
        "dev_actors": "1-4",
        "test_actors": "5",
    }
    assert parse_options(iemocap, ["--merge-excited", "--dev-sessions="]) == {
        "merge_excited": "true",
        "dev_sessions": "",
    }
    assert parse_options(table, ["--scale", "-1-1"]) == {"scale": "-1-1"}
    assert parse_options(find("text"), ["--exclude", "a.csv:x", "--no-strip-punctuation", "--exclude=b"]) == {
        "exclude": ["a.csv:x", "b"],
        "strip_punctuation": "false",
    }
    for corpus, words, message in (
        (find("text"), ["--no-limit"], "'--no-limit' is not an option"),
        (find("text"), ["--no-strip-punctuation=1"], "is not an option"),
        (ravdess, ["--scale", "1-7"], "--dev-actors, --test-actors"),
        (ravdess, ["1-4"], "'1-4' is not an option"),
        (ravdess, ["--dev-actors"], "--dev-actors needs a value"),
        (ravdess, ["--dev-actors", "--test-actors=5"], "--dev-actors needs a value"),
        (find("kaldi"), ["--x"], "none of its own"),
    ):
        with pytest.raises(CorpusError, match=message):
            parse_options(corpus, words)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("1-7", 1, 7), ("0-1", 0, 1), ("-1-1", -1, 1), ("-1:1", -1, 1), ("-3--1", -3, -1), ("0.5-2.5", 0.5, 2.5)],
)
def test_scales(text: str, low: float, high: float) -> None:
    scale = parse_scale(text)
    assert (scale.low, scale.high, scale.name) == (low, high, text)


@pytest.mark.parametrize("text", ["", "7", "7-1", "1-1", "1--1", "a-b", "1-7-9", "nan-1", "1e999-2"])
def test_what_is_no_scale(text: str) -> None:
    with pytest.raises(CorpusError, match="scale"):
        parse_scale(text)


@given(st.integers(-99, 99), st.integers(1, 99), st.sampled_from("-:"))
def test_any_pair_of_numbers_is_a_scale(low: int, width: int, sign: str) -> None:
    scale = parse_scale(f"{low}{sign}{low + width}")
    assert (scale.low, scale.high) == (low, low + width)


def test_every_corpus_and_option_is_described() -> None:
    text = describe(list(CORPORA.values()))
    for corpus in CORPORA.values():
        assert f"{corpus.name}: {corpus.summary}" in text
        for name, field in corpus.options.model_fields.items():
            assert "--" + name.replace("_", "-") in text
            assert field.description
    assert CliRunner().invoke(app, ["prepare", "--list"]).output.strip() == text


def test_every_corpus_and_option_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "corpora.md").read_text(encoding="utf-8")
    shared = page.partition("## Text, spoken here")[2].partition("### emobank")[0]
    for corpus in CORPORA.values():
        _, found, section = re.split(rf"^(##+ {corpus.name}\b.*)$", page, maxsplit=1, flags=re.MULTILINE)
        assert found
        section = re.split(r"^##+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
        for name in corpus.options.model_fields:
            flags = {f"--{name.replace('_', '-')}", f"--no-{name.replace('_', '-')}"}
            text = section + shared if isinstance(corpus, SpokenCorpus) else section
            assert any(re.search(rf"`{flag}[ `]", text) for flag in flags), (corpus.name, name)


def test_the_command(tmp_path, write_speech) -> None:
    write_speech(tmp_path / "a.wav")
    (tmp_path / "t.csv").write_text("path,arousal\na.wav,0.5\nb.wav,0.5\n")
    arguments = ["prepare", "table", str(tmp_path / "t.csv"), str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, "--scale", "-1-1", "--no-verify", "--jobs", "1"])
    assert result.exit_code == 0, result.output
    assert "audio does not exist" in result.output
    assert "scale -1-1" in result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["all.jsonl.gz", "report.json"]
    for wrong, message in (
        ([*arguments, "--colour", "red"], "'--colour' is not an option of table"),
        ([*arguments, "--text", "words"], "no column 'words'"),
        (["prepare", "podcast", "x", "y"], "known: librispeech"),
    ):
        failed = CliRunner().invoke(app, wrong)
        assert isinstance(failed.exception, UserError)
        assert message in str(failed.exception)
