"""Waiting on the broker in a service that may be stopped meanwhile.

A handler that publishes waits for the confirm. Under a memory alarm, or while the broker is away, that takes as long as
it takes; a service that is to stop must not wait for it. What was not confirmed by then is given back.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from concurrent.futures import Future
from typing import Any

from rmqspec.client import Confirmed
from rmqspec.client.errors import ClientError

__all__ = ["ServiceStopped", "Waits"]


class ServiceStopped(ClientError):
    """The service was stopped before the broker had answered: what became of the message is not known."""


class Waits:
    """The waits of one service. Any thread may call any of these.

    Args:
        after_stop: Seconds at which a wait on the broker ends, after ``stop`` or, if it begins later, after its
            beginning: however long the message at work takes, it is finished. A broker that is well confirms in less,
            also on a busy machine.
    """

    def __init__(self, after_stop: float = 1.2) -> None:
        self._after_stop, self._stopped = after_stop, Future[float]()
        self._guard = threading.Lock()

    def stop(self) -> None:
        """Ends all waits soon, those that begin later too."""
        with self._guard:
            if not self._stopped.done():
                self._stopped.set_result(time.monotonic())

    def confirmed(self, future: Future[Confirmed]) -> Confirmed:
        """Waits until the broker has answered for a message.

        Raises:
            ServiceStopped: It had not answered soon, and the service is to stop.
            PublishFailed: It has not taken the message, as far as is known.
        """
        began = time.monotonic()
        either: list[Future[Any]] = [future, self._stopped]
        concurrent.futures.wait(either, return_when=concurrent.futures.FIRST_COMPLETED)
        since = max(began, self._stopped.result()) if self._stopped.done() else time.monotonic()
        try:
            return future.result(max(0.0, since + self._after_stop - time.monotonic()))
        except TimeoutError as error:
            future.add_done_callback(lambda late: late.exception())  # looked at: nothing is to be logged about it
            raise ServiceStopped("stopped before the broker had confirmed a message") from error
