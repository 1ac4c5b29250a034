"""What two run records say of each other.

A spec says in which versions it is so. Where it passed there and its other side, a spec of the same id, passes here,
the change is explained. A spec that was run here and fails, and did not fail there, is explained by nothing: whoever
wrote it says that it is so here too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rmqspec.tools.book import Header, Outcome, Record, Spec
from rmqspec.tools.upgrade import differences

__all__ = ["Change", "Comparison", "Incomparable", "Shown", "compare"]

PASSED: Outcome = "passed"
ELSEWHERE: Outcome = "not in this version"
NOT_RUN: Outcome = "not run"
NOT_REACHED: Outcome = "broker not reached"
FAILED: tuple[Outcome, ...] = ("failed", NOT_REACHED)


class Incomparable(Exception):
    """Two records cannot be compared; the text is a sentence for a person."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A spec, or those cases of it that have the same outcomes on both sides.

    Attributes:
        there: Of the older run; one for each case.
        here: Of the newer run, in the same order.
    """

    there: tuple[Spec, ...]
    here: tuple[Spec, ...]

    @property
    def sentence(self) -> str:
        """What it says."""
        return self.here[0].sentence

    @property
    def node(self) -> str:
        """Its node id, without a case."""
        return _function(self.here[0])

    @property
    def behaviours(self) -> tuple[str, ...]:
        """The ids that it holds."""
        return tuple(dict.fromkeys(name for spec in self.here for name in spec.behaviours))

    @property
    def cases(self) -> tuple[str, ...]:
        """The names of its cases; empty if it has no parameters."""
        return tuple(spec.case for spec in self.here if spec.case)

    @property
    def outcomes(self) -> tuple[Outcome, Outcome]:
        """There and here."""
        return self.there[0].outcome, self.here[0].outcome

    @property
    def reason(self) -> str:
        """Why it did not pass: here, or else there."""
        return self.here[0].reason or self.there[0].reason

    @property
    def bounds(self) -> str:
        """Its versions in words."""
        spec = self.here[0]
        return ", ".join(f"{word} {bound}" for word, bound in (("since", spec.since), ("before", spec.before)) if bound)


@dataclass(frozen=True, slots=True)
class Change:
    """A behaviour that changed, with a spec on each side that passed.

    Attributes:
        row: The id of the row of ``differences.toml`` that names both as its proofs; empty if none does.
        behaviours: The ids that specs of both sides have in common; of a row all of its ids.
        there: What holds there, and is not in this version here.
        here: What holds here, and was not in that version there.
    """

    row: str
    behaviours: tuple[str, ...]
    there: tuple[Shown, ...]
    here: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Each spec is in one of the sections, or has the same outcome on both sides.

    Attributes:
        there: On what the older run was made.
        here: On what the newer run was made.
        unexplained: Fails here, and did not fail there; no marker says that it should.
        changed: Explained: the spec of the other side passes.
        only_there: Passed there alone, without a spec of the other side that passes; or failed there, and is not here.
        only_here: Passes here alone.
        not_run: On one side at least.
        same: How many specs passed on both sides.
        failing: How many failed on both sides.
        in_neither: How many are in neither version.
    """

    there: Header
    here: Header
    unexplained: tuple[Shown, ...]
    changed: tuple[Change, ...]
    only_there: tuple[Shown, ...]
    only_here: tuple[Shown, ...]
    not_run: tuple[Shown, ...]
    same: int
    failing: int
    in_neither: int


def compare(there: Record, here: Record) -> Comparison:
    """Compares two runs; the older first.

    Raises:
        Incomparable: One was cut off, or they are not of the same suite and selection.
    """
    _check(there, here)
    before = {spec.node: spec for spec in there.specs}
    pairs = [(before[spec.node], spec) for spec in here.specs]
    sections = {name: [pair for pair in pairs if _section(*pair) == name] for name in SECTIONS}
    gone, come = list(_shown(sections["gone"])), list(_shown(sections["come"]))
    changed = tuple(_changes(gone, come))
    return Comparison(
        there.header,
        here.header,
        unexplained=tuple(_shown(sections["unexplained"])),
        changed=changed,
        only_there=tuple(
            one for one in _shown(sections["gone"] + sections["failed there"]) if not _in(changed, "there", one)
        ),
        only_here=tuple(one for one in _shown(sections["come"] + sections["mended"]) if not _in(changed, "here", one)),
        not_run=tuple(_shown(sections["not run"])),
        same=len(sections["same"]),
        failing=len(sections["failing"]),
        in_neither=len(sections["in neither version"]),
    )


