"""What a run of lies has shown: which spec has noticed which lie, and what nobody has noticed."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["LATE", "Ending", "Excuses", "Matrix", "chapter_of", "excuses"]

LATE = 10.0  # seconds after which it is too late to notice a lie

AT_TIMES = "at times"
ASSERTED = ("assertion", "assertion in setup", "unanswered", "unanswered in setup")
RED = ("assertion", "unanswered", "error")  # of a spec itself, not of what was set up for it
KEPT_KINDS = (*ASSERTED, "error", "error in setup", AT_TIMES)

Excuses = Mapping[str, str]
Specs = Mapping[str, Mapping[str, str]]


class Ending(NamedTuple):
    """How a spec that was told a lie has ended.

    Attributes:
        kind: ``unnoticed``; ``assertion``, as it should be; ``unanswered``, an assertion that was made for the spec, as
            the broker owed it an answer; ``error``, an exception that the spec did not expect, as where another code
            closes another thing than the one that was to be closed; ``timeout``. With ``in setup`` or ``in teardown``
            behind it the spec itself has not said it.
        told: Whether the lie was told at all.
    """

    spec: str
    lie: str
    kind: str
    words: str
    seconds: float
    told: bool


@dataclass(frozen=True)
class Matrix:
    """Lies by specs.

    Attributes:
        broker: Product and version.
        endings: One for each pair; a spec can also end a second time, in its teardown, which does not count.
    """

    broker: str
    endings: tuple[Ending, ...]

    @classmethod
    def read(cls, path: Path) -> Matrix:
        """What a run of pytest has left."""
        plain = json.loads(path.read_text("utf-8"))
        return cls(plain["broker"], tuple(Ending(*row) for row in plain["rows"] if not row[2].endswith("in teardown")))

    def counts(self) -> Mapping[str, Counter[str]]:
        """For each lie how often a spec has ended in which way."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for ending in self.endings:
            found[ending.lie][ending.kind] += 1
        return found

    def kept(self, before: Specs, *, whole: bool) -> dict[str, Any]:
        """What is kept beside the suite: for each spec, by how it has ended, the lies that it has noticed.

        Args:
            before: What was kept until now. It stays for specs that were not run.
            whole: Whether each spec was told all that it can be told; if not, what was not told now stays as it was.

        A lie that was noticed one time and not another is kept under ``at times``: who notices it is decided by a
        race, and nothing can be asked of it.
        """
        specs = dict(before)
        for spec in {ending.spec for ending in self.endings}:
            old = {lie: kind for kind, lies in before.get(spec, {}).items() for lie in lies.split()}
            now = {ending.lie: ending.kind for ending in self.endings if ending.spec == spec}
            kinds: dict[str, list[str]] = {kind: [] for kind in KEPT_KINDS}
            for lie, kind in sorted((now if whole else old | now).items()):
                wavers = old.get(lie) == AT_TIMES or (asserted(old.get(lie)) and not asserted(kind))
                kinds.setdefault(AT_TIMES if wavers else kind, []).append(lie)
            specs[spec] = {kind: " ".join(kinds[kind]) for kind in KEPT_KINDS if kinds[kind]}
        return {"broker": self.broker, "specs": {spec: kinds for spec, kinds in sorted(specs.items()) if kinds}}

    def unnoticed_lies(self) -> list[str]:
        """Those that no spec has answered by itself."""
        return [lie for lie, kinds in self.counts().items() if not any(kinds[kind] for kind in RED)]

    def unnoticed_at_home(self, chapters: Mapping[str, int]) -> list[str]:
        """The lies that were noticed, but by no assertion of the chapter whose promise they break.

        Args:
            chapters: For each lie the number of its chapter. Chapters that were told nothing are not asked.
        """
        asked = {chapter_of(ending.spec) for ending in self.endings}
        red = {(ending.lie, chapter_of(ending.spec)) for ending in self.endings if ending.kind == "assertion"}
        told = set(self.counts()) - set(self.unnoticed_lies())
        return sorted(lie for lie in told if chapters[lie] in asked and (lie, chapters[lie]) not in red)

    def unmoved_specs(self, excused: Iterable[str]) -> list[str]:
        """Those whose assertions no lie has turned red, less those that have a reason."""
        red = {ending.spec for ending in self.endings if ending.kind == "assertion"}
        return sorted({ending.spec for ending in self.endings} - red - set(excused))

    def late(self) -> list[Ending]:
        """Where a lie was noticed only because time was up. In a set-up a broker may start, which takes its time."""
        return [
            one for one in self.endings if one.kind.startswith("timeout") or (one.kind in RED and one.seconds > LATE)
        ]

    def missed(self) -> list[Ending]:
        """What was not noticed; of a sample it should be nothing."""
        return [one for one in self.endings if one.kind == "unnoticed"]


def asserted(kind: str | None) -> bool:
    """Whether somebody said by an assertion what is wrong: the spec, what was set up for it, or what it was given."""
    return kind in ASSERTED


def chapter_of(spec: str) -> int | None:
    """The number in the name of its file; None where there is none."""
    found = re.search(r"test_(\d+)_[^/]*\.py::", spec)
    return int(found[1]) if found else None


def excuses(path: Path) -> Excuses:
    """The specs that no lie can turn red, each with the reason; none where there is no such file."""
    found: Excuses = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found
