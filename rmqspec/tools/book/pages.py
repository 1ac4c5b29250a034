"""What stands in the book: parts, chapters, sentences, cases and their results. ``binder`` makes it of records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from rmqspec.tools.book.record import Chapter, Header, Record
from rmqspec.tools.book.sequence import Story

__all__ = ["ABSENT", "Book", "Case", "Drawing", "Map", "Page", "Part", "Result", "Run", "Sentence", "Subject"]

ABSENT = "not in this record"


@dataclass(frozen=True, slots=True)
class Run:
    """A record, and what its column is called."""

    label: str
    record: Record

    @property
    def header(self) -> Header:
        """Its first line."""
        return self.record.header

    @property
    def outcomes(self) -> Counter[str]:
        """How many specs ended in which way, counted here: a record that was cut off has no count of its own."""
        return Counter(spec.outcome for spec in self.record.specs)


@dataclass(frozen=True, slots=True)
class Result:
    """How a spec ended in one run."""

    label: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """What went over the wire, in the runs of these labels."""

    labels: tuple[str, ...]
    picture: Markup
    story: Story


@dataclass(frozen=True, slots=True)
class Case:
    """A test as pytest counts them."""

    anchor: str
    name: str
    node: str
    results: tuple[Result, ...]
    drawings: tuple[Drawing, ...]

    @property
    def wire_differs(self) -> bool:
        """Whether the brokers said different things."""
        return len(self.drawings) > 1

    @property
    def differs(self) -> bool:
        """Whether not all runs ended in the same way."""
        return len({result.outcome for result in self.results if result.outcome != ABSENT}) > 1


@dataclass(frozen=True, slots=True)
class Sentence:
    """A test function: one sentence, in one case or several."""

    anchor: str
    words: str
    why: str
    behaviours: tuple[str, ...]
    source: Markup
    cases: tuple[Case, ...]

    @property
    def node(self) -> str:
        """As pytest runs it, with all its cases."""
        first = self.cases[0]
        return first.node.removesuffix(f"[{first.name}]")

    @property
    def plain(self) -> bool:
        """Whether it has one case, without a name."""
        return len(self.cases) == 1 and not self.cases[0].name

    @property
    def recorded(self) -> bool:
        """Whether what went over the wire stands beside its source."""
        return self.plain and bool(self.cases[0].drawings)

    @property
    def differs(self) -> bool:
        """Whether any case does."""
        return any(case.differs for case in self.cases)


@dataclass(frozen=True, slots=True)
class Subject:
    """Of whom a group of sentences speaks: the broker, or a part of our code; and what that group says of itself."""

    name: str
    about: str
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True, slots=True)
class Map:
    """The exchanges and queues of a chapter, as one of its sentences declared them; what its lines mean."""

    picture: Markup
    anchor: str
    words: str
    lines: tuple[str, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Page:
    """A chapter; its tallies count outcomes for each label."""

    anchor: str
    chapter: Chapter
    map: Map | None
    subjects: tuple[Subject, ...]
    tallies: Mapping[str, Counter[str]]

    @property
    def sentences(self) -> list[Sentence]:
        """Of all its subjects."""
        return [sentence for subject in self.subjects for sentence in subject.sentences]

    @property
    def short(self) -> str:
        """The concept, which stands before the colon."""
        return self.chapter.title.rstrip(".").partition(":")[0]

    @property
    def title(self) -> str:
        """With its number, if it has one."""
        title = self.chapter.title.rstrip(".")
        return title if self.chapter.number is None else f"{self.chapter.number}. {title}"


@dataclass(frozen=True, slots=True)
class Part:
    """A shelf: the lessons, the reference."""

    name: str
    title: str
    pages: tuple[Page, ...]


@dataclass(frozen=True, slots=True)
class Book:
    """All of it."""

    runs: tuple[Run, ...]
    parts: tuple[Part, ...]

    @property
    def pages(self) -> list[Page]:
        """In the order in which they are read."""
        return [page for part in self.parts for page in part.pages]

    @property
    def title(self) -> str:
        """The product and the versions."""
        product = self.runs[0].header.product
        return f"{product} {', '.join(run.label for run in self.runs)}"

    @property
    def lead(self) -> str:
        """What its sentences are: tests, or the scenes of the demo."""
        if {part.name for part in self.parts} == {"demo"}:
            return "Each sentence is a scene that was played on a real broker. Each shows what went over the wire."
        return (
            "Each sentence is a test that ran against a real broker. "
            "Each shows how it ended, its source, and what went over the wire."
        )
