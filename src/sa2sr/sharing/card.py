"""The model card: what others should know before they use a model, for people and, as metadata, for the hub.

What the folders say is written by this module: the network, its tasks and scale, what evaluations beside the model
found. What only people know they say: the licence, the data, what it is for.
"""

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from sa2sr.config import DIMENSIONS, EncoderSettings, ModelSettings
from sa2sr.intervals import Calibration
from sa2sr.metrics import METRIC_LABELS
from sa2sr.network.folder import SHIPPED
from sa2sr.sharing.facts import CardFacts, Source
from sa2sr.sharing.measured import Estimate, Measured

LIBRARY = "sa2sr"
_OUTPUTS = {"ctc": "transcripts", "category": "categories"}  # those that are not called what they are


def card_text(
    settings: ModelSettings,
    facts: CardFacts,
    measured: Sequence[Measured] = (),
    calibration: Calibration | None = None,
    *,
    name: str = SHIPPED,
    parameters: int | None = None,
) -> str:
    """The text of a model card.

    Args:
        settings: of the model
        facts: that only people know
        measured: what evaluations found
        calibration: of its intervals
        name: by which it is loaded; ``default`` is the model that comes with the package
        parameters: of the network
    """
    metadata = yaml.safe_dump(_metadata(settings, facts, measured), sort_keys=False, allow_unicode=True, width=1000)
    paragraphs = "\n\n".join(_paragraphs(settings, facts, measured, calibration, name, parameters))
    return f"---\n{metadata}---\n\n{paragraphs}\n"


def _metadata(settings: ModelSettings, facts: CardFacts, measured: Sequence[Measured]) -> dict[str, Any]:
    """What the hub reads."""
    found: dict[str, Any] = {"library_name": LIBRARY, "pipeline_tag": "audio-classification"}
    if facts.licence:
        found["license"] = facts.licence
    if facts.licence_name:
        found["license_name"] = facts.licence_name
    if facts.licence_link:
        found["license_link"] = facts.licence_link
    if facts.languages:
        found["language"] = list(facts.languages)
    found["tags"] = ["speech", "emotion", *_predicted(settings)]
    if results := [result for each in measured if (result := _result(each))["metrics"]]:
        found["model-index"] = [{"name": settings.name, "results": results}]
    return found


def _result(measured: Measured) -> dict[str, Any]:
    return {
        "task": {"type": "audio-classification", "name": "Speech emotion recognition"},
        "dataset": {"type": measured.test_set.replace("/", "-").replace(" + ", "-"), "name": measured.test_set},
        "metrics": [
            {
                "type": each.metric,
                "name": f"{METRIC_LABELS.get(each.metric, each.metric)}, {_OUTPUTS.get(output, output)}",
                "value": round(each.value, 4),
            }
            for output in measured.overall
            for each in measured.estimates(output)
        ],
    }


def _predicted(settings: ModelSettings) -> list[str]:
    outputs = {"emotion": [*DIMENSIONS], "category": ["categories"], "ctc": ["transcripts"], "sentiment": ["sentiment"]}
    active = settings.objectives.active()
    return [name for task, names in outputs.items() if task in active for name in names]


def _paragraphs(
    settings: ModelSettings,
    facts: CardFacts,
    measured: Sequence[Measured],
    calibration: Calibration | None,
    name: str,
    parameters: int | None,
) -> Iterator[str]:
    yield f"# {facts.title or settings.name}"
    yield facts.summary.strip() if facts.summary else _summary(settings)
    word = shlex.quote(name)  # in commands, where a name with a space would be two
    called, option = ("", "") if name == SHIPPED else (json.dumps(name, ensure_ascii=False), f" --model {word}")
    yield "## Use"
    if settings.objectives.emotion or settings.categories:
        lines = (
            "import sa2sr",
            "",
            f'table = sa2sr.load({called}).predict("call.wav")',
            "print(table[0], table.scale)",
        )
        yield "\n".join(["```python", *lines, "```"])
        yield f"```\nsa2sr predict call.wav{option}\n```"
    else:
        yield f"```\nsa2sr finetune RECIPE --encoder {word} --train ... --dev ... --out runs/emotion\n```"
    if measured:
        yield "## What was measured"
        yield _table(measured)
        yield "In brackets: 95 % bootstrap intervals. Each test set by its command:"
        arguments = [" ".join([*(shlex.quote(f"cuts/{path}") for path in e.manifests), *e.options]) for e in measured]
        yield "\n".join(["```", *(f"sa2sr evaluate {word} {each}" for each in arguments), "```"])
    if calibration is not None:
        yield "## Intervals"
        yield _intervals(calibration)
    yield "## Data and licences"
    if facts.data:
        yield _data(facts.data)
    yield _licence(facts)
    yield "## What it is for"
    yield facts.intended_use.strip()
    yield "## Limits"
    yield facts.limits.strip()
    yield "## How it was made"
    yield _network(settings, parameters)
    if facts.training:
        yield facts.training.strip()


