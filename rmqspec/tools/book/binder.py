"""Makes a book of run records: the same spec of several runs becomes one sentence with a result for each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rmqspec.tools.book.highlight import highlighted
from rmqspec.tools.book.layout import topology_drawing
from rmqspec.tools.book.lifelines import lifelines
from rmqspec.tools.book.pages import ABSENT, Book, Case, Drawing, Map, Page, Part, Result, Run, Sentence, Subject
from rmqspec.tools.book.record import Chapter, Record, Spec
from rmqspec.tools.book.sequence import Story, story
from rmqspec.tools.book.topology import biggest, topology
from rmqspec.tools.book.words import anchor, version_key

__all__ = ["bind"]

SHELVES: Mapping[str, str] = {"lessons": "Lessons", "reference": "Reference"}  # in this order; others follow
LINES: Mapping[str, str] = {
    "binding": "solid lines are bindings with their keys",
    "dead letter": "dashed ones the way of dead letters",
    "alternate": "dotted ones lead to alternate exchanges",
}

Versions = Mapping[str, Spec]  # one spec, by the labels of the runs that have it


def bind(records: Iterable[Record]) -> Book:
    """Binds records into a book: versions ascend, chapters stand in lesson order.

    Raises:
        ValueError: There is none.
    """
    runs = _runs(records)
    if not runs:
        raise ValueError("a book is made of one run record at least")
    chapters: dict[str, Chapter] = {}
    for run in runs:  # the newest broker's run has the last word
        chapters |= {chapter.name: chapter for chapter in run.record.chapters}
    return Book(runs, tuple(_parts(runs, chapters)))


def _parts(runs: tuple[Run, ...], chapters: Mapping[str, Chapter]) -> Iterator[Part]:
    binder = _Binder(runs)
    for shelf in sorted({chapter.part for chapter in chapters.values()}, key=_shelf):
        mine = sorted((chapter for chapter in chapters.values() if chapter.part == shelf), key=_place)
        yield Part(shelf, SHELVES.get(shelf, shelf.capitalize()), tuple(map(binder.page, mine)))


def _runs(records: Iterable[Record]) -> tuple[Run, ...]:
    ordered = sorted(records, key=lambda record: (version_key(record.header.version), record.header.started))
    total, seen = Counter(record.header.version for record in ordered), Counter[str]()
    runs = []
    for record in ordered:
        version = record.header.version
        seen[version] += 1
        runs.append(Run(f"{version} ({seen[version]})" if total[version] > 1 else version, record))
    return tuple(runs)


class _Binder:
    """Makes pages; knows all specs of all runs."""

    def __init__(self, runs: tuple[Run, ...]) -> None:
        self._labels = [run.label for run in runs]
        self._chapters: dict[str, dict[str, dict[str, Spec]]] = defaultdict(lambda: defaultdict(dict))
        for run in reversed(runs):  # the newest one gives the order
            for spec in run.record.specs:
                self._chapters[spec.chapter][spec.id][run.label] = spec
        self._anchors = Counter[str]()

    def page(self, chapter: Chapter) -> Page:
        """A chapter with all that is in it."""
        specs = list(self._chapters[chapter.name].values())
        name = self._anchor(chapter.name)
        sentences: dict[str, list[Versions]] = defaultdict(list)
        for versions in specs:
            sentences[_bare(_newest(versions))].append(versions)
        return Page(name, chapter, self._map(name, specs), self._subjects(sentences.values()), self._tallies(specs))

    def _subjects(self, sentences: Iterable[Sequence[Versions]]) -> tuple[Subject, ...]:
        groups: dict[str, list[Sequence[Versions]]] = defaultdict(list)
        for cases in sentences:
            groups[_newest(cases[0]).subject].append(cases)
        return tuple(
            Subject(name, _newest(group[0][0]).about, tuple(map(self._sentence, group)))
            for name, group in groups.items()
        )

    def _sentence(self, cases: Sequence[Versions]) -> Sentence:
        spec = _newest(cases[0])
        name = self._anchor(_bare(spec))
        each = tuple(self._case(versions, name) for versions in cases)
        return Sentence(name, spec.sentence, spec.why, tuple(spec.behaviours), highlighted(spec.source), each)

    def _case(self, versions: Versions, name: str) -> Case:
        spec = _newest(versions)
        name = self._anchor(spec.id) if spec.case else name
        return Case(name, spec.case, spec.node, tuple(self._results(versions)), tuple(self._drawings(name, versions)))

    def _results(self, versions: Versions) -> Iterator[Result]:
        for label in self._labels:
            spec = versions.get(label)
            yield Result(label, spec.outcome, spec.reason) if spec else Result(label, ABSENT)

    def _drawings(self, name: str, versions: Versions) -> Iterator[Drawing]:
        """One for all runs that said the same over the wire."""
        told: dict[object, tuple[Story, list[str]]] = {}
        for label in self._labels:
            spec = versions.get(label)
            if spec and spec.frames:
                one = story(spec.frames, spec.left_out, spec.node)
                told.setdefault(one.shape, (one, []))[1].append(label)
        for number, (one, labels) in enumerate(told.values(), 1):
            title = f"What went over the wire: {_newest(versions).sentence} {_newest(versions).case}".strip()
            yield Drawing(tuple(labels), lifelines(f"{name}.wire{number}", one, title), one)

    def _map(self, name: str, specs: Iterable[Versions]) -> Map | None:
        found = biggest((_newest(versions), topology(_newest(versions).frames)) for versions in specs)
        if found is None:
            return None
        spec, shown = found
        picture = topology_drawing(f"{name}.map", shown, f"Exchanges and queues: {spec.sentence}")
        styles = {edge.style for edge in shown.edges}
        lines = tuple(words for style, words in LINES.items() if style in styles)
        return Map(picture, anchor(_bare(spec)), spec.sentence, lines, shown.left_out)

    def _tallies(self, specs: Iterable[Versions]) -> Mapping[str, Counter[str]]:
        tallies = {label: Counter[str]() for label in self._labels}
        for versions in specs:
            for label, spec in versions.items():
                tallies[label][spec.outcome] += 1
        return tallies

    def _anchor(self, name: str) -> str:
        """For a link; a number is added to what would be there twice."""
        wanted = anchor(name)
        self._anchors[wanted] += 1
        return wanted if self._anchors[wanted] == 1 else f"{wanted}.{self._anchors[wanted]}"


def _newest(versions: Versions) -> Spec:
    """Of the newest broker that ran it, else of the newest."""
    return next((spec for spec in versions.values() if spec.frames), next(iter(versions.values())))


def _bare(spec: Spec) -> str:
    """The id of its test function, without the case."""
    return spec.id.removesuffix(f"[{spec.case}]")


def _shelf(name: str) -> tuple[int, str]:
    known = list(SHELVES)
    return (known.index(name) if name in known else len(known)), name


def _place(chapter: Chapter) -> tuple[bool, int, str]:
    return chapter.number is None, chapter.number or 0, chapter.name
