"""Calls over queues: a request with a return address, a reply with the request's correlation id.

Source: https://www.rabbitmq.com/docs/direct-reply-to, https://www.rabbitmq.com/tutorials/tutorial-six-python
"""

from __future__ import annotations

import itertools
import threading
import uuid
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

from pika import BasicProperties, DeliveryMode
from pika.spec import Basic

from rmqspec.client.connection import Loop
from rmqspec.client.errors import CallFailed, CallRefused, CallTimedOut, ClientError
from rmqspec.client.link import Link, LoopChannel
from rmqspec.client.settings import Settings

__all__ = ["DIRECT_REPLY_TO", "ERROR_HEADER", "RpcClient"]

DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"  # the broker's pseudo-queue: no queue is made, replies come straight back
ERROR_HEADER = "error"  # on a reply: what the server could not do


@dataclass(slots=True, eq=False)
class _Call:
    queue: str
    request: bytes
    timeout: float
    correlation_id: str
    reply: Future[bytes] = field(default_factory=Future)
    timer: Any = None  # pika's, of a type of its own


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
        self._guard = threading.Lock()
        self._asked: deque[_Call] = deque()
        self._woken, self._dead = False, False
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
        """
        return self.send(queue, request, timeout).result()

    def send(self, queue: str, request: bytes, timeout: float | None = None) -> Future[bytes]:
        """Sends a request without waiting for its reply.

        Returns:
            A future of the reply's body, which raises what ``call`` raises. To cancel it is to forget the call: a
            reply that comes all the same is dropped.
        """
        seconds = self._timeout if timeout is None else timeout
        call = _Call(queue, request, seconds, f"{self._session}-{next(self._numbers)}")
        with self._guard:
            if self._dead:
                raise CallFailed("the client has been closed")
            self._asked.append(call)
            wake, self._woken = not self._woken, True
        if wake and not self._link.soon(self._send):
            self._woken = False
            self._fail_all(CallFailed(f"the call to {queue!r} was not sent: the connection to the broker is lost"))
        return call.reply

    def close(self) -> None:
        """Hangs up; calls that are open fail."""
        with self._guard:
            self._dead = True
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
        channel.add_on_return_callback(self._on_return)
        if self._exclusive:
            channel.queue_declare(self.reply_to, exclusive=True)
        channel.basic_consume(self.reply_to, self._on_reply, auto_ack=True)
        self._send()

    def on_lost(self, reason: ClientError, *, final: bool) -> None:
        """The link has lost its channel, and with it the address that replies would come to."""
        self._channel = None
        self._dead = self._dead or final
        self._fail_all(CallFailed(f"no reply can come any more: {reason}", reason.reply_code, reason.reply_text))

    def on_blocked(self, reason: str) -> None:
        """An alarm: requests wait at the broker, and the deadlines run."""

    def _send(self) -> None:
        with self._guard:
            self._woken = False
            if self._channel is None:
                return
            asked, self._asked = self._asked, deque()
        for call in asked:
            self._open[call.correlation_id] = call
            properties = BasicProperties(
                content_type="application/json",
                delivery_mode=DeliveryMode.Transient,  # nobody waits for it any more after a restart
                correlation_id=call.correlation_id,
                reply_to=self.reply_to,
                expiration=str(int(call.timeout * 1000)),  # nor after the deadline
            )
            # Mandatory: where there is no queue, the request comes back at once instead of never.
            self._channel.basic_publish("", call.queue, call.request, properties, mandatory=True)
            call.timer = self._loop.ioloop.call_later(call.timeout, partial(self._expire, call))

    def _on_reply(self, _: LoopChannel, __: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        call = self._take(properties.correlation_id)
        if call is None:
            return  # late, repeated or foreign
        refusal = (properties.headers or {}).get(ERROR_HEADER)
        if refusal is None:
            _finish(call.reply, body)
        else:
            _finish(call.reply, CallRefused(f"{call.queue!r} refused the call: {refusal!s}"))

    def _on_return(self, _: LoopChannel, method: Basic.Return, properties: BasicProperties, __: bytes) -> None:
        if call := self._take(properties.correlation_id):
            words = f"there is no queue {call.queue!r} to call: was its server ever started?"
            _finish(call.reply, CallFailed(words, int(method.reply_code or 0), str(method.reply_text)))

    def _expire(self, call: _Call) -> None:
        if self._open.pop(call.correlation_id, None):
            words = f"no reply from {call.queue!r} within {call.timeout:g} s: is its server running?"
            _finish(call.reply, CallTimedOut(words))

    def _take(self, correlation_id: str | None) -> _Call | None:
        call = self._open.pop(str(correlation_id), None)
        if call is not None:
            self._loop.ioloop.remove_timeout(call.timer)
        return call

    def _fail_all(self, error: CallFailed) -> None:
        with self._guard:
            calls = [*self._open.values(), *self._asked]
            self._open, self._asked = {}, deque()
        for call in calls:
            _finish(call.reply, error)


def _finish(reply: Future[bytes], result: bytes | CallFailed) -> None:
    if not reply.set_running_or_notify_cancel():
        return  # the caller has given it up
    if isinstance(result, bytes):
        reply.set_result(result)
    else:
        reply.set_exception(result)
