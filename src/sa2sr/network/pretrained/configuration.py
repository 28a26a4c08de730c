"""What a pre-trained encoder is: its architecture in JSON, as the library describes it. Nothing in it is executed."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sa2sr.errors import ModelError
from sa2sr.files import read_json

Configuration = dict[str, Any]

FAMILIES = {  # the library's model_type -> the module beside this one
    "wav2vec2": "wav2vec2",
    "hubert": "wav2vec2",
    "wavlm": "wav2vec2",
    "whisper": "whisper",
}
_LARGEST_FILE = 1 << 20  # bytes
_LARGEST_NUMBER = 1_000_000
_MOST_LAYERS = 200
_LONGEST_LIST = 10_000
_DEEPEST = 4


def read_configuration(path: str | Path) -> Configuration:
    """Read ``config.json`` of the library, or ``encoder.json`` of a model folder.

    Raises:
        ModelError: if it is missing, is not JSON, is of another kind of model, or asks for an absurd size
    """
    path = Path(path)
    values = read_description(path)
    family = values.get("model_type")
    if family not in FAMILIES:
        raise ModelError(f"{path}: model_type is {str(family)[:100]!r}; encoders can be {', '.join(FAMILIES)}")
    if absurd := next(_absurdities(values, "", 0), None):
        raise ModelError(f"{path}: {absurd}, which no encoder has")
    return values


def read_description(path: Path) -> Configuration:
    """A file of a pre-trained encoder that says what it is.

    Raises:
        ModelError: if it is no JSON object, or a very large one
    """
    try:
        return read_json(path, _LARGEST_FILE)
    except ValueError as error:
        raise ModelError(f"{path}: {error}; it says what an encoder is made of") from None


def _absurdities(value: Any, name: str, depth: int) -> Iterator[str]:
    """What would make a network so large that building it takes for ever."""
    if depth > _DEEPEST:
        yield f"'{name[:80]}' is nested too deep"
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _absurdities(each, key, depth + 1)
    elif isinstance(value, list):
        if len(value) > _LONGEST_LIST:
            yield f"'{name[:80]}' has {len(value):,} items"
        for each in value[:_LONGEST_LIST]:
            yield from _absurdities(each, name, depth + 1)
    elif isinstance(value, int | float):
        largest = _MOST_LAYERS if name.endswith("layers") else _LARGEST_NUMBER
        if not abs(value) <= largest:  # NaN too
            yield f"'{name[:80]}' is {value:g}"


def check_library() -> None:
    """Raise what tells a user how to get the library.

    Raises:
        ModelError: if it is not installed
    """
    if find_spec("transformers") is None:
        raise ModelError("an encoder of the kind transformers needs that library: pip install 'sa2sr[transformers]'")
