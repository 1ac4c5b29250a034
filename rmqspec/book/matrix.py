"""What a run of lies has shown: which spec has noticed which lie, and what nobody has noticed."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["LATE", "Ending", "Excuses", "Matrix", "excuses"]

LATE = 10.0  # seconds after which it is too late to notice a lie

Excuses = Mapping[str, str]


class Ending(NamedTuple):
    """How a spec that was told a lie has ended.

    Attributes:
        kind: ``unnoticed``; ``assertion``, as it should be; ``error``, an exception that the spec did not expect, as
            where another code closes another thing than the one that was to be closed; ``timeout``. With `` in setup``
            or `` in teardown`` behind it the spec itself has not said it.
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

    def kept(self) -> dict[str, Any]:
        """What is kept beside the suite: for each spec the lies that it has noticed."""
        specs: dict[str, dict[str, str]] = {}
        for spec in sorted({ending.spec for ending in self.endings}):
            kinds = {kind: self._lies(spec, kind) for kind in ("assertion", "error", "error in setup")}
            specs[spec] = {kind: " ".join(lies) for kind, lies in kinds.items() if lies}
        return {"broker": self.broker, "specs": specs}

    def unnoticed_lies(self) -> list[str]:
        """Those that no spec has answered by itself."""
        return [lie for lie, kinds in self.counts().items() if not kinds["assertion"] + kinds["error"]]

    def unmoved_specs(self, excused: Iterable[str]) -> list[str]:
        """Those whose assertions no lie has turned red, less those that have a reason."""
        red = {ending.spec for ending in self.endings if ending.kind == "assertion"}
        return sorted({ending.spec for ending in self.endings} - red - set(excused))

    def late(self) -> list[Ending]:
        """Where a lie was noticed only because time was up."""
        return [one for one in self.endings if one.kind.startswith("timeout") or one.seconds > LATE]

    def missed(self) -> list[Ending]:
        """What was not noticed; of a sample it should be nothing."""
        return [one for one in self.endings if one.kind == "unnoticed"]

    def _lies(self, spec: str, kind: str) -> list[str]:
        return sorted(ending.lie for ending in self.endings if (ending.spec, ending.kind) == (spec, kind))


def excuses(path: Path) -> Excuses:
    """The specs that no lie can turn red, each with the reason; none where there is no such file."""
    found: Excuses = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found
