"""The options of the corpora, as words of a command line."""

from collections.abc import Sequence

from sa2sr.corpora.corpus import Corpus
from sa2sr.errors import CorpusError


def parse_options(corpus: Corpus, words: Sequence[str]) -> dict[str, str]:
    """``["--dev-actors", "1-4", "--merge"]`` -> ``{"dev_actors": "1-4", "merge": "true"}``.

    Raises:
        CorpusError: if a word is not an option of the corpus, or lacks its value
    """
    fields = corpus.options.model_fields
    options: dict[str, str] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or name not in fields:
            known = ", ".join(map(_flag, fields)) or "none of its own"
            raise CorpusError(f"'{word}' is not an option of {corpus.name}; it has {known} (after SOURCE and OUT)")
        if not equals:
            value_follows = bool(waiting) and not waiting[0].startswith("--")
            if fields[name].annotation is bool:
                value = "true"
            elif value_follows:
                value = waiting.pop(0)
            else:
                raise CorpusError(f"{flag} needs a value: {fields[name].description}")
        options[name] = value
    return options


def describe(corpora: Sequence[Corpus]) -> str:
    """The corpora and their options, for a terminal."""
    lines = []
    for corpus in corpora:
        lines.append(f"{corpus.name}: {corpus.summary}")
        for name, field in corpus.options.model_fields.items():
            default = "" if field.default in (None, False) else f" [{field.default}]"
            lines.append(f"    {_flag(name):<20} {field.description}{default}")
    return "\n".join(lines)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
