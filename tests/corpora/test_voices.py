import pytest

from sa2sr.corpora.espeak import variants
from sa2sr.corpora.voices import VOICES, choose_voices, draw, shuffled
from sa2sr.errors import CorpusError


def test_voices_exist_and_are_in_one_group() -> None:
    names = [name for group in VOICES.values() for name in group]
    assert len(names) == len(set(names))
    assert set(names) <= set(variants())


def test_voices_are_chosen_by_name_or_number() -> None:
    assert choose_voices("all") == VOICES
    assert choose_voices(" f4,m1 , Lee") == {"training": ("m1",), "development": ("Lee",), "test": ("f4",)}
    assert choose_voices("f4")["training"] == ()
    three, five, many = map(choose_voices, ("3", "5", "999"))
    for group, names in VOICES.items():
        assert len(set(three[group])) == 3
        assert set(three[group]) < set(five[group]) < set(many[group]) == set(names)


@pytest.mark.parametrize("wanted", ["", "0", "-3", "f4,", "f4,nobody", "ALL", "../f4"])
def test_unknown_voices_are_refused(wanted: str) -> None:
    with pytest.raises(CorpusError, match="there is no"):
        choose_voices(wanted)


def test_order_depends_on_each_item_alone() -> None:
    names = VOICES["training"]
    order = shuffled(names, 0, "a")
    assert sorted(order) == sorted(names)
    assert shuffled(reversed(names), 0, "a") == order
    assert shuffled(names[5:], 0, "a") == tuple(name for name in order if name in names[5:])
    assert len({shuffled(names, seed, sentence) for seed in (0, 1) for sentence in "ab"}) == 4
    assert draw(1, "2") != draw("1", 2) != draw("12")
    assert draw("\udc80") != draw("\udc81")  # half a surrogate pair, as JSON may hold
