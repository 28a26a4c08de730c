"""Writing a report: ``report.md`` with pictures beside it, ``report.html`` in one piece, tables as CSV and LaTeX."""

import base64
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sa2sr.errors import UserError
from sa2sr.files import atomic, write_text
from sa2sr.metrics import Estimate
from sa2sr.studies.document import (
    Block,
    Cell,
    Clip,
    Clips,
    Code,
    Document,
    Pictures,
    Section,
    Table,
    cell_text,
    printable,
)

_AUDIO_TYPES = {
    ".flac": "audio/flac",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
}
_LARGEST_CLIP = 2_000_000  # bytes that are put into the page


@dataclass(frozen=True)
class ReportFiles:
    """Where a report was written."""

    markdown: Path
    html: Path
    tables: list[Path]


def write_report(document: Document, out: str | Path) -> ReportFiles:
    """Write a report into a folder: ``report.md``, ``report.html``, ``tables/`` and ``pictures/``.

    Raises:
        UserError: if the folder cannot be written to
    """
    out = Path(out)
    try:
        tables = []
        for table in document.tables():
            for suffix, text in ((".csv", table_csv(table)), (".tex", table_latex(table))):
                tables.append(out / "tables" / f"{table.name}{suffix}")
                write_text(tables[-1], text)
        for picture in document.pictures():
            with atomic(out / "pictures" / f"{picture.name}.png") as temporary:
                temporary.write_bytes(picture.png)
        write_text(out / "report.md", markdown(document))
        write_text(out / "report.html", html(document))
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot be written ({error.strerror})") from None
    return ReportFiles(out / "report.md", out / "report.html", tables)


# --- HTML -------------------------------------------------------------------------------------------------------------


def html(document: Document) -> str:
    """One page that asks for nothing else: styles, pictures and clips are inside."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,  # names of files and speakers are the user's
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"cell": cell_text, "audio": _audio_uri}
    environment.tests |= {
        kind.__name__.lower(): lambda block, kind=kind: isinstance(block, kind)
        for kind in (Table, Pictures, Clips, Code, Estimate)
    }
    return environment.get_template("report.html.j2").render(document=document)


def _audio_uri(clip: Clip) -> str | None:
    """A clip as a data URI; none if it cannot be read, is large, or of a kind that browsers do not play."""
    kind = _AUDIO_TYPES.get(clip.audio.suffix.lower())
    try:
        if kind is None or clip.audio.stat().st_size > _LARGEST_CLIP:
            return None
        return f"data:{kind};base64,{base64.b64encode(clip.audio.read_bytes()).decode()}"
    except OSError:
        return None


# --- Markdown ---------------------------------------------------------------------------------------------------------


def markdown(document: Document) -> str:
    """GitHub's Markdown; pictures are files beside it."""
    parts = [f"# {_escaped(document.title)}", _escaped(document.summary)]
    parts += [_section_markdown(section) for section in document.sections]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section_markdown(section: Section) -> str:
    return "\n\n".join([f"## {_escaped(section.title)}", *(_block_markdown(block) for block in section.blocks)])


def _block_markdown(block: Block) -> str:
    match block:
        case Table():
            return _table_markdown(block)
        case Pictures(pictures, caption):
            shown = "\n".join(f"![{_escaped(p.title)}](pictures/{p.name}.png)" for p in pictures)
            return f"{shown}\n\n{_escaped(caption)}".strip()
        case Clips(clips):
            return "\n".join(f"- {'; '.join(map(_escaped, (clip.title, *clip.lines)))}" for clip in clips)
        case Code(text, title):
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            return (f"{_escaped(title)}\n\n" if title else "") + f"{fence}\n{text.rstrip()}\n{fence}"
        case _:
            return _escaped(block)


def _table_markdown(table: Table) -> str:
    best = [table.best_row(index) for index in range(len(table.columns))]
    lines = [
        [_escaped(column.title) for column in table.columns],
        ["---" if _is_text(table, index) else "---:" for index in range(len(table.columns))],
    ]
    for number, row in enumerate(table.rows):
        texts = [_escaped(cell_text(cell, column.digits)) for cell, column in zip(row, table.columns, strict=True)]
        lines.append([f"**{text}**" if number == best[index] else text for index, text in enumerate(texts)])
    shown = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{shown}\n\n{_escaped(table.caption)}".strip()


def _is_text(table: Table, index: int) -> bool:
    return all(row[index] is None or isinstance(row[index], str) for row in table.rows)


def _escaped(text: str) -> str:
    """A text with nothing in it that Markdown or HTML would interpret, in one line."""
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", " ".join(text.split())).replace("&", "&amp;")


# --- Tables -----------------------------------------------------------------------------------------------------------


def table_csv(table: Table) -> str:
    """Full precision, a header of keys; an estimate fills three columns (``x``, ``x_low``, ``x_high``)."""
    wide = [table.has_intervals(index) for index in range(len(table.columns))]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_spread([column.key for column in table.columns], wide, ("", "_low", "_high")))
    for row in table.rows:
        cells: list[Cell] = []
        for cell, is_wide in zip(row, wide, strict=True):
            if isinstance(cell, Estimate):
                cells += [cell.value, cell.low, cell.high]
            else:
                cells += [cell, None, None] if is_wide else [cell]
        writer.writerow("" if cell is None or cell != cell else cell for cell in cells)  # NaN is an empty field too
    return file.getvalue()


def table_latex(table: Table) -> str:
    """A ``tabular`` with the rules of the booktabs package."""
    best = [table.best_row(index) for index in range(len(table.columns))]
    alignment = "".join("l" if _is_text(table, index) else "r" for index in range(len(table.columns)))
    lines = [" & ".join(_latex(column.title) for column in table.columns) + r" \\", r"\midrule"]
    for number, row in enumerate(table.rows):
        texts = [_latex(cell_text(cell, column.digits)) for cell, column in zip(row, table.columns, strict=True)]
        bold = [rf"\textbf{{{text}}}" if number == best[index] else text for index, text in enumerate(texts)]
        lines.append(" & ".join(bold) + r" \\")
    return "\n".join([rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}", ""])


def _spread(names: Sequence[str], wide: Sequence[bool], suffixes: Sequence[str]) -> list[str]:
    return [
        name + suffix
        for name, is_wide in zip(names, wide, strict=True)
        for suffix in (suffixes if is_wide else suffixes[:1])
    ]


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{MINUS SIGN}": "$-$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in printable(text))
