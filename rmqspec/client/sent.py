"""A message on its way to the broker: the promise of an answer, and the bytes to be sent.

It ends once: by the link's thread, with the broker's answer or a loss, or by that of the deadlines. The later of the
two finds it ended, and that is decided under ``_shared``. Callbacks run in the thread that ends it, without any lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pika import spec

from rmqspec.client import process
from rmqspec.client.bounds import LONGEST
from rmqspec.client.encoding import frames, reframed
from rmqspec.client.errors import PublishFailed, Unencodable
from rmqspec.client.message import Confirmed, Message
from rmqspec.client.promise import Promise
from rmqspec.client.unseen import Unseen
from rmqspec.client.window import Ticket

__all__ = ["Sent"]

# A future makes itself a lock to wait with, which takes as long as all the rest of a publish. Hardly any is waited for
# singly: they share one, and whoever does wait brings an event along.
_shared = threading.Condition()
PENDING, FINISHED = "PENDING", "FINISHED"  # the states of the standard library's that there are here


class Sent(Promise[Confirmed], Ticket):
    """What ``Publisher.publish`` returns.

    Args:
        message: What is published.
        shape: The number and the body limit of the channel that it is to leave on.
        check: Called by whoever waits for it, with the name of the method; raises where that would be for ever.

    Raises:
        Unencodable: The protocol cannot carry the message.

    Attributes:
        frames: Encoded where ``publish`` was called, so that its caller hears of what cannot be.
        returned: The broker's word that no queue is bound for it; its ack follows.
        shape: What they are made for.
        tag: Its delivery tag on the last channel that it was written to; 0 if the broker cannot have it.
    """

    returned: spec.Basic.Return | None = None
    tag = 0
    _unseen: Unseen | None = None

    def __init__(self, message: Message, shape: tuple[int, int], check: Callable[[str], None] | None = None) -> None:
        # What Future.__init__ does, but for the lock.
        self._condition, self._state = _shared, PENDING
        self._result, self._exception = None, None
        self._waiting = []
        self._done_callbacks: list[Any] = []
        self.message, self.shape, self._check = message, shape, check
        self.frames = frames(message, *shape)

    def reshape(self, shape: tuple[int, int]) -> None:
        """Makes other frames where it leaves on another channel than was thought: the connection was lost meanwhile.

        Raises:
            Unencodable: Its headers need more than one frame there.
        """
        if shape != self.shape:
            try:
                self.frames = reframed(self.frames, self.message.body, *shape)
            except ValueError as error:
                raise Unencodable(f"AMQP 0-9-1 cannot carry it ({error}): not sent", self.message) from error
        self.shape = shape

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
            WrongThread: There is no answer yet, and a callback waits for it: it would wait for its own thread.
            WrongProcess: There is no answer yet, and none comes to a fork of the process that has published.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error.with_traceback(None)  # else each call of result() would make it longer
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What ``result`` raises, or None. Args and errors are those of ``result``."""
        self._wait(timeout)
        error = super().exception(0)
        if self._unseen is not None:
            self._unseen.seen()
        return error

    # As the standard library's two, without waking those who wait at the lock: nobody does.

    def set_result(self, result: Confirmed) -> None:
        """Ends it well, unless a deadline was first."""
        with self._condition:
            if self._state != PENDING:
                return
            self._result, self._state = result, FINISHED
            for waiter in self._waiting:
                waiter.add_result(self)
        if self._done_callbacks:
            self._invoke_callbacks()

    def set_exception(self, exception: BaseException | None) -> None:
        """Ends it ill, unless a deadline or an answer was first."""
        with self._condition:
            if self._state != PENDING:
                return
            self._exception, self._state = exception, FINISHED
            if isinstance(exception, PublishFailed):
                self._unseen = Unseen(exception)
            for waiter in self._waiting:
                waiter.add_exception(self)
        if self._done_callbacks:
            self._invoke_callbacks()

    def _wait(self, timeout: float | None) -> None:
        if self.done():
            return
        self.check_waiting("result()")
        settled = threading.Event()
        self.add_done_callback(lambda _: settled.set())
        settled.wait(None if timeout is None else min(timeout, LONGEST))

    def check_waiting(self, what: str) -> None:
        """Raises what ``result`` raises where waiting would be for ever."""
        if self._check is not None:
            self._check(what)

    @property
    def about(self) -> str:
        """What it is the promise of, for the log."""
        return f"a publish ({self.message})"


# In place, for the futures that a fork inherits have it too, and another thread may have held it.
process.after_fork(lambda: _shared.__init__())  # type: ignore[misc]
