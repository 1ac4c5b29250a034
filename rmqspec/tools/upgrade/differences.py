"""What differs between two releases, as data: ``differences.toml``, read and checked."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Any

from rmqspec.tools.upgrade.releases import Release

__all__ = ["Difference", "Kind", "Proofs", "Recognised", "again", "between", "differences", "read"]


class Kind(StrEnum):
    """What a difference does to somebody who upgrades; the worst first."""

    BREAKS = "breaks"
    LOSES = "loses"
    SILENT = "silent"
    MILDER = "milder"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Proofs:
    """Node ids of the specs that hold one side each."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def both(self) -> bool:
        """Whether each side is held by a spec."""
        return bool(self.before and self.after)


@dataclass(frozen=True, slots=True)
class Recognised:
    """How it is seen that somebody is concerned; None where it cannot be seen that way.

    Attributes:
        definitions: In an export of the definitions.
        management: By the management API of a running broker.
        trace: In what a client and the broker say to each other.
        reason: Why it can be seen in none of them.
    """

    definitions: str | None = None
    management: str | None = None
    trace: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One change of RabbitMQ's behaviour, between two of its releases.

    Attributes:
        id: Unique; ``-2`` is a second change of the same subject.
        behaviours: Ids of the specs of this subject.
        does: What one does.
        before: What happens in releases before ``since``.
        after: What happens since then.
        since: The release where it changes.
        backports: Patch releases of older series that changed too.
        until: The release that ended it.
        kind: What it does to somebody who upgrades.
        remedy: What to do.
        proofs: The specs that hold a side.
        evidence: What was run, and what was read.
        recognised: How it is seen.
    """

    id: str
    behaviours: tuple[str, ...]
    does: str
    before: str
    after: str
    since: Release
    backports: tuple[Release, ...]
    until: Release | None
    kind: Kind
    remedy: str
    proofs: Proofs
    evidence: str
    recognised: Recognised

    def as_plain(self) -> dict[str, object]:
        """As JSON has it; how it is seen is left out."""
        return {
            "id": self.id,
            "behaviours": self.behaviours,
            "kind": self.kind.value,
            "does": self.does,
            "before": self.before,
            "after": self.after,
            "since": str(self.since),
            "backports": [str(one) for one in self.backports],
            "remedy": self.remedy,
            "proofs": {"before": self.proofs.before, "after": self.proofs.after},
            "evidence": self.evidence,
        }

    def is_in(self, release: tuple[int, int, int]) -> bool:
        """Whether a release has it: since then, and its series' patch releases from a backport on."""
        if self.until is not None and release >= self.until.oldest():
            return False
        if release >= self.since.oldest():
            return True
        return any(release[:2] == one.oldest()[:2] and release >= one.oldest() for one in self.backports)


def between(old: Release, new: Release, rows: Sequence[Difference] | None = None) -> tuple[Difference, ...]:
    """What changes at an upgrade. A series without a patch is read as its first release if old, its newest if new."""
    known = differences() if rows is None else rows
    return tuple(row for row in known if row.is_in(new.newest()) and not row.is_in(old.oldest()))


def again(old: Release, new: Release) -> tuple[Difference, ...]:
    """What is again as it was before: ended meanwhile, or a patch release of the old series is younger than the new."""
    return tuple(row for row in differences() if row.is_in(old.oldest()) and not row.is_in(new.newest()))


@functools.cache
def differences() -> tuple[Difference, ...]:
    """All differences that are known, in the order of their ids."""
    text = resources.files(__package__).joinpath("differences.toml").read_text(encoding="utf-8")
    return read(text)


def read(text: str) -> tuple[Difference, ...]:
    """Reads the rows of a TOML text.

    Raises:
        ValueError: A row lacks a field, has one too many, or a value is none.
    """
    return tuple(_difference(row) for row in tomllib.loads(text)["difference"])


def _difference(row: Mapping[str, Any]) -> Difference:
    fields = dict(row)
    seen = dict(fields.pop("recognised"))
    until = fields.pop("until", None)
    try:
        return Difference(
            behaviours=tuple(fields.pop("behaviours")),
            since=Release.parse(fields.pop("since")),
            backports=tuple(map(Release.parse, fields.pop("backports", ()))),
            until=None if until is None else Release.parse(until),
            kind=Kind(fields.pop("kind")),
            proofs=Proofs(**{side: tuple(ids) for side, ids in fields.pop("proofs").items()}),
            recognised=Recognised(reason=seen.pop("not", None), **seen),
            **fields,
        )
    except (TypeError, KeyError) as error:
        raise ValueError(f"the difference {row.get('id')!r} is not complete: {error}") from error
