"""A message on its way to the broker: the promise of an answer, and the bytes to be sent."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

from pika import spec

from rmqspec.client.encoding import frames
from rmqspec.client.message import Confirmed, Message

__all__ = ["Sent"]

# A future makes itself a lock to wait with, which takes as long as all the rest of a publish. Hardly any is waited for
# singly: they share one, and whoever does wait brings an event along.
_shared = threading.Condition()


class Sent(Future[Confirmed]):
    """What ``Publisher.publish`` returns.

    Args:
        message: What is published.
        shape: The number and the body limit of the channel that it is to leave on.

    Raises:
        Unencodable: The protocol cannot carry the message.

    Attributes:
        frames: Encoded where ``publish`` was called, so that its caller hears of what cannot be.
        returned: The broker's word that no queue is bound for it; its ack follows.
    """

    returned: spec.Basic.Return | None = None

    def __init__(self, message: Message, shape: tuple[int, int]) -> None:
        # What Future.__init__ does, but for the lock.
        self._condition, self._state = _shared, "PENDING"
        self._result, self._exception = None, None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []
        self.message, self._shape = message, shape
        self.frames = frames(message, *shape)

    def reshape(self, shape: tuple[int, int]) -> None:
        """Encodes it anew where it leaves on another channel than was thought: the connection was lost meanwhile."""
        if shape != self._shape:
            self.frames, self._shape = frames(self.message, *shape), shape

    def cancel(self) -> bool:
        """False: what is handed over cannot be called back."""
        return False

    def result(self, timeout: float | None = None) -> Confirmed:
        """The broker's word that it has the message.

        Args:
            timeout: Seconds to wait; None waits for as long as it takes.

        Raises:
            TimeoutError: It has said nothing yet.
            PublishFailed: It has not taken the message, as far as is known.
        """
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What ``result`` raises, or None. Args and errors are those of ``result``."""
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, timeout: float | None) -> None:
        if self.done():
            return
        settled = threading.Event()
        self.add_done_callback(lambda _: settled.set())
        settled.wait(timeout)
