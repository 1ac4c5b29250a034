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

    def settle(self) -> float:
        """A fault is over: waits until everybody moves again, and notes who does not within the bound.

        Returns:
            How many seconds that took.
        """
        state = self._state
        state.mark()
        while behind(state) or unsettled(state):
            if time.monotonic() - state.calm > state.bound:
                for name, check in AFTER_A_FAULT.items():
                    self._findings.add(name, *check(state))
                state.write_off()
                break
            time.sleep(LOOK)
        return time.monotonic() - state.calm

    def _look(self) -> None:
        while True:
            last = self._ending.wait(LOOK)
            for name, check in ALWAYS.items():
                self._findings.add(name, *check(self._state))
            if last:
                return
