"""The speakers or sessions that are held out for dev and test, by their numbers."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from sa2sr.config import Settings
from sa2sr.corpora.corpus import Problem
from sa2sr.errors import CorpusError


class HeldOut:
    """Which numbers belong to which split, and whether the corpus has those that are held out."""

    def __init__(self, options: Settings, what: str) -> None:
        """From options that are called ``dev_<what>`` and ``test_<what>``.

        Raises:
            CorpusError: if they are not numbers, or a number is in both
        """
        self._what, self._options = what, options
        self._wanted = {
            split: parse_numbers(getattr(options, f"{split}_{what}"), f"{split}_{what}") for split in ("dev", "test")
        }
        self._met: set[int] = set()
        if both := self._wanted["dev"] & self._wanted["test"]:
            raise CorpusError(f"dev_{what} and test_{what} share {_ranges(both)}")

    def split_of(self, number: int) -> str:
        """The split of a number that the corpus has."""
        self._met.add(number)
        return next((split for split, wanted in self._wanted.items() if number in wanted), "train")

    def missing(self, source: Path) -> Iterator[Problem]:
        """What is held out and was not met, once the corpus is read.

        Defaults are for a whole corpus, so that of a part of it they may miss some, but not all.

        Raises:
            CorpusError: if the corpus has none of the numbers that a user wants
        """
        for split, wanted in self._wanted.items():
            name = f"{split}_{self._what}"
            is_given = name in self._options.model_fields_set
            absent = wanted - self._met
            if not absent or not self._met or not (is_given or absent == wanted):
                continue
            flag = f"--{name.replace('_', '-')}"
            if is_given and absent == wanted:
                raise CorpusError(
                    f"{flag} is '{getattr(self._options, name)}', but the {self._what} of {source} are "
                    f"{_ranges(self._met)}; name some of these, or none with {flag}="
                )
            detail = f"{_ranges(absent)}{'' if is_given else ' by default'}; {self._what} are {_ranges(self._met)}"
            yield Problem("held out, but not in the corpus", flag, detail, lost="nothing (a warning)")


def parse_numbers(text: str, option: str) -> set[int]:
    """The numbers of ``17-20`` or ``3,7,9`` or both; none for an empty text.

    Raises:
        CorpusError: naming ``option``, if the text is something else
    """
    numbers: set[int] = set()
    for part in filter(None, text.replace(" ", "").split(",")):
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        own = range(int(found[1]), int(found[2] or found[1]) + 1) if found else ()
        if not own:
            raise CorpusError(f"{option} is '{text}', but must be numbers and ranges such as 17-20 or 3,7,9")
        numbers.update(own)
    return numbers


def _ranges(numbers: Iterable[int]) -> str:
    """``{1, 2, 3, 7}`` -> ``1-3, 7``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
