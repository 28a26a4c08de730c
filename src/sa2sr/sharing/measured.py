"""What ``sa2sr evaluate`` found of a model, in its run folder, without the paths of whoever ran it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from sa2sr.config import DIMENSIONS, ModelSettings
from sa2sr.errors import ModelError
from sa2sr.files import read_json
from sa2sr.network.folder import EVALUATION_FOLDER, digest_of

_HEAD_OF = dict.fromkeys(DIMENSIONS, "emotion")  # the others are called as their heads are


class Estimate(NamedTuple):
    """A metric with its interval, if there is one."""

    metric: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Measured:
    """An evaluation."""

    test_set: str  # such as ravdess/test
    manifests: Sequence[str]  # the last two parts of their paths
    overall: Mapping[str, Mapping[str, Any]]  # output -> utterances, and estimates by metric
    coverage: Mapping[str, float]  # dimension -> share of the ratings within 90 % intervals
    options: Sequence[str] = ()  # of the command that measured it

    def estimates(self, output: str) -> Iterator[Estimate]:
        """The metrics of an output that have a value."""
        for metric, found in self.overall[output].items():
            if isinstance(found, Mapping) and found.get("value") is not None:
                yield Estimate(metric, float(found["value"]), found.get("low"), found.get("high"))

    def of_heads(self, settings: ModelSettings) -> "Measured":
        """What was measured of the heads that a model has."""
        heads = settings.objectives.active()
        kept = {name: found for name, found in self.overall.items() if _HEAD_OF.get(name, name) in heads}
        return replace(self, overall=kept)


def read_evaluations(run: Path, model: str, folder: Path) -> list[Measured]:
    """What is in ``evaluation/`` of a run folder about the model of this name, by name of the evaluation's folder.

    Args:
        run: the run folder
        model: its name
        folder: of the model; evaluations that do not say which weights they are of are taken for those in it

    Raises:
        ModelError: if something there is not what ``sa2sr evaluate`` writes, or is of other weights
    """
    found, digest = [], digest_of(folder)
    for path in sorted(run.glob(f"{EVALUATION_FOLDER}/*/metrics.json")):
        try:
            metrics = read_json(path)
            if metrics["name"] != model:
                continue
            if metrics.get("digest") not in (None, digest):
                raise ModelError(
                    f"{path}: is of other weights than {folder} has now, as after more training; evaluate again, or "
                    "remove it"
                )
            found.append(_measured(metrics))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ModelError(f"{path}: is not an evaluation ({reason}); evaluate again, or remove it") from None
    return found


def _measured(metrics: Mapping[str, Any]) -> Measured:
    manifests = ["/".join(Path(path).parts[-2:]) for path in metrics["manifests"]]
    at_90 = ((metrics.get("intervals") or {}).get("levels") or {}).get("0.9") or {}
    return Measured(
        " + ".join(name.removesuffix(".gz").removesuffix(".jsonl") for name in manifests),
        manifests,
        {output: dict(found) for output, found in metrics["overall"].items()},
        {dimension: float(found["coverage"]) for dimension, found in at_90.items()},
        _options(metrics),
    )


def _options(metrics: Mapping[str, Any]) -> list[str]:
    """Evaluations that do not say had none."""
    read = metrics.get("read")
    if read not in (None, "reference", "recognised"):
        raise ValueError(f"read is {read!r}")
    return ["--map-scale"] * (metrics.get("map_scale") is True) + ([f"--read {read}"] if read else [])
