"""Commands that predict."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sa2sr.cli.app import DeviceOption, EngineOption, Int8Option, ModelArgument, ModelOption, app
from sa2sr.errors import UserError


@app.command()
def predict(
    audio: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, quoted patterns, @lists of files, after -- whatever their name; or - for a pipe."
        ),
    ] = None,
    *,
    model: ModelOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A .csv, .jsonl or .parquet file; without it the table is printed."),
    ] = None,
    segments: Annotated[
        Path | None, typer.Option(help="Also the segments in a CSV file with columns file, start and end, in seconds.")
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
    vad: Annotated[
        bool, typer.Option("--vad", help="Instead: a row for every stretch of speech that silero-vad finds.")
    ] = False,
    raw: Annotated[
        int | None, typer.Option(help="A pipe carries no WAV, but 16-bit little-endian mono samples of this rate.")
    ] = None,
    level: Annotated[
        float | None,
        typer.Option(
            min=0, help="Share of ratings that the intervals hold; 0: none. By default 0.9 if the model is calibrated."
        ),
    ] = None,
    scale: Annotated[str, typer.Option(help="labels: that of the ratings; or 0-1.")] = "labels",
    transcript: Annotated[bool, typer.Option("--transcript", help="Also what is said, as the model hears it.")] = False,
    sentiment: Annotated[
        bool, typer.Option("--sentiment", help="Also how negative, neutral and positive that is.")
    ] = False,
    submission: Annotated[
        Path | None,
        typer.Option(help="Also this .csv, a submission to the MSP-Podcast challenges, made of OUT: a row a file."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted job for OUT.")] = False,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Processes; by default one a processor, if there is much to do."),
    ] = None,
    engine: EngineOption = "auto",
    int8: Int8Option = False,
    device: DeviceOption = "cpu",
) -> None:
    """Predict activation, valence and dominance of audio, on the scale of the ratings that the model learnt from.

    A model that tells categories apart adds the most probable emotion and the probability of each. The scale is
    written beside OUT, as OUT.scale.json, and what cannot be predicted as OUT.errors.jsonl.
    Exit code 1: some files failed. 2: nothing could be done. 130: interrupted, so that --resume continues. Examples:

    sa2sr predict calls/ interview.flac --out emotions.csv

    sa2sr predict '2024/**/*.opus' @more.txt --model runs/emotion --out emotions.parquet --resume

    sa2sr predict meeting.mp3 --model runs/emotion --window 6 --hop 2 --out meeting.csv

    arecord -q -f S16_LE -r 16000 -t wav | sa2sr predict - --model runs/emotion
    """
    from sa2sr.inference import load, read_segments, read_table
    from sa2sr.inference.job import failures_file, predict_files, predict_pipe
    from sa2sr.inference.options import Options
    from sa2sr.inference.pipe import NAME, Pipe
    from sa2sr.inference.windows import Windows

    try:
        windows = Windows.of(window, hop)
    except ValueError as error:
        raise UserError(f"--window, --hop: {error}") from None
    named = audio or []
    if not named and segments is None:
        raise UserError("name audio: files, folders, patterns in quotes, @lists, or --segments")
    from_pipe = NAME in named
    if from_pipe and (len(named) > 1 or segments is not None):
        raise UserError("- (a pipe) must be alone; name a file that is called so with its whole path")
    if raw is not None and not from_pipe:
        raise UserError("--raw describes a pipe, which is named -; files say themselves what they are")
    if resume and (out is None or from_pipe):
        raise UserError("--resume continues a table of files: name it with --out")
    if submission is not None and (out is None or from_pipe or vad or windows is not None):
        raise UserError("--submission is made of a table of whole files: name that with --out")
    if submission is not None and out is not None and submission.resolve() == out.resolve():
        raise UserError(f"--submission {submission} would replace the table of --out; give it another name")
    if vad and (windows is not None or from_pipe):
        raise UserError("--vad is for files, and without windows")
    try:
        options = Options(longest, windows, vad, level, scale, transcript, sentiment)
    except ValueError as error:
        raise UserError(f"--longest: {error}") from None
    loaded = load(model, engine=engine, device=device, int8=int8)
    try:
        options.heading(loaded)
    except ValueError as error:
        raise UserError(f"--scale, --level: {error}") from None
    if from_pipe:
        summary = predict_pipe(loaded, Pipe(sys.stdin.buffer, raw), out, options)
    else:
        wanted = [*named, *(read_segments(segments) if segments is not None else ())]
        try:
            summary = predict_files(loaded, wanted, out, options, jobs=jobs, resume=resume)
        except KeyboardInterrupt:
            remedy = f"; --resume continues {out}" if out is not None else ""
            typer.secho(f"interrupted{remedy}", fg="yellow", err=True)
            raise typer.Exit(130) from None
    if submission is not None and out is not None:
        read_table(out).write_submission(submission)
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
    model: ModelArgument,
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    int8: Annotated[bool, typer.Option("--int8/--no-int8", help="Also in 8-bit integers, for predict --int8.")] = True,
    check: Annotated[
        list[Path] | None, typer.Option(help="Cuts on which to measure what is lost; may be repeated.")
    ] = None,
) -> None:
    """Export a model as ONNX, in a folder that predicts without torch: sa2sr predict --model OUT.

    labels.json in it says what the graph reads and gives. With --check the graphs are compared with torch on rated
    cuts, and agreement.json says what was found. Exit code 1: more is lost than should be. Examples:

    sa2sr export runs/emotion emotion-onnx

    sa2sr export runs/emotion emotion-onnx --check cuts/msp/test1.jsonl.gz
    """
    from sa2sr.inference.export import export as export_model

    for graph in sorted(export_model(model, out, int8=int8).glob("*.onnx")):
        typer.echo(f"{graph} ({graph.stat().st_size / 1e6:.1f} MB)")
    if check:
        _check(model, out, check)


def _check(model: str, out: Path, manifests: list[Path]) -> None:
    from sa2sr.config import DIMENSIONS
    from sa2sr.inference.agreement import AGREEMENT_FILE, FP32_DIFFERENCE, INT8_COST, check_agreement

    found = check_agreement(model, out, manifests)
    for name in ("fp32", "int8"):
        for dimension in DIMENSIONS if name in found else ():
            each = found[name][dimension]
            moved = f"at most {each['largest_difference']:.2g}, on average {each['mean_difference']:.2g} from torch"
            lost = f"; CCC {each['ccc_torch']:.4f} -> {each['ccc']:.4f}" if "ccc" in each else ""
            typer.echo(f"{name} {dimension}: {moved}{lost}")
    typer.echo(f"{found['utterances']:,} utterances; details in {out / AGREEMENT_FILE}", err=True)
    if not found["ok"]:
        limits = f"fp32 may move by {FP32_DIFFERENCE:g}, int8 may cost {INT8_COST:g} CCC"
        typer.secho(f"more is lost than should be: {limits}", fg="red", err=True)
        raise typer.Exit(1)
