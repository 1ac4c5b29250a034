"""What an upgrade changes, and for whom: the differences of two releases, and what was found of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rmqspec.tools.upgrade.differences import Difference, Kind, again, between
from rmqspec.tools.upgrade.errors import NoWay
from rmqspec.tools.upgrade.policies import unread_patterns
from rmqspec.tools.upgrade.recognisers import RECOGNISERS
from rmqspec.tools.upgrade.releases import Release, Step, way
from rmqspec.tools.upgrade.sources import Shows, Source
from rmqspec.tools.upgrade.used import Used

__all__ = ["Finding", "Report", "report"]

HARMFUL = (Kind.BREAKS, Kind.LOSES)


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference that concerns something that was read.

    Attributes:
        difference: Which.
        concerned: The names of what it concerns, each once.
    """

    difference: Difference
    concerned: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to one question.

    Attributes:
        old: The release that is left.
        new: The release that is reached.
        steps: The supported way, in place.
        rows: All differences of the two.
        again: What the old release has, and the new one has not.
        sources: What was read, by name; empty if nothing was.
        shown_by: The kinds of these sources.
        findings: What concerns what was read.
        unseen: The differences that cannot be seen in what was read.
        gaps: What should have been read and could not.
    """

    old: Release
    new: Release
    steps: tuple[Step, ...]
    rows: tuple[Difference, ...]
    again: tuple[Difference, ...] = ()
    sources: tuple[str, ...] = ()
    shown_by: frozenset[Shows] = frozenset()
    findings: tuple[Finding, ...] = ()
    unseen: tuple[Difference, ...] = ()
    gaps: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[Finding, ...]:
        """What the sections list: findings if something was read, else every difference."""
        return self.findings if self.sources else tuple(Finding(row, ()) for row in self.rows)

    @property
    def harmful(self) -> bool:
        """Whether something of what is listed breaks or loses messages."""
        return any(finding.difference.kind in HARMFUL for finding in self.shown)

    @property
    def unproved(self) -> int:
        """How many rows have no spec on one side at least."""
        return sum(not row.proofs.both for row in self.rows)

    def count(self, kind: Kind) -> int:
        """How many rows are of a kind."""
        return sum(row.kind is kind for row in self.rows)


def report(old: Release, new: Release, sources: Sequence[Source] = ()) -> Report:
    """What changes from one release to the other, and who is concerned in these sources.

    Raises:
        NoWay: No supported way leads there.
        Unreadable: A source cannot be read.
    """
    steps, rows, as_before = way(old, new), between(old, new), again(old, new)
    if not sources:
        return Report(old, new, steps, rows, as_before, unseen=rows)
    read = [source.read() for source in sources]
    if steps and any(map(_is_3_13_with_khepri, read)):
        raise NoWay(
            "this broker has the feature flag khepri_db enabled: RabbitMQ 3.13 with Khepri cannot be upgraded in place "
            f"to 4.x; set up a new cluster of {new} and move to it (blue-green), for which an export says what changes "
            "(--definitions)"
        )
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for recogniser in RECOGNISERS:
        for used in read:
            if recogniser.reads <= used.read:
                seen.add(recogniser.id)
                found.setdefault(recogniser.id, []).extend(recogniser.find(used))
    return Report(
        old,
        new,
        steps,
        rows,
        as_before,
        tuple(_called(source, used, old) for source, used in zip(sources, read, strict=True)),
        frozenset(source.shows for source in sources),
        tuple(Finding(row, _once(found[row.id])) for row in rows if found.get(row.id)),
        tuple(row for row in rows if row.id not in seen),
        _once(gap for used in read for gap in (*used.gaps, *unread_patterns(used))),
    )


def _called(source: Source, used: Used, old: Release) -> str:
    if not used.version:
        return source.name
    other = "" if _series(used.version) == old.series else f", and not of {old}: name the release that you leave"
    return f"{source.name}, of RabbitMQ {used.version}{other}"


def _series(version: str) -> str:
    try:
        return Release.parse(version).series
    except ValueError:
        return ""


def _is_3_13_with_khepri(used: Used) -> bool:
    return _series(used.version) == "3.13" and any(
        flag.get("name") == "khepri_db" and flag.get("state") == "enabled" for flag in used.flags
    )


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
