"""Commands that make and change manifests of cuts."""

from pathlib import Path
from typing import Annotated

import typer

from sa2sr.cli.app import app
from sa2sr.errors import UserError


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
