"""Commands that make tables, tests and reports."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sa2sr.cli.app import DeviceOption, app
from sa2sr.errors import UserError

if TYPE_CHECKING:
    from sa2sr.sentiment import Teacher


@app.command()
def correlate(
    manifests: Annotated[list[Path] | None, typer.Argument(help="Manifests of cuts with text and emotion.")] = None,
    csv: Annotated[
        list[Path] | None, typer.Option(help="Instead: a table of transcripts, with the columns Utterance and Emotion.")
    ] = None,
    counts: Annotated[
        Path | None, typer.Option(help="Instead: a table of counts: emotion, negative, neutral, positive.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Emotions that count as one, such as sad+anger+frustrated.")
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="From negative to positive, such as sad,neutral,happy; the rest is left out.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Ask this teacher, as in label; by default vader, where nothing is labelled.")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="Of a table of transcripts.")] = None,
    emotion_column: Annotated[str | None, typer.Option(help="Of a table of transcripts.")] = None,
    sentiment_column: Annotated[
        str | None, typer.Option(help="Of a table of transcripts: sentiments by people, to ask no teacher.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=1, max=1_000_000, help="For the interval.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for correlation.json, .md and .png, a heat map.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Count text sentiment by emotion and measure how they go together (the paper's Table 1).

    Spearman's correlation is between negative < neutral < positive text and the emotions in their order: by default
    sad, angry, frustrated and other negative ones as one class, then neutral, then happy and excited. Surprise is left
    out. Examples:

    sa2sr correlate labelled/train.jsonl.gz --out runs/table1

    sa2sr correlate --csv train_sent_emo.csv --csv dev_sent_emo.csv

    sa2sr correlate --counts table1.csv --group sad+anger+frustrated --json
    """
    from sa2sr.sentiment import teacher_from_name
    from sa2sr.studies import correlate as study
    from sa2sr.studies.sentiment_counts import counts_of_cuts, counts_of_table, read_counts

    if sum(map(bool, (manifests, csv, counts))) != 1:
        raise UserError("one of manifests, --csv and --counts is needed")

    def ask() -> "Teacher":
        return teacher_from_name(teacher or "vader")

    if counts:
        table = read_counts(counts)
    elif csv:
        columns = {"text_column": text_column, "emotion_column": emotion_column, "sentiment_column": sentiment_column}
        table = counts_of_table(csv, ask, **columns)
    else:
        table = counts_of_cuts(manifests or [], ask, relabel=teacher is not None)
    result = study.correlate(table, groups=group or [], order=order, resamples=resamples, seed=seed)
    if out:
        study.write_correlation(result, out)
    typer.echo(json.dumps(study.figures(result), indent=2) if as_json else study.as_markdown(result).rstrip())


