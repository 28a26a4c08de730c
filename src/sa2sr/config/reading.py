"""Settings from YAML and to it; every mistake is reported with the path of its key and what is allowed there."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import ValidationError

from sa2sr.config.base import Settings
from sa2sr.errors import RecipeError

S = TypeVar("S", bound=Settings)

MAX_YAML_BYTES = 100_000
_MAX_MISTAKES = 20  # that a message lists


def validate(kind: type[S], values: Any, source: str) -> S:
    """Check values against a settings class.

    Raises:
        RecipeError: with one line a mistake: the key's path, what is wrong and what is allowed
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        lines = [_explain(kind, mistake) for mistake in mistakes[:_MAX_MISTAKES]]
        if len(mistakes) > len(lines):
            lines.append(f"and {len(mistakes) - len(lines)} more")
        raise RecipeError(f"{source}:\n" + "\n".join(f"  {line}" for line in lines)) from None


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file (safe types only).

    Raises:
        RecipeError: if it is missing, larger than any settings file, or not YAML
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise RecipeError(f"{path}: is larger than {MAX_YAML_BYTES:,} bytes, which no settings file is")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: is not UTF-8 text") from None
    return parse_yaml(text, str(path))


def to_yaml(settings: Settings, *, defaults: bool = True) -> str:
    """Settings as YAML, keys in the order of their declaration, with or without those that have their defaults."""
    values = settings.model_dump(mode="json", exclude_defaults=not defaults)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


class _StrictLoader(yaml.SafeLoader):
    """Refuses aliases, which let a small file expand to gigabytes, and keys that occur twice, of which one is lost."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [key for key, count in keys.items() if count > 1]:
            raise yaml.YAMLError(f"the key '{twice[0]}' occurs twice in one mapping, line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, source: str) -> Any:
    """Read YAML from a text (safe types only).

    Raises:
        RecipeError: naming its source, if it is not YAML
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    # PyYAML lets errors of all these kinds through, such as KeyError for "!!bool maybe".
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, AttributeError, LookupError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RecipeError(f"{source}: is not YAML ({reason or type(error).__name__})") from None


def _explain(kind: type[Settings], mistake: Any) -> str:
    """One line for a mistake that pydantic found."""
    location, type_ = list(mistake["loc"]), mistake["type"]
    # A key may hold anything, even what would steer a terminal.
    path = ".".join(str(part) if str(part).isprintable() else repr(part) for part in location) or "(top level)"
    given = repr(mistake["input"])
    got = f" (got {given if len(given) <= 80 else given[:80] + '...'})"
    if type_ in ("extra_forbidden", "model_type", "model_attributes_type"):
        unknown = type_ == "extra_forbidden"
        owner = _settings_at(kind, location[:-1] if unknown else location)
        allowed = f"; allowed here: {', '.join(owner.model_fields)}" if owner else ""
        return f"{path}: unknown key{allowed}" if unknown else f"{path}: must be a mapping of keys{allowed}{got}"
    message = mistake["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
    # The messages of our own validators show the value themselves.
    return f"{path}: {message[0].lower() + message[1:]}{'' if type_ in ('value_error', 'missing') else got}"


def _settings_at(kind: type[Settings], location: Sequence[Any]) -> type[Settings] | None:
    """The settings class that describes the mapping at ``location``."""
    current: type[Settings] | None = kind
    parts = iter(location)
    for part in parts:
        field = current.model_fields.get(str(part)) if current else None
        if field is None or (get_origin(field.annotation) is dict and next(parts, None) is None):  # a name of its own
            return None
        candidates = (field.annotation, *get_args(field.annotation))
        current = next((c for c in candidates if isinstance(c, type) and issubclass(c, Settings)), None)
    return current
