"""Names of systems in tables, and of the files that are made for them."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from sa2sr.studies.document import printable


def short_names(paths: Sequence[Path]) -> list[str]:
    """The end of each path, as short as tells it from the others: ``sa2sr``, or ``a/sa2sr`` beside ``b/sa2sr``."""
    parts = [Path(os.path.abspath(path)).parts for path in paths]
    names = []
    for own in parts:
        others = [other for other in parts if other != own]
        length = next((n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)), len(own))
        names.append(printable("/".join(own[-length:])))
    return names


def file_names(texts: Sequence[str]) -> list[str]:
    """Texts as different file names of letters, digits and hyphens."""
    names: list[str] = []
    for text in texts:
        name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]
        number = len(names) + 1
        own = name or str(number)
        while own in names:
            own, number = f"{name}-{number}".lstrip("-"), number + 1
        names.append(own)
    return names
