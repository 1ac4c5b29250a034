"""Failures that nobody has looked at: a message is not in its queue, and its future was dropped unread.

A future that is dropped says nothing, so such a program believes that all has arrived. What is dropped is logged: the
first at once, then once a second, with how many there were.
"""

from __future__ import annotations

import logging
import queue
import weakref
from contextlib import suppress
from threading import Thread
from time import sleep

from rmqspec.client import process
from rmqspec.client.errors import PublishFailed

__all__ = ["Unseen", "report"]

PAUSE = 1.0  # seconds between two warnings at least

_log = logging.getLogger("rmqspec.client")


class Unseen:
    """Goes with a future that has failed; if it goes before somebody has looked at the error, that is reported.

    Args:
        error: What the future raises.
    """

    __slots__ = ("__weakref__", "error")

    def __init__(self, error: PublishFailed) -> None:
        self.error: PublishFailed | None = error
        _reporter.watch(self)

    def seen(self) -> None:
        """Somebody has asked for the error."""
        self.error = None

    def __del__(self) -> None:
        # It may run in any thread between any two lines, and nothing but this queue is made for that.
        if self.error is not None:
            _reporter.dropped.put(self.error)


class _Reporter:
    """Logs what was dropped, in a thread of its own: whoever drops a future may hold the lock of a logging handler."""

    def __init__(self) -> None:
        self.dropped: queue.SimpleQueue[PublishFailed] = queue.SimpleQueue()
        self._kept: weakref.WeakSet[Unseen] = weakref.WeakSet()
        self._thread: Thread | None = None

    def watch(self, unseen: Unseen) -> None:
        self._kept.add(unseen)
        if self._thread is None:  # two at once start two threads, which does no harm
            self._thread = Thread(target=self._run, name="failures that nobody looked at", daemon=True)
            self._thread.start()

    def report(self, *, kept: bool = False) -> None:
        errors = self._waiting()
        if kept:
            with suppress(RuntimeError):  # a thread that outlives the program adds one at this moment
                errors += [error for unseen in list(self._kept) if (error := unseen.error) is not None]
            self._kept.clear()
        _warn(errors)

    def _run(self) -> None:
        while True:
            _warn([self.dropped.get(), *self._waiting()])
            sleep(PAUSE)

    def _waiting(self) -> list[PublishFailed]:
        errors: list[PublishFailed] = []
        while not self.dropped.empty():
            try:
                errors.append(self.dropped.get_nowait())
            except queue.Empty:
                break
        return errors


def _warn(errors: list[PublishFailed]) -> None:
    if not errors:
        return
    first, more = errors[0], len(errors) - 1
    _log.warning(
        "a publish has failed, and nobody has looked at its future: %s: %s%s",
        type(first).__name__,
        first,
        f" (and {more} more)" if more else "",
    )


_reporter = _Reporter()


def report(*, kept: bool = False) -> None:
    """Logs now what was dropped.

    Args:
        kept: Also the failures whose futures somebody still has and did not look at: the program ends.
    """
    _reporter.report(kept=kept)


def _renew() -> None:
    global _reporter
    _reporter = _Reporter()


process.after_fork(_renew)