SECTIONS = ("unexplained", "gone", "come", "failed there", "mended", "not run", "same", "failing", "in neither version")


def _section(there: Spec, here: Spec) -> str:
    """Where a pair belongs, by its two outcomes."""
    if there.outcome == here.outcome == NOT_REACHED or (
        NOT_RUN in (there.outcome, here.outcome) and here.outcome not in FAILED
    ):
        return "not run"
    if here.outcome in FAILED:  # in one way on both sides; that a broker was not reached says nothing of the spec
        return "failing" if there.outcome == here.outcome else "unexplained"
    if here.outcome == PASSED:
        return {PASSED: "same", ELSEWHERE: "come"}.get(there.outcome, "mended")
    return {PASSED: "gone", ELSEWHERE: "in neither version"}.get(there.outcome, "failed there")


def _changes(gone: Sequence[Shown], come: Sequence[Shown]) -> Iterator[Change]:
    """What explains what: rows of ``differences.toml`` first, then ids, those of the fewest specs first.

    An id such as CHAN-03, which many specs have beside another, explains only what no other has explained.
    """
    explained: set[str] = set()
    for change in (*_by_row(gone, come), *sorted(_by_id(gone, come), key=_size)):
        nodes = {one.node for one in (*change.there, *change.here)}
        if not nodes <= explained:
            explained |= nodes
            yield change


def _by_row(gone: Sequence[Shown], come: Sequence[Shown]) -> Iterator[Change]:
    for row in differences():
        for before, after in ((row.proofs.before, row.proofs.after), (row.proofs.after, row.proofs.before)):
            there = tuple(one for one in gone if one.node in before)
            here = tuple(one for one in come if one.node in after)
            if there and here:
                yield Change(row.id, row.behaviours, there, here)


def _by_id(gone: Sequence[Shown], come: Sequence[Shown]) -> Iterator[Change]:
    for name in sorted({name for one in gone for name in one.behaviours}):
        there = tuple(one for one in gone if name in one.behaviours)
        here = tuple(one for one in come if name in one.behaviours)
        if here:
            yield Change("", (name,), there, here)


def _size(change: Change) -> int:
    return len(change.there) + len(change.here)


def _in(changed: Iterable[Change], side: str, one: Shown) -> bool:
    return any(one == other for change in changed for other in getattr(change, side))


def _shown(pairs: Iterable[tuple[Spec, Spec]]) -> Iterator[Shown]:
    """Cases of one function with the same outcomes are one line, sorted by file: workers mix them."""
    groups: dict[tuple[str, Outcome, Outcome], list[tuple[Spec, Spec]]] = {}
    for there, here in sorted(pairs, key=lambda pair: pair[1].node.partition("::")[0]):
        groups.setdefault((_function(here), there.outcome, here.outcome), []).append((there, here))
    for group in groups.values():
        yield Shown(tuple(there for there, _ in group), tuple(here for _, here in group))


def _function(spec: Spec) -> str:
    return spec.node.partition("[")[0]


def _check(there: Record, here: Record) -> None:
    for name, record in (("older", there), ("newer", here)):
        if record.cut_off:
            raise Incomparable(
                f"the {name} run was cut off: what is missing would pass for a difference; record it again"
            )
        if not record.specs:
            raise Incomparable(f"the {name} run has no spec: record it again")
        if twice := [node for node, count in Counter(spec.node for spec in record.specs).items() if count > 1]:
            raise Incomparable(
                f"the {name} run has {_count(twice)} more than once, such as {twice[0]}: record it again, each once"
            )
    older, newer = ({spec.node: spec for spec in record.specs} for record in (there, here))
    if alone := sorted(older.keys() ^ newer.keys()):
        raise Incomparable(
            f"{_count(alone)} {_are(alone)} in one of the two runs alone, such as {alone[0]}: "
            "record both with the same suite and the same selection"
        )
    if other := sorted(node for node in older if _text(older[node]) != _text(newer[node])):
        raise Incomparable(
            f"{_count(other)} {_are(other)} not the same in both runs, such as {other[0]}: "
            "record both with the same suite"
        )


def _text(spec: Spec) -> Mapping[str, object]:
    return {"source": spec.source, "behaviours": tuple(spec.behaviours), "since": spec.since, "before": spec.before}


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} spec{'' if len(names) == 1 else 's'}"


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