def _summary(settings: ModelSettings) -> str:
    scale, told = settings.scale, f"Tells apart what speech sounds like: {', '.join(settings.categories)}."
    if settings.objectives.emotion is None or scale is None:
        pretrained = f"A speech encoder, pre-trained with the tasks {', '.join(settings.objectives.active())}."
        return told if settings.categories else pretrained
    dimensions = (
        "Predicts activation (calm to excited), valence (unpleasant to pleasant) and dominance (weak to strong) of "
        f"speech, on the scale {scale.name}, {scale.low:g} to {scale.high:g}."
    )
    return f"{dimensions} {told}" if settings.categories else dimensions


def _table(measured: Sequence[Measured]) -> str:
    lines = ["| test set | | utterances | | ratings within 90 % intervals |", "|---|---|---:|---|---:|"]
    for each in measured:
        for output, found in each.overall.items():
            shown = ", ".join(map(_shown, each.estimates(output)))
            inside = f"{100 * each.coverage[output]:.1f} %" if output in each.coverage else ""
            cells = (each.test_set, _OUTPUTS.get(output, output), f"{found.get('utterances', 0):,}", shown, inside)
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines)


def _shown(estimate: Estimate) -> str:
    name, low, high = METRIC_LABELS.get(estimate.metric, estimate.metric), estimate.low, estimate.high
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{name} {estimate.value:.3f}{interval}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _intervals(calibration: Calibration) -> str:
    basis = "; ".join(
        f"{dimension}: {each.utterances:,} utterances" + (f" of {each.speakers:,} speakers" if each.speakers else "")
        for dimension, each in calibration.dimensions.items()
    )
    source = f" on {', '.join(calibration.cuts)}" if calibration.cuts else ""
    if calibration.trainings > 1:
        source += f", of {calibration.trainings} trainings with different speakers for development"
    return (
        f"They come from split conformal prediction{source} ({basis}), and hold their share of ratings of speech like "
        "that. `sa2sr calibrate` makes them hold for yours."
    )


def _data(data: Sequence[Source]) -> str:
    lines = ["| data | licence | use |", "|---|---|---|"]
    for each in data:
        name = f"[{each.name}]({each.address})" if each.address else each.name
        lines.append(f"| {_cell(name)} | {_cell(each.licence)} | {_cell(each.use or '')} |")
    return "\n".join(lines)


def _licence(facts: CardFacts) -> str:
    if facts.licence is None:
        return "The licence of the weights is not stated."
    name = facts.licence_name or facts.licence
    return f"The weights are under [{name}]({facts.licence_link})." if facts.licence_link else f"The weights: {name}."


def _network(settings: ModelSettings, parameters: int | None) -> str:
    encoder, objectives = settings.encoder, settings.objectives
    size = f", {parameters / 1e6:.1f} million parameters" if parameters else ""
    left = f" Of these the encoder has left behind: {', '.join(settings.drifted)}." if settings.drifted else ""
    if encoder.kind == "transformers":
        what, heard = _pretrained(encoder), "the waveform"
    else:
        kind = "LSTM" if encoder.kind == "lstm" else encoder.kind
        reads = "both directions" if encoder.direction == "both" else "the past alone"
        what = f"{kind} of {encoder.layers} x {encoder.units} units, which reads {reads}"
        heard = "log mel filterbank energies"
    return (
        f"{what}{size}. Heads: {', '.join(objectives.active())}.{left} It reads {heard} of "
        f"{settings.frontend.sampling_rate:,} Hz; `config.yaml` has every setting."
    )


def _pretrained(encoder: EncoderSettings) -> str:
    """What was made of which pre-trained encoder; of one in a folder, the name of the folder."""
    name = str(encoder.name)
    name = Path(name).name if Path(name).is_absolute() or len(Path(name).parts) > 2 else name
    if encoder.lora is not None:
        learnt = f"which stayed as it was beside LoRA adapters of rank {encoder.lora.rank}"
    elif encoder.freeze == "all":
        learnt = "which stayed as it was"
    elif encoder.freeze == "none":
        learnt = "all of which was trained further"
    else:
        layers = "" if encoder.freeze == "features" else f" and its {encoder.freeze} lowest layers"
        learnt = f"which was trained further but for its convolutions{layers}"
    states = "its last layer" if encoder.readout == "last" else "a learnt mean over its layers"
    return f"The pre-trained encoder {name}, {learnt}, read by {states}"
