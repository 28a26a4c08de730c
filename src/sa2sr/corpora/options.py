"""The options of the corpora, as words of a command line, and the values that several of them take."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sa2sr.config import Scale
from sa2sr.errors import CorpusError

if TYPE_CHECKING:
    from sa2sr.corpora.spoken import AnyCorpus


def parse_options(corpus: "AnyCorpus", words: Sequence[str]) -> dict[str, str | list[str]]:
    """``["--dev-actors", "1-4", "--merge"]`` -> ``{"dev_actors": "1-4", "merge": "true"}``.

    ``--no-merge`` is ``"false"``; an option that takes several values may be repeated.

    Raises:
        CorpusError: if a word is not an option of the corpus, or lacks its value
    """
    fields = corpus.options.model_fields
    switches = {name for name, field in fields.items() if field.annotation is bool}
    options: dict[str, str | list[str]] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if flag.startswith("--no-") and not equals and name.removeprefix("no_") in switches:
            options[name.removeprefix("no_")] = "false"
            continue
        if not flag.startswith("--") or name not in fields:
            known = ", ".join(map(_flag, fields)) or "none of its own"
            raise CorpusError(f"'{word}' is not an option of {corpus.name}; it has {known} (after SOURCE and OUT)")
        if not equals:
            value_follows = bool(waiting) and not waiting[0].startswith("--")
            if name in switches:
                value = "true"
            elif value_follows:
                value = waiting.pop(0)
            else:
                raise CorpusError(f"{flag} needs a value: {fields[name].description}")
        if fields[name].annotation == tuple[str, ...]:
            options[name] = [*options.get(name, []), value]
        else:
            options[name] = value
    return options


def describe(corpora: Sequence["AnyCorpus"]) -> str:
    """The corpora and their options, for a terminal."""
    lines = []
    for corpus in corpora:
        lines.append(f"{corpus.name}: {corpus.summary}")
        for name, field in corpus.options.model_fields.items():
            default = "" if field.default in (None, ()) or isinstance(field.default, bool) else f" [{field.default}]"
            flag = f"{_flag(name)} or {_flag('no_' + name)}" if field.default is True else _flag(name)
            lines.append(f"    {flag:<20} {field.description}{default}")
    return "\n".join(lines)


def check_encoding(name: str) -> None:
    """Refuse the name of an encoding that Python does not know, with a CorpusError."""
    try:
        "".encode(name)
    except LookupError:
        raise CorpusError(f"encoding '{name}' is not known; utf-8 and latin-1 are, for example") from None


def parse_scale(text: str) -> Scale:
    """``1-7``, ``-1-1`` or ``-1:1`` as a scale.

    Raises:
        CorpusError: if it is not two numbers, the lower one first
    """
    number = r"([+-]?\d+(?:\.\d+)?)"
    found = re.fullmatch(rf"{number}\s*[-:]\s*{number}", text.strip())
    if found is None or not float(found[1]) < float(found[2]):
        raise CorpusError(f"scale '{text}' is not low-high or low:high, such as 1-7, 0-1 or -1:1")
    return Scale(name=text.strip(), low=float(found[1]), high=float(found[2]))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
