"""Which calls of a folder sound the most unpleasant, and what was their worst moment?

    python examples/lowest_valence.py FOLDER [HOW_MANY [MODEL]]

MODEL is a model folder or a name on the hub; by default it is the model that comes with sa2sr. Files are cut to windows
of six seconds; a call is ranked by the mean of its windows.
"""

import sys
from collections import defaultdict
from statistics import mean

import sa2sr
from sa2sr import Row


def main(audio_folder: str, how_many: str = "5", model: str | None = None) -> None:
    """Print the calls of lowest valence, worst first."""
    table = sa2sr.load(model).predict(audio_folder, window=6, hop=3)
    calls: dict[str, list[Row]] = defaultdict(list)
    for row in table:
        if not {"silent", "short"} & set(row.note.split("; ")):  # these say nothing about a call
            calls[row.file].append(row)
    ranked = sorted(calls.items(), key=lambda call: mean(row.valence for row in call[1]))
    print(f"valence on the scale {table.scale.name}: {table.scale.low:g} to {table.scale.high:g}")
    for file, rows in ranked[: int(how_many)]:
        worst = min(rows, key=lambda row: row.valence)
        print(f"{mean(row.valence for row in rows):5.2f}  {file}  lowest {worst.valence:.2f} at {worst.start:.0f} s")
    for failure in table.failures:
        print(f"failed: {failure.file}: {failure.reason}", file=sys.stderr)


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
