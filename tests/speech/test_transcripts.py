"""Transcripts in the recogniser's alphabet, and the frames that they need."""

import re

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sa2sr.config import ALPHABET
from sa2sr.speech.text import ctc_steps, normalise_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ALSO A POPULAR CONTRIVANCE", "also a popular contrivance"),
        ("Kids are talking by the door.", "kids are talking by the door"),
        ("  Well --  it's   fine,\tisn't it?\n", "well it's fine isn't it"),
        ("Don\u2019t say \u2018no\u2019", "don't say 'no'"),
        ("rock 'n' roll", "rock 'n' roll"),
        ("a ' b '' c", "a b c"),
        ("twenty-one", "twenty one"),
        ("Café, naïve, jalapeño, Ångström", "cafe naive jalapeno angstrom"),
        ("\ufb01ne \uff26\uff55\uff4c\uff4c", "fine full"),  # a ligature and full-width letters
        ("İstanbul İ", "istanbul i"),
        ("ok 🙂 ok", "ok ok"),
    ],
)
def test_texts_become_words_of_the_alphabet(text: str, expected: str) -> None:
    assert normalise_text(text) == expected


@pytest.mark.parametrize("text", ["", "   ", "...", "'", "'' '", "你好", "\x00"])
def test_nothing_is_left_of_some_texts(text: str) -> None:
    assert normalise_text(text) is None


@pytest.mark.parametrize("text", ["in 1999", "the 2nd", "½ past", "x²", "٣ apples", "a ① b", "\uff19"])
def test_digits_hide_what_was_said(text: str) -> None:
    assert normalise_text(text) is None


@given(st.text(max_size=60))
@example("ß'æ'İ'ǆ")
@settings(deadline=None)
def test_whatever_is_written_only_the_alphabet_is_left(text: str) -> None:
    normal = normalise_text(text)
    if normal is not None:
        assert set(normal) <= set(ALPHABET)
        assert re.fullmatch(r"[a-z']+( [a-z']+)*", normal)
        assert normalise_text(normal) == normal
        assert normalise_text(f"  {text}!") == normal


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ' .,-", max_size=40))
@settings(deadline=None)
def test_case_does_not_matter(text: str) -> None:
    assert normalise_text(text.upper()) == normalise_text(text.lower()) == normalise_text(text)


@given(st.text(alphabet="ab", min_size=1, max_size=8))
@settings(deadline=None, max_examples=50)
def test_ctc_can_emit_a_text_in_its_steps_and_in_no_fewer(text: str) -> None:
    def loss(steps: int) -> float:
        log_probabilities = torch.zeros(max(steps, 1), 1, 3).log_softmax(-1)
        targets = torch.tensor([["-ab".index(character) for character in text]])
        lengths = torch.tensor([steps]), torch.tensor([len(text)])
        return torch.nn.functional.ctc_loss(log_probabilities, targets, *lengths, reduction="sum").item()

    assert loss(ctc_steps(text)) < float("inf")
    assert loss(ctc_steps(text) - 1) == float("inf")


def test_steps_of_words() -> None:
    assert ctc_steps("") == 0
    assert ctc_steps("cat") == 3
    assert ctc_steps("hello all") == 9 + 2
