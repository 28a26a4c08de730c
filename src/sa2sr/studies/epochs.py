"""The epochs of a training that another process is doing, as far as it has written them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sa2sr.config import DIMENSIONS

_SHOWN = {"cer": "CER", "auc": "AUC"} | {f"{dimension}_ccc": dimension for dimension in DIMENSIONS}


def epochs_so_far(run: Path) -> list[dict[str, Any]]:
    """The history of a run folder; empty where there is none yet, or in the middle of writing a line."""
    try:
        lines = (run / "history.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []


def status(epoch: Mapping[str, Any]) -> str:
    """The scores of an epoch on the development set, on one line."""
    scores = epoch.get("dev", {})
    return "  ".join(f"{label} {scores[key]:.2f}" for key, label in _SHOWN.items() if key in scores)
