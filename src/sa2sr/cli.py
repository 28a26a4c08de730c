"""The command line: one thin command a verb. Rooms are imported where they are used, so that ``--help`` is quick."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sa2sr import __version__
from sa2sr.errors import UserError

if TYPE_CHECKING:
    from sa2sr.sentiment import Teacher

app = typer.Typer(
    name="sa2sr",
    help="Activation, valence and dominance from speech, with a sentiment-aware speech encoder.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sa2sr {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _list_corpora(wanted: bool) -> None:
    if wanted:
        from sa2sr.corpora import CORPORA
        from sa2sr.corpora.options import describe

        typer.echo(describe(list(CORPORA.values())))
        raise typer.Exit


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def prepare(
    context: typer.Context,
    corpus: Annotated[str, typer.Argument(help="Which corpus, such as librispeech; --list names all.")],
    source: Annotated[Path, typer.Argument(help="Where it is: its folder, or the file of a table.")],
    out: Annotated[Path, typer.Argument(help="Folder for the manifests, a .jsonl.gz each split, and report.json.")],
    allow_speaker_overlap: Annotated[
        bool, typer.Option("--allow-speaker-overlap", help="Accept speakers, and audio, that are in several splits.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Decode all audio to the end, or read its headers only.")
    ] = True,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes that decode; one a processor by default.")] = None,
    listing: Annotated[
        bool,
        typer.Option("--list", callback=_list_corpora, is_eager=True, help="Name the corpora and their own options."),
    ] = False,
) -> None:
    """Turn a corpus on disk into manifests of cuts; what cannot be used is left out and reported.

    A corpus may have options of its own, which follow OUT. Examples:

    sa2sr prepare librispeech LibriSpeech data/librispeech

    sa2sr prepare table calls.csv data/calls --scale 1-5 --activation arousal
    """
    from sa2sr.corpora import find
    from sa2sr.corpora import prepare as prepare_corpus
    from sa2sr.corpora.options import parse_options

    prepare_corpus(
        corpus,
        source,
        out,
        allow_speaker_overlap=allow_speaker_overlap,
        verify=verify,
        jobs=jobs,
        **parse_options(find(corpus), context.args),
    ).print()


@app.command()
def label(
    manifests: Annotated[list[Path], typer.Argument(help="Manifests of cuts (.jsonl, .jsonl.gz).")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A manifest, or a directory for manifests of the same names.")
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Replace the manifests.")] = False,
    teacher: Annotated[
        str, typer.Option(help="[b]vader[/b], or [b]transformers:[/b] and a folder or hub id.")
    ] = "vader",
    labels: Annotated[
        str | None,
        typer.Option(help="What the outputs of a transformers teacher mean, such as negative,neutral,positive."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts in a batch of a transformers teacher.")] = 32,
) -> None:
    """Show every transcript to a text-sentiment teacher and write its probabilities into the manifests.

    Interrupted, the same command goes on where it was. Example:

    sa2sr label data/train.jsonl.gz data/dev.jsonl.gz --out labelled
    """
    from sa2sr.sentiment import label_cuts, teacher_from_name

    if (out is None) != in_place:
        raise UserError("either --out or --in-place is needed, and not both")
    names = labels.split(",") if labels else None
    for report in label_cuts(manifests, out, teacher_from_name(teacher, batch_size=batch_size, labels=names)):
        counts = ", ".join(f"{count:,} {name}" for name, count in report.counts.items())
        typer.echo(f"{report.output}: {counts}; {report.unlabelled:,} without a transcript")


RecipeArgument = Annotated[
    str, typer.Argument(help="A recipe file, or the name of a shipped one: sa2sr, asr, scratch, ...")
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes, such as seed=1 or pretraining.max_epochs=3."),
]
RunOption = Annotated[Path, typer.Option("--out", "-o", help="The run folder; an interrupted run in it goes on.")]


def _train(
    stage: str, recipe: str, changes: list[str] | None, sets: dict[str, list[Path] | None], **options: Any
) -> None:
    from sa2sr.config import load_recipe

    given = [f"{stage}.{name}={json.dumps([str(path) for path in paths])}" for name, paths in sets.items() if paths]
    resolved = load_recipe(recipe, [*given, *(changes or [])])

    from sa2sr.training.trainer import train

    folder = train(resolved, stage, **options)
    typer.echo(f"model: {folder.model}")


@app.command()
def pretrain(
    recipe: RecipeArgument,
    changes: OverridesArgument = None,
    *,
    train: Annotated[list[Path] | None, typer.Option(help="Manifest to train on; may be repeated.")] = None,
    dev: Annotated[list[Path] | None, typer.Option(help="Manifest that decides which epoch is best; likewise.")] = None,
    out: RunOption,
) -> None:
    """Pre-train an encoder to transcribe and, with [bold]sa2sr[/], to tell the sentiment of what is said.

    Started again with the same command, an interrupted run goes on where it stopped.

    Example: sa2sr pretrain sa2sr --train cuts/train.jsonl.gz --dev cuts/dev.jsonl.gz --out runs/sa2sr seed=1
    """
    _train("pretraining", recipe, changes, {"train": train, "dev": dev}, out=out)


@app.command()
def finetune(
    recipe: RecipeArgument,
    changes: OverridesArgument = None,
    *,
    train: Annotated[list[Path] | None, typer.Option(help="Manifest to train on; may be repeated.")] = None,
    dev: Annotated[list[Path] | None, typer.Option(help="Manifest that decides which epoch is best; likewise.")] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="A pre-trained run or model folder; without it the encoder starts at random.")
    ] = None,
    out: RunOption,
) -> None:
    """Train a model to predict activation, valence and dominance, from a pre-trained encoder or from none.

    Started again with the same command, an interrupted run goes on where it stopped.

    Example: sa2sr finetune sa2sr --encoder runs/sa2sr --train train.jsonl.gz --dev dev.jsonl.gz --out runs/emotion
    """
    _train("finetuning", recipe, changes, {"train": train, "dev": dev}, out=out, start_from=encoder)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder, or a run folder.")],
    manifests: Annotated[list[Path], typer.Argument(metavar="CUTS", help="Manifests with labels.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; by default evaluation/... beside the model.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=1, help="Of the bootstrap, which gives the intervals.")] = 1000,
) -> None:
    """Measure what a model predicts against the labels of cuts, for all utterances and by gender and speaker.

    Of emotions: CCC, Pearson's correlation and RMSE. Of transcripts: CER and WER. Of sentiment: AUC and recalls.
    Writes metrics.json and predictions.csv.

    Example: sa2sr evaluate runs/emotion cuts/test.jsonl.gz
    """
    from sa2sr.training.evaluate import evaluate as evaluate_model
    from sa2sr.training.evaluation_tables import print_evaluation

    print_evaluation(evaluate_model(model, manifests, out, resamples=resamples))


@app.command()
def predict(
    audio: Annotated[
        list[Path], typer.Argument(help="Audio files and folders, after -- whatever their name; or - for a pipe.")
    ],
    model: Annotated[
        Path, typer.Option("--model", "-m", help="A model folder, exported or not, or the run folder of a fine-tuning.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A .csv or .jsonl file; without it the table is printed.")
    ] = None,
    longest: Annotated[
        float, typer.Option(min=1, help="Seconds of a row at most; longer files give several rows.")
    ] = 30.0,
    window: Annotated[
        float | None, typer.Option(help="Instead: a row for every window of so many seconds; 6 for a pipe.")
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help="Seconds from a window to the next; 2 for a pipe, else they do not overlap.")
    ] = None,
    raw: Annotated[
        int | None, typer.Option(help="A pipe carries no WAV, but 16-bit little-endian mono samples of this rate.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="onnx, torch, or auto: onnx on a CPU where it is installed, otherwise torch.")
    ] = "auto",
    int8: Annotated[bool, typer.Option("--int8", help="Onnx in 8-bit integers: faster, a little less exact.")] = False,
    device: Annotated[str, typer.Option(help="Such as cpu or cuda.")] = "cpu",
) -> None:
    """Predict activation, valence and dominance of audio, on the scale of the ratings that the model learnt from.

    The scale is written beside OUT, as OUT.scale.json, and what cannot be predicted as OUT.errors.jsonl.
    Exit code 1: some files failed. 2: nothing could be done. Examples:

    sa2sr predict calls/ interview.flac --model runs/emotion --out emotions.csv

    sa2sr predict meeting.mp3 --model runs/emotion --window 6 --hop 2 --out meeting.csv

    arecord -q -f S16_LE -r 16000 -t wav | sa2sr predict - --model runs/emotion
    """
    from sa2sr.inference import load
    from sa2sr.inference.job import failures_file, predict_files, predict_pipe
    from sa2sr.inference.pipe import NAME, Pipe
    from sa2sr.inference.windows import Windows

    try:
        windows = Windows.of(window, hop)
    except ValueError as error:
        raise UserError(f"--window, --hop: {error}") from None
    from_pipe = Path(NAME) in audio
    if from_pipe and len(audio) > 1:
        raise UserError("- (a pipe) must be alone; name a file that is called so with its whole path")
    if raw is not None and not from_pipe:
        raise UserError("--raw describes a pipe, which is named -; files say themselves what they are")
    loaded = load(model, engine=engine, device=device, int8=int8)
    if from_pipe:
        summary = predict_pipe(loaded, Pipe(sys.stdin.buffer, raw), out, windows=windows)
    else:
        summary = predict_files(loaded, audio, out, longest=longest, windows=windows)
    shown = 5
    for failure in summary.failures[:shown]:
        typer.secho(f"failed: {failure.file}: {failure.reason}", fg="yellow", err=True)
    if len(summary.failures) > shown:
        where = f", listed in {failures_file(out)}" if out else ""
        typer.secho(f"failed: {len(summary.failures) - shown:,} more{where}", fg="yellow", err=True)
    typer.echo(str(summary), err=True)
    if summary.failures:
        raise typer.Exit(1)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A model folder, or a run folder.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    int8: Annotated[bool, typer.Option("--int8/--no-int8", help="Also in 8-bit integers, for predict --int8.")] = True,
) -> None:
    """Export a model as ONNX, in a folder that predicts without torch: sa2sr predict --model OUT.

    labels.json in it says what the graph reads and gives. Example: sa2sr export runs/emotion emotion-onnx
    """
    from sa2sr.inference.export import export as export_model

    for graph in sorted(export_model(model, out, int8=int8).glob("*.onnx")):
        typer.echo(f"{graph} ({graph.stat().st_size / 1e6:.1f} MB)")


@app.command()
def split(
    manifests: Annotated[list[Path], typer.Argument(help="Manifests of cuts.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the parts.")],
    parts: Annotated[str, typer.Option(help="Names and shares of the hours.")] = "train=0.8,dev=0.1,test=0.1",
    seed: Annotated[int, typer.Option(help="Another seed, another division.")] = 0,
) -> None:
    """Divide manifests into parts that share no speaker.

    Example: sa2sr split cuts/mine/all.jsonl.gz --parts train=0.9,dev=0.1 --out cuts/mine
    """
    from sa2sr.corpora.splitting import parse_shares, split_by_speaker

    for name, cuts in split_by_speaker(manifests, out, parse_shares(parts), seed).items():
        speakers = {cut.supervisions[0].speaker for cut in cuts if cut.supervisions} - {None}
        hours = sum(cut.duration for cut in cuts) / 3600
        typer.echo(f"{out / name}.jsonl.gz: {len(cuts):,} cuts, {hours:.2f} h, {len(speakers):,} speakers")


@app.command()
def recipe(
    name: Annotated[str | None, typer.Argument(help="A recipe file, or the name of a shipped one.")] = None,
    changes: OverridesArgument = None,
) -> None:
    """Print a recipe with every key that it inherits; without a name, list the shipped recipes.

    Example: sa2sr recipe sa2sr-small seed=1
    """
    from sa2sr.config import load_recipe, shipped_recipes, to_yaml

    if name is None:
        for shipped, path in shipped_recipes().items():
            typer.echo(f"{shipped:16}{path.read_text(encoding='utf-8').partition(chr(10))[0].lstrip('# ')}")
    else:
        typer.echo(to_yaml(load_recipe(name, changes or [])), nl=False)


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
    device: Annotated[str, typer.Option(help="Such as cpu or cuda.")] = "cpu",
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
    title: Annotated[str, typer.Option(help="Of the report.")] = "Speech emotion recognition",
    resample: Annotated[
        str, typer.Option(help="What the bootstrap draws: speakers, utterances, or auto: speakers if there are enough.")
    ] = "auto",
) -> None:
    """Turn trainings and evaluations into tables with intervals, curves and scatter plots, as Markdown and HTML.

    Example: sa2sr report runs/none runs/asr runs/sa2sr --baseline none --out runs/report
    """
    from sa2sr.studies.report import make_report

    if resample not in ("auto", "speakers", "utterances"):
        raise UserError(f"--resample {resample}: must be auto, speakers or utterances")
    files = make_report(folders, out, title=title, baseline=baseline, resample=resample)  # type: ignore[arg-type]
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


def main() -> None:
    """Run the command line; an error that the user can mend is one line on standard error and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.secho(f"sa2sr: {error}", fg="red", err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    except KeyboardInterrupt:
        typer.secho("sa2sr: interrupted", err=True)
        sys.exit(130)