@app.command()
def audit(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Model or run folders, each as FOLDER or NAME=FOLDER.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for audit.json, audit.md, audit.csv and a picture.")
    ] = None,
    voices: Annotated[
        str, typer.Option(help="distinct, all, how many of each group, or names separated by commas.")
    ] = "distinct",
    sentences: Annotated[int | None, typer.Option(min=1, help="Say the first carrier sentences only.")] = None,
    speech: Annotated[Path, typer.Option(help="Folder of the audio; it is spoken once and serves every audit.")] = Path(
        "runs/audit-speech"
    ),
    device: DeviceOption = "cpu",
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of the intervals.")] = 0.95,
    resamples: Annotated[int, typer.Option(min=1, max=100_000, help="For the intervals.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes that speak; one a processor by default.")] = None,
) -> None:
    """Test whether a model hears words: how far do positive and negative ones shift valence, in equal prosody?

    Sentences that differ by one positive, neutral or negative word are said by many voices of espeak-ng. Exit code 1:
    some models could not be audited. 2: none could. Example:

    sa2sr audit none=runs/none asr=runs/asr sa2sr=runs/sa2sr --out runs/audit
    """
    from sa2sr.studies.audit import named_models, run_audit
    from sa2sr.studies.audit_report import print_audit
    from sa2sr.studies.audit_sentences import TRIPLES

    result = run_audit(
        named_models(models),
        out,
        speech=speech,
        triples=TRIPLES[:sentences],
        voices=voices,
        device=device,
        level=level,
        resamples=resamples,
        seed=seed,
        jobs=jobs,
    )
    print_audit(result)
    for name, reason in result.failed.items():
        typer.secho(f"failed: {name}: {reason}", fg="yellow", err=True)
    if result.failed:
        raise typer.Exit(1)


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run and evaluation folders, or folders with such in them.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for report.md, report.html, the tables and the pictures.")
    ],
    baseline: Annotated[
        str | None, typer.Option(help="The system to compare with; by default the first without pre-training.")
    ] = None,
    compare: Annotated[
        list[str] | None, typer.Option(metavar="A:B", help="A further comparison, such as sa2sr:asr; may be repeated.")
    ] = None,
    title: Annotated[str, typer.Option(help="Of the report.")] = "Speech emotion recognition",
    resample: Annotated[
        str,
        typer.Option(
            help="What the bootstrap draws: speakers, sentences, utterances, or auto, which looks at the set."
        ),
    ] = "auto",
) -> None:
    """Turn trainings and evaluations into tables with intervals, curves and scatter plots, as Markdown and HTML.

    Trainings whose folders differ in their seed alone (asr-seed0, asr-seed1) are one system: its row is the mean.

    Example: sa2sr report runs/none runs/asr runs/sa2sr --baseline none --out runs/report
    """
    from sa2sr.studies.report import make_report

    if resample not in ("auto", "speakers", "sentences", "utterances"):
        raise UserError(f"--resample {resample}: must be auto, speakers, sentences or utterances")
    pairs = [(first, second) for first, _, second in (pair.partition(":") for pair in compare or [])]
    files = make_report(folders, out, title=title, baseline=baseline, comparisons=pairs, resample=resample)  # type: ignore[arg-type]
    typer.echo(f"{files.html}\n{files.markdown}")


@app.command()
def demo(
    size: Annotated[str, typer.Option(help="full (some minutes), small, or tiny (a check that all works).")] = "full",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the demo.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the corpus and of the trainings.")] = 0,
) -> None:
    """Show the whole path on speech that is made on the spot: pre-train, fine-tune, evaluate, report, predict.

    Interrupted, the same command goes on where it was. Example: sa2sr demo --size tiny --out /tmp/demo
    """
    from sa2sr.studies.demo import run_demo
    from sa2sr.studies.demo_report import print_result

    folder = run_demo(out, size, seed, say=lambda line: typer.echo(line, err=True))  # type: ignore[arg-type]
    print_result(folder)


@app.command()
def study(
    file: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a shipped one: emobank.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the study; by default runs/ and the name of the file.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Trainings at once, each with one thread.")] = 1,
) -> None:
    """Train and evaluate a grid of systems, seeds and corpora, and report it with tables, tests and curves.

    What is done is skipped and what was interrupted goes on, so the same command ends what it began. A cell that fails
    is noted in its folder, and the rest goes on. Exit code 1: some failed. 2: nothing could be done. Example:

    sa2sr study emobank --out runs/emobank --jobs 2
    """
    from sa2sr.studies.study import run_study

    folder = out or Path("runs") / Path(file).stem
    result = run_study(file, folder, jobs=jobs)
    for name, reason in result.failed.items():
        typer.secho(f"failed: {name}: {reason}", fg="yellow", err=True)
    typer.echo(f"{len(result.done)} cells are done, {len(result.failed)} failed")
    if result.report is not None:
        typer.echo(f"{result.report.html}\n{result.report.markdown}")
    if result.failed:
        raise typer.Exit(1)
