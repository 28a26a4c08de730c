"""What was prepared, what was not, and why."""

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sa2sr.corpora.corpus import Problem

_EXAMPLES = 3  # of each kind of problem, in the printed table


@dataclass(frozen=True)
class SplitCounts:
    """What a manifest holds."""

    utterances: int
    hours: float
    speakers: int
    with_text: int
    with_emotion: int
    with_ratings: int


@dataclass(frozen=True)
class Report:
    """The result of preparing a corpus.

    Attributes:
        corpus: its name
        source: where it was read
        manifests: of each split
        splits: the counts of each split
        problems: everything that was left out, in the order of names
        options: the corpus's own
        scales: the names of the scales of the ratings
        verified: whether the audio was decoded, rather than its headers read
    """

    corpus: str
    source: Path
    manifests: dict[str, Path]
    splits: dict[str, SplitCounts]
    problems: list[Problem] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    scales: tuple[str, ...] = ()
    verified: bool = True

    def counts(self) -> dict[tuple[str, str], int]:
        """How many problems there are of each (what was lost, reason), the most frequent first."""
        found = Counter((problem.lost, problem.reason) for problem in self.problems)
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))

    def to_dict(self) -> dict[str, Any]:
        """For JSON, every problem included."""
        return {
            "corpus": self.corpus,
            "source": str(self.source),
            "options": self.options,
            "verified": self.verified,
            "scales": list(self.scales),
            "splits": {name: asdict(counts) for name, counts in self.splits.items()},
            "left_out": [{"lost": lost, "reason": reason, "count": n} for (lost, reason), n in self.counts().items()],
            "problems": [asdict(problem) for problem in self.problems],
        }

    def print(self) -> None:
        """Two tables on standard output: what was prepared, and what was left out."""
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        # Wide enough that nothing is cut when the output goes to a file.
        console = Console(width=None if Console().is_terminal else 160, highlight=False)
        prepared = Table("split", title=f"{self.corpus}: {escape(str(self.source))}", title_justify="left")
        for name in ("utterances", "hours", "speakers", "with text", "with emotion", "with ratings"):
            prepared.add_column(name, justify="right")
        for name, split in self.splits.items():
            numbers = (split.utterances, split.speakers, split.with_text, split.with_emotion, split.with_ratings)
            first, *others = (f"{number:,}" for number in numbers)
            prepared.add_row(name, first, f"{split.hours:.2f}", *others)
        console.print(prepared)
        if self.scales:
            console.print(f"Ratings are on the scale {escape(', '.join(self.scales))}.")
        if not self.problems:
            console.print("Nothing was left out.")
            return
        examples: dict[tuple[str, str], list[str]] = defaultdict(list)
        for problem in self.problems:
            few = examples[problem.lost, problem.reason]
            if len(few) < _EXAMPLES:
                few.append(escape(f"{problem.item}: {problem.detail}" if problem.detail else problem.item))
        left_out = Table("left out", "why", title="Left out (all of it is in report.json)", title_justify="left")
        left_out.add_column("count", justify="right")
        left_out.add_column("such as", overflow="fold")
        for (lost, reason), count in self.counts().items():
            left_out.add_row(lost, escape(reason), f"{count:,}", "\n".join(examples[lost, reason]))
        console.print(left_out)
