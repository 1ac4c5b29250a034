"""What went wrong in a run: which invariant, of whom, since when, and after which fault."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

__all__ = ["Breach", "Finding", "Findings"]


@dataclass(frozen=True, slots=True)
class Breach:
    """An invariant does not hold.

    Attributes:
        who: The name of a participant, or of what orders are counted in.
        what: The kind of it; breaches of one participant and one kind are counted as one finding.
        words: More of it: an error's text.
        since: When it began, by the monotonic clock; None is now.
    """

    who: str
    what: str
    words: str = ""
    since: float | None = None


@dataclass(slots=True)
class Finding:
    """The first breach of its kind, and how many there were.

    Attributes:
        invariant: Its name.
        breach: The first.
        since: Seconds after the begin of the run.
        found: Seconds after the begin of the run at which it was noticed.
        fault: The last fault that had begun by then, and when; "no fault" if there was none. One that comes too late to
            be the reason cannot be it: the next fault waits until the findings of the last are known.
        times: How many.
    """

    invariant: str
    breach: Breach
    since: float
    found: float
    fault: str
    times: int = 1

    def __str__(self) -> str:
        """As in ``consumer-2 since 12.3 s, after flicker at 8.1 s``."""
        times = f" ({self.times} times)" if self.times > 1 else ""
        return f"{self.breach.who} since {self.since:.1f} s, after {self.fault}: {self.breach.what}{times}"


@dataclass(slots=True)
class Findings:
    """All of a run. Any thread may add one.

    Attributes:
        begin: Of the run, by the monotonic clock.
        faults: When each has begun, and its name.
    """

    begin: float = field(default_factory=time.monotonic)
    faults: list[tuple[float, str]] = field(default_factory=list)
    _found: dict[tuple[str, str, str], Finding] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> float:
        """Seconds since the begin."""
        return time.monotonic() - self.begin

    def fault(self, name: str) -> None:
        """A fault begins."""
        self.faults.append((self.now(), name))

    def add(self, invariant: str, *breaches: Breach) -> None:
        """Notes breaches of one invariant."""
        for breach in breaches:
            found = self.now()
            since = found if breach.since is None else breach.since - self.begin
            key = (invariant, breach.who, breach.what)
            with self._guard:
                if known := self._found.get(key):
                    known.times += 1
                else:
                    self._found[key] = Finding(invariant, breach, since, found, self._last_fault())

    def all(self) -> list[Finding]:
        """Those so far, in the order in which they were found."""
        with self._guard:
            return list(self._found.values())

    def _last_fault(self) -> str:
        before = [f"{name} at {at:.1f} s" for at, name in self.faults]
        return before[-1] if before else "no fault"
