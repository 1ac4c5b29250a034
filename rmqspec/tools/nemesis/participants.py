"""Who takes part in a run: services that must stay alive, each in a thread that starts it again when it ends.

=================  =====================  ======================================================================
what two share     written by             read by, and why that is sound
=================  =====================  ======================================================================
``moved, last``    the service's threads  the watch: only whether they grow matters, a lost increment does not
``publishes``      publishing thread,     the watch, by ``list(….values())``, which no other thread interrupts
                   link's thread
``calls``          calling threads,       the watch: who pops an entry reports it, so nothing is reported twice
                   link's thread
``service``        its own thread         ``stop``: under ``_guard``, so that a service made meanwhile is stopped
=================  =====================  ======================================================================
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rmqspec.client.errors import Unreachable
from rmqspec.tools.nemesis.findings import Breach

if TYPE_CHECKING:
    from rmqspec.tools.nemesis.shared import Shared

__all__ = ["Kind", "Participant", "Service"]

REFUSALS = ("PRECONDITION_FAILED", "NOT_FOUND", "ACCESS_REFUSED", "RESOURCE_LOCKED", "INTERNAL_ERROR")
RESTART_PAUSE = 0.5  # seconds until a service that ended is started again, as a supervisor does


class Service(Protocol):
    """What a participant runs: a ``Consumer``, a ``Worker``, or one of ours."""

    def run(self) -> None:
        """Works until ``stop``."""

    def stop(self) -> None:
        """Ends ``run`` soon."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table of participants.

    Attributes:
        make: Makes the service of one.
        count: How many there are by default.
        enough: How many steps after a fault prove life. It is more than what a consumer may have unacked, as it handles
            that even if it never acknowledges again.
        fed_by: Kinds without which it has nothing to do.
        feeds: Whether it makes work for others: such are stopped first.
    """

    make: Callable[[Shared, Participant], Service]
    count: int
    enough: int = 1
    fed_by: tuple[str, ...] = ()
    feeds: bool = False


class Participant:
    """One of them.

    Args:
        shared: What all share.
        kind: The name of its row.
        row: The row.
        number: Which of its kind, from 1.

    Attributes:
        name: Stands in the verdict, and in the name of its connections.
        moved: How many steps it has made.
        last: When it made the last, by the monotonic clock.
        ends: How often it has ended before it was stopped.
        endings: With what, until somebody takes note of it.
        publishes: Publish futures that are open, each with the time of its publish.
        calls: Calls that are open, each with the time at which it must have ended.
    """

    def __init__(self, shared: Shared, kind: str, row: Kind, number: int) -> None:
        self.kind, self.row, self.number, self.name = kind, row, number, f"{kind}-{number}"
        self.moved, self.last, self.ends = 0, time.monotonic(), 0
        self.endings: deque[Breach] = deque()
        self.publishes: dict[Any, float] = {}
        self.calls: dict[Any, float] = {}
        self._shared, self._ending, self._guard = shared, threading.Event(), threading.Lock()
        self._service: Service | None = None
        self._thread = threading.Thread(target=self._keep, name=self.name, daemon=True)

    def start(self) -> None:
        """Starts it."""
        self._thread.start()

    def step(self) -> None:
        """It has made a step: handled a message, got an answer."""
        self.moved += 1
        self.last = time.monotonic()

    def stop(self) -> None:
        """Has it end, and not begin again."""
        self._ending.set()
        with self._guard:
            if self._service is not None:
                self._service.stop()

    def join(self, seconds: float) -> bool:
        """Waits for its end; False if it has not come within so many seconds."""
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _keep(self) -> None:
        while not self._ending.is_set():
            what, words = "run() returned", ""
            try:
                self._serve()
            except Unreachable:  # a fault came before the first connection was open: no promise is broken
                what = ""
            except Exception as error:
                what, words = type(error).__name__, str(error)
            if what and not self._ending.is_set():
                self.ends += 1
                self.endings.append(Breach(self.name, _kind_of(what, words), words, time.monotonic()))
            self._ending.wait(RESTART_PAUSE)

    def _serve(self) -> None:
        service = self.row.make(self._shared, self)
        with self._guard:
            self._service = service
            if self._ending.is_set():
                service.stop()
        service.run()


def _kind_of(what: str, words: str) -> str:
    """Tells a refusal from a lost connection: both may come as the same error."""
    return next((f"{what} ({said})" for said in REFUSALS if said in words), what)
