import string
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2sr.corpora.corpus import Problem
from sa2sr.corpora.sentences import Sentence, SpokenOptions, cast, divide, letters, mend, of_length, subset
from sa2sr.corpora.voices import VOICES
from sa2sr.errors import CorpusError

TWO_HUNDRED = [Sentence(f"s{number:03}", f"sentence {number}") for number in range(200)]


def names(sentences: Iterable[Sentence]) -> list[str]:
    return [sentence.name for sentence in sentences]


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("you must\x92ve \x93said\x94 so\x85\x81", "you must\u2019ve \u201csaid\u201d so\u2026"),
        ("they wo n't say it 's bad , you 're right", "they won't say it's bad , you're right"),
        ("DO N'T , I\u2019d say 'tis and 'd' remain", "DON'T , I\u2019d say 'tis and 'd' remain"),
        ("-lrb- or -RRB- and\\/or \\* ``so''", '( or ) and/or * "so"'),
        ("co\xadop\u200berate\ufeff", "cooperate"),
        (" two\n lines\0and\xa0a\x01break ", "two lines and a break"),
        ("- a dash and 1 2 3 stay", "- a dash and 1 2 3 stay"),
        ("", ""),
    ],
)
def test_mend(text: str, mended: str) -> None:
    assert mend(text) == mended


def test_spellings_of_one_sentence_have_the_same_letters() -> None:
    for one, other in (
        ("They wo n't see the caf\u00e9 's end .", "they WON\u2019T see the cafe's end!"),
        ("-lrb- really -rrb-", "(Really)"),
        ("must\x92ve been", "must've been"),
    ):
        assert letters(one) == letters(other)
    assert letters("no one") == letters("noone")  # the price of not minding spaces
    assert letters("4 stars") != letters("5 stars")
    assert letters(' .. " ') == ""


@given(st.lists(st.text(string.ascii_lowercase, min_size=1), min_size=1))
def test_case_spaces_and_punctuation_do_not_count(words: list[str]) -> None:
    assert letters(" ".join(words)) == letters(", ".join(words).upper() + "?!") == "".join(words)


@given(st.text())
def test_any_text_is_mended_to_one_line(text: str) -> None:
    assert not set(mend(text)) & set(map(chr, [*range(32), *range(127, 160)]))
    letters(text)


def test_length_is_in_words_that_are_spoken() -> None:
    sentences = [Sentence(text, text) for text in ("...", "One!", "it's two", "this is: three", "well - so - four ok")]
    problems: list[Problem] = []
    options = SpokenOptions(min_words=2, max_words=3)
    assert names(of_length(sentences, options, problems)) == ["it's two", "this is: three"]
    assert [(p.reason, p.item) for p in problems] == [
        ("too few words", "..."),
        ("too few words", "One!"),
        ("too many words", "well - so - four ok"),
    ]
    assert len(list(of_length(sentences, SpokenOptions(), []))) == 4


def test_subsets_are_random_nested_and_the_same_in_any_order() -> None:
    small = names(subset(TWO_HUNDRED, SpokenOptions(limit=20)))
    large = names(subset(TWO_HUNDRED[::-1], SpokenOptions(limit=50)))
    assert large[:20] == small
    assert len(set(small)) == 20
    assert names(subset(TWO_HUNDRED, SpokenOptions(limit=20, seed=1))) != small
    assert 60 < sum(int(name[1:]) for name in large) / 50 < 140  # from all over the document: the mean is 99.5
    assert len(subset(TWO_HUNDRED, SpokenOptions())) == 200


def dev(count: int, share: float, seed: int = 0) -> set[str]:
    parts = list(divide(TWO_HUNDRED[:count], share, seed))
    assert len(parts) == count
    assert {sentence.split for sentence in parts} <= {"train", "dev"}
    return {sentence.name for sentence in parts if sentence.split == "dev"}


def test_a_share_is_for_development() -> None:
    assert dev(200, 0) == set()
    assert 25 < len(dev(200, 0.2)) < 55
    assert dev(200, 0.2) != dev(200, 0.2, seed=1)
    assert dev(200, 0.05) < dev(200, 0.2)
    assert dev(100, 0.2) == dev(200, 0.2) & {sentence.name for sentence in TWO_HUNDRED[:100]}
    assert len(dev(20, 1e-9)) == len(dev(2, 0.5)) == 1
    assert len(dev(1, 0.5)) == 0


def test_voices_belong_to_the_split_and_to_the_sentence() -> None:
    sentences = [
        Sentence(f"{split}{number}", "hello", split) for split in ("train", "dev", "test") for number in range(60)
    ]
    spoken = list(cast(sentences, SpokenOptions(), {"test": 3}))
    assert Counter(utterance.split for utterance in spoken) == {"train": 60, "dev": 60, "test": 180}
    assert len({utterance.name for utterance in spoken}) == 300
    for split, group in (("train", "training"), ("dev", "development"), ("test", "test")):
        heard = {utterance.speaker for utterance in spoken if utterance.split == split}
        assert heard <= set(VOICES[group])
        assert len(heard) > 0.6 * len(VOICES[group])
    voices_of: dict[str, set[str]] = {}
    for utterance in spoken:
        voices_of.setdefault(utterance.custom["sentence"], set()).add(utterance.speaker)
    assert all(len(voices_of[f"test{number}"]) == 3 for number in range(60))
    alone = list(cast(sentences[7:8], SpokenOptions()))
    assert alone == [utterance for utterance in spoken if utterance.custom["sentence"] == "train7"]
    assert {u.name for u in cast(sentences, SpokenOptions())} <= {
        u.name for u in cast(sentences, SpokenOptions(voicings=2))
    }


@pytest.mark.parametrize("options", [{"voicings": 9}, {"voices": "m1"}, {"voices": "2", "voicings": 3}])
def test_too_few_voices(options: dict[str, Any]) -> None:
    with pytest.raises(CorpusError, match="of the development voices"):
        list(cast([Sentence("a", "hello", "dev")], SpokenOptions(**options)))
