"""Looks at the invariants: at some all the time, at others when a fault is over."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rmqspec.tools.nemesis.findings import Findings
from rmqspec.tools.nemesis.invariants import AFTER_A_FAULT, ALWAYS, State, behind, unsettled

__all__ = ["Watch"]

LOOK = 0.05  # seconds between two looks


class Watch:
    """Watches as long as it is entered.

    Args:
        state: What to look at.
        findings: Where breaches are noted.
    """

    def __init__(self, state: State, findings: Findings) -> None:
        self._state, self._findings, self._ending = state, findings, threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def settle(self) -> tuple[float, list[str]]:
        """A fault is over: waits until everybody moves again, and notes who does not within the bound.

        Returns:
            How many seconds that took, and who moves, but so slowly, or with so little work, that it proves nothing.
        """
        state = self._state
        state.mark()
        while behind(state) or unsettled(state):
            if time.monotonic() - state.calm > state.bound:
                return state.bound, self._note(state)
            time.sleep(LOOK)
        return time.monotonic() - state.calm, []

    def _note(self, state: State) -> list[str]:
        late, found = {one.name for one in behind(state)}, set()
        for name, check in AFTER_A_FAULT.items():
            breaches = check(state)
            found |= {breach.who for breach in breaches}
            self._findings.add(name, *breaches)
        state.write_off()
        return sorted(late - found)

    def _look(self) -> None:
        while True:
            last = self._ending.wait(LOOK)
            for name, check in ALWAYS.items():
                self._findings.add(name, *check(self._state))
            if last:
                return
