"""What the demo says of itself: its report, and the result that is printed at the end."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table as PrintedTable

from sa2sr.config import DIMENSIONS, SENTIMENTS
from sa2sr.corpora.demo import SPLITS, Size
from sa2sr.cuts import Cut, custom_fields, read_cuts
from sa2sr.inference import load
from sa2sr.studies.document import Clip, Clips, Code, Column, Section, Table, cell_text
from sa2sr.studies.records import Evaluation, read_evaluation
from sa2sr.studies.report import make_report
from sa2sr.studies.systems import System, concordances, differences

if TYPE_CHECKING:
    from sa2sr.studies.demo import DemoFolder

NEW_WORDS = "test-new-words"
_TESTS = {
    NEW_WORDS: "unseen voices and words that fine-tuning never heard",
    "test-known-words": "unseen voices, words of the fine-tuning",
}
_CLIPS = 6
_BASELINE = "none"
_MEANINGS = {
    "none": "no pre-training: the encoder starts at random",
    "asr": "pre-trained to transcribe",
    "sa2sr": "pre-trained to transcribe and to tell the sentiment of the words",
}


def write_demo_report(folder: "DemoFolder", size: Size) -> None:
    """Write report.md, report.html and predictions.csv."""
    cuts = _chosen_clips(folder)
    load(folder.model).predict([_audio(cut) for cut in cuts]).write(folder.path / "predictions.csv")
    make_report(
        [*_evaluation_folders(folder), folder.path / "pretrained", folder.path / "finetuned"],
        folder.path,
        title=f"The demo of sa2sr ({size})",
        baseline=_BASELINE,
        with_paper=False,  # it is of real speech
        opening=[_corpus_section(folder)],
        extra=[_clips_section(cuts, _evaluations(folder, NEW_WORDS))],
        closing=[Section("What to try next", [Code(_commands(folder))])],
    )


def print_result(folder: "DemoFolder") -> None:
    """Print the table of CCCs, where everything is, and what to try next."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    for test, meaning in _TESTS.items():
        _print_concordances(console, f"CCC on {meaning}", _evaluations(folder, test))
    for system, meaning in _MEANINGS.items():
        console.print(f"{system:6} {meaning}")
    console.print("In brackets: 95 % intervals. Valence is in the words alone, the other two are in the voice alone.\n")
    evaluations = _evaluations(folder, NEW_WORDS)
    for one, other in (("sa2sr", "asr"), ("asr", "none")):
        if one in evaluations and other in evaluations:
            pair = [System(name, [evaluations[name]]) for name in (one, other)]
            valence = differences(*pair)["valence"]
            console.print(
                f"valence of new words, {one} minus {other}: {cell_text(valence, 2)}, p = {valence.p_value:.3f}"
            )
    shown = _shortest(folder.path)
    files = f"report: {shown / 'report.html'} (and report.md)\nmodel:  {shown / 'model'}"
    console.print(f"\n{files}\n\nNext:\n{_commands(folder)}", soft_wrap=True, markup=False)


def _print_concordances(console: Console, title: str, evaluations: Mapping[str, Evaluation]) -> None:
    table = PrintedTable(title=title, title_justify="left")
    for column in ("system", *DIMENSIONS):
        table.add_column(column)
    for system, evaluation in evaluations.items():
        estimates = concordances(System(system, [evaluation]))
        table.add_row(system, *(cell_text(estimates.get(dimension), 2) for dimension in DIMENSIONS))
    console.print(table)


def _evaluation_folders(folder: "DemoFolder") -> list[Path]:
    return [folder.evaluated(system, test) for test in _TESTS for system in _MEANINGS]


def _evaluations(folder: "DemoFolder", test: str) -> dict[str, Evaluation]:
    """By system, as far as they can be read."""
    read = {system: read_evaluation(folder.evaluated(system, test), system, []) for system in _MEANINGS}
    return {system: evaluation for system, evaluation in read.items() if evaluation is not None}


