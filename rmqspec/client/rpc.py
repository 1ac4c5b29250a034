"""Calls over queues: a request with a return address, a reply with the request's correlation id.

Source: https://www.rabbitmq.com/docs/direct-reply-to, https://www.rabbitmq.com/tutorials/tutorial-six-python
"""

from __future__ import annotations

import itertools
import time
import uuid
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any

from pika import BasicProperties, DeliveryMode
from pika.spec import Basic

from rmqspec.client.connection import Loop
from rmqspec.client.encoding import frames
from rmqspec.client.errors import CallFailed, CallRefused, CallTimedOut, ClientError
from rmqspec.client.link import Link, LoopChannel
from rmqspec.client.message import Message
from rmqspec.client.outbox import Outbox
from rmqspec.client.settings import Settings

__all__ = ["DIRECT_REPLY_TO", "ERROR_HEADER", "RpcClient"]

DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"  # the broker's pseudo-queue: no queue is made, replies come straight back
ERROR_HEADER = "error"  # on a reply: what the server could not do


class _Call(Future[bytes]):
    """A call that is open: the promise of its reply."""

    timer: Any = None  # pika's, of a type of its own

    def __init__(self, queue: str, timeout: float, correlation_id: str, frames: list[bytes | memoryview]) -> None:
        super().__init__()
        self.queue, self.timeout, self.correlation_id, self.frames = queue, timeout, correlation_id, frames
        self.deadline = time.monotonic() + timeout


class RpcClient:
    """Calls servers on other queues. Any thread may use it; many calls may be open at once on its one connection.

    Args:
        source: The broker's URL, or settings.
        name: The connection's, shown in the management UI.
        timeout: Seconds that a call may take; each call can have its own.
        exclusive_queue: Take replies from a queue of the client's own instead of the broker's direct reply-to. It
            goes with the connection.

    Raises:
        ClientError: The first connection cannot be had. Later losses are mended; open calls fail with them.
    """

    def __init__(
        self, source: str | Settings, name: str = "rpc-client", timeout: float = 5.0, *, exclusive_queue: bool = False
    ) -> None:
        self.reply_to = f"replies-{uuid.uuid4().hex}" if exclusive_queue else DIRECT_REPLY_TO
        self._timeout, self._exclusive = timeout, exclusive_queue
        self._numbers, self._session = itertools.count(1), uuid.uuid4().hex[:8]
        self._outbox = Outbox[_Call](lambda: self._link.wake())
        # From here on: touched by the link's thread alone.
        self._open: dict[str, _Call] = {}
        self._channel: LoopChannel | None = None
        self._link = Link(Settings.of(source), name, self)
        self._link.open()

    def call(self, queue: str, request: bytes, timeout: float | None = None) -> bytes:
        """Sends a request and returns the reply's body.

        Args:
            queue: The server's.
            request: The body, JSON.
            timeout: Seconds; by default the client's.

        Raises:
            CallTimedOut: No reply came in time. The server may still have done the work.
            CallRefused: The server replied with an error.
            CallFailed: There is no such queue, or the connection was lost.
            Unencodable: The protocol cannot carry the request.
        """
        return self.send(queue, request, timeout).result()

    def send(self, queue: str, request: bytes, timeout: float | None = None) -> Future[bytes]:
        """Sends a request without waiting for its reply.

        Returns:
            A future of the reply's body, which raises what ``call`` raises. To cancel it is to forget the call: a
            reply that comes all the same is dropped.
        """
        seconds = self._timeout if timeout is None else timeout
        correlation_id = f"{self._session}-{next(self._numbers)}"
        call = _Call(queue, seconds, correlation_id, self._request(queue, request, seconds, correlation_id))
        self._outbox.put(call)
        return call

    def _request(self, queue: str, body: bytes, timeout: float, correlation_id: str) -> list[bytes | memoryview]:
        properties = BasicProperties(
            content_type="application/json",
            delivery_mode=DeliveryMode.Transient,  # nobody waits for it any more after a restart
            correlation_id=correlation_id,
            reply_to=self.reply_to,
            expiration=str(int(timeout * 1000)),  # nor after the deadline
        )
        # Mandatory: where there is no queue, the request comes back at once instead of never.
        return frames(Message("", queue, body, properties), *self._shape)

    def close(self) -> None:
        """Hangs up; calls that are open fail."""
        self._outbox.end(CallFailed("the client has been closed"))
        self._link.close()
        self._fail_all(CallFailed("the client was closed before the reply came"))

    def __enter__(self) -> RpcClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def on_channel(self, channel: LoopChannel, loop: Loop) -> None:
        """The link has a channel: listens for replies."""
        self._channel, self._loop = channel, loop
        self._shape = (channel.channel_number, loop.body_limit)
        channel.add_on_return_callback(self._on_return)
        if self._exclusive:
            channel.queue_declare(self.reply_to, exclusive=True)
        channel.basic_consume(self.reply_to, self._on_reply, auto_ack=True)

    def on_lost(self, reason: ClientError, *, final: bool) -> None:
        """The link has lost its channel, and with it the address that replies would come to."""
        self._channel = None
        error = CallFailed(f"no reply can come any more: {reason}", reason.reply_code, reason.reply_text)
        if final:
            self._outbox.end(error)
        self._fail_all(error)

    def on_blocked(self, reason: str) -> None:
        """An alarm: requests wait at the broker, and the deadlines run."""

    def on_work(self) -> None:
        """Sends the calls that wait; without a channel they fail."""
        if self._channel is None:
            self._refuse_what_waits()
            return
        pieces: list[bytes | memoryview] = []
        for call in self._outbox.take():
            self._open[call.correlation_id] = call
            remaining = max(0.0, call.deadline - time.monotonic())
            call.timer = self._loop.ioloop.call_later(remaining, partial(self._expire, call))
            pieces += call.frames
        if pieces:
            self._loop.write(pieces)

    def _refuse_what_waits(self) -> None:
        for call in self._outbox.take():
            words = f"the call to {call.queue!r} was not sent: the connection to the broker is lost"
            _finish(call, CallFailed(words))

    def _on_reply(self, _: LoopChannel, __: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        self._link.note_progress()
        call = self._take(properties.correlation_id)
        if call is None:
            return  # late, repeated or foreign
        refusal = (properties.headers or {}).get(ERROR_HEADER)
        if refusal is None:
            _finish(call, body)
        else:
            _finish(call, CallRefused(f"{call.queue!r} refused the call: {refusal!s}"))

    def _on_return(self, _: LoopChannel, method: Basic.Return, properties: BasicProperties, __: bytes) -> None:
        if call := self._take(properties.correlation_id):
            words = f"there is no queue {call.queue!r} to call: was its server ever started?"
            _finish(call, CallFailed(words, int(method.reply_code or 0), str(method.reply_text)))

    def _expire(self, call: _Call) -> None:
        if self._open.pop(call.correlation_id, None):
            words = f"no reply from {call.queue!r} within {call.timeout:g} s: is its server running?"
            _finish(call, CallTimedOut(words))

    def _take(self, correlation_id: str | None) -> _Call | None:
        call = self._open.pop(str(correlation_id), None)
        if call is not None:
            self._loop.ioloop.remove_timeout(call.timer)
        return call

    def _fail_all(self, error: CallFailed) -> None:
        calls, self._open = [*self._open.values(), *self._outbox.take()], {}
        for call in calls:
            _finish(call, error)


def _finish(call: _Call, result: bytes | CallFailed) -> None:
    if not call.set_running_or_notify_cancel():
        return  # the caller has given it up
    if isinstance(result, bytes):
        call.set_result(result)
    else:
        call.set_exception(result)
