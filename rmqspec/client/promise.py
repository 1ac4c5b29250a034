"""What our futures have in common: none is waited for in the thread that ends it, and no callback ends a thread."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["Promise"]

T = TypeVar("T")
OPEN = ("PENDING", "RUNNING")  # the states of the standard library's in which there is no result yet

_log = logging.getLogger("rmqspec.client")


class Promise(Future[T], ABC):
    """A future that is ended by a thread of the client's.

    ``concurrent.futures.wait`` and ``as_completed`` know nothing of such threads: they enter who waits in ``_waiters``,
    and in a callback he would wait for ever. So that attribute looks who asks.
    """

    _waiting: list[Any]

    @abstractmethod
    def check_waiting(self, what: str) -> None:
        """Raises what ``result`` raises where waiting would be for ever."""

    @property
    @abstractmethod
    def about(self) -> str:
        """What it is the promise of, for the log."""

    @property
    def _waiters(self) -> list[Any]:
        if self._state in OPEN:
            self.check_waiting("to wait for a future")
        return self._waiting

    @_waiters.setter
    def _waiters(self, waiters: list[Any]) -> None:
        self._waiting = waiters

    def _invoke_callbacks(self) -> None:
        for callback in self._done_callbacks:  # type: ignore[attr-defined]
            try:
                callback(self)
            except BaseException:  # also a SystemExit: it would end the thread, and not the program
                _log.exception("a callback of %s has raised, and is passed over", self.about)