def _chosen_clips(folder: "DemoFolder") -> list[Cut]:
    """The first clips of the test set, as many of each sentiment: not chosen by what the models say of them."""
    chosen: list[Cut] = []
    counts = Counter[str]()
    for cut in read_cuts(folder.cuts(NEW_WORDS)):
        sentiment = _sentiment(cut)
        if counts[sentiment] < _CLIPS // len(SENTIMENTS):
            counts[sentiment] += 1
            chosen.append(cut)
    return chosen


def _clips_section(cuts: list[Cut], evaluations: Mapping[str, Evaluation]) -> Section:
    clips = []
    for cut in cuts:
        lines = [f"rated: {_numbers([custom_fields(cut)[dimension] for dimension in DIMENSIONS])}"]
        for system, evaluation in evaluations.items():
            if cut.id in evaluation.names:
                predicted = evaluation.predictions[evaluation.names.index(cut.id)]
                lines.append(f"{system}: {_numbers(predicted)}")
        clips.append(Clip(str(cut.supervisions[0].text), _audio(cut), lines))
    text = (
        "The first clips of test-new-words, two of each sentiment, with ratings and predictions of activation, valence "
        "and dominance on the scale 1 to 7. Their valence is in the words alone."
    )
    return Section("Listen", [text, Clips(clips)])


def _corpus_section(folder: "DemoFolder") -> Section:
    columns = [
        Column("split", "part"),
        Column("utterances", "utterances"),
        Column("minutes", "minutes", digits=1),
        Column("voices", "voices"),
        Column("rated_words", "different rated words"),
    ]
    rows, words = [], {}
    for split in SPLITS:
        cuts = list(read_cuts(folder.cuts(split)))
        words[split] = {word for cut in cuts if (word := custom_fields(cut).get("rated_word"))}
        voices = {cut.supervisions[0].speaker for cut in cuts}
        rows.append([split, len(cuts), sum(cut.duration for cut in cuts) / 60, len(voices), len(words[split])])
    known = len(words[NEW_WORDS] & (words["train"] | words["dev"])) or "none"
    text = (
        "The speech is synthetic, made on this computer by espeak-ng. The valence of a sentence is that of one word in "
        "it, as people rated it for VADER's lexicon; activation and dominance are in the voice: rate, pitch, pitch "
        "range and loudness. Pre-training hears all words, with transcripts and the sentiments that VADER reads from "
        f"them, but no ratings. Of the rated words of {NEW_WORDS}, fine-tuning and its development set know {known}. "
        "So their valence can only be told by a model that learnt what words mean before. It is a demonstration of "
        "the method on a task made for it, not a measurement of how well it works on people."
    )
    return Section("The corpus", [text, Table("corpus", columns, rows)])


def _commands(folder: "DemoFolder") -> str:
    shown = _shortest(folder.path)
    model = shlex.quote(str(shown / "model"))
    return f"""\
# predict your own recordings (the demo's model only knows synthetic speech and 200 words)
sa2sr predict clip.wav --model {model}

# train on your own: a table with the columns path, text, speaker, split, activation, valence, dominance
sa2sr prepare table mine.csv cuts/mine --scale 1-7
sa2sr label cuts/mine/train.jsonl.gz cuts/mine/dev.jsonl.gz --in-place
sa2sr pretrain sa2sr-small --train cuts/mine/train.jsonl.gz --dev cuts/mine/dev.jsonl.gz --out runs/sa2sr
sa2sr finetune sa2sr-small --encoder runs/sa2sr \\
    --train cuts/mine/train.jsonl.gz --dev cuts/mine/dev.jsonl.gz --out runs/emotion
sa2sr evaluate runs/emotion cuts/mine/test.jsonl.gz
sa2sr report runs --out runs/report"""


def _shortest(path: Path) -> Path:
    """The path from here, if it is below here."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def _audio(cut: Cut) -> Path:
    return Path(cut.recording.sources[0].source)


def _sentiment(cut: Cut) -> str:
    probabilities = list(custom_fields(cut)["sentiment"])
    return SENTIMENTS[probabilities.index(max(probabilities))]


def _numbers(emotions: Iterable[float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in zip(DIMENSIONS, emotions, strict=True))
