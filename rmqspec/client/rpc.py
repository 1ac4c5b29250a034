"""Calls over queues: a request with a return address, a reply with the request's correlation id.

Which thread calls what, whether it may block, and under which lock:

================================  =====================  ==============================  =====================
method                            thread                 may block                       lock
================================  =====================  ==============================  =====================
``call``, ``result`` of a future  any but the two below  until the reply or the deadline  the future's own
``send``                          any                    for room; in a callback never   the window's, briefly
``close``                         any but the two below  as ``Link.close``               none
``on_…``                          the link's             no                              none
``_expire``                       any                    no                              none
================================  =====================  ==============================  =====================

What holds at any moment:

1. A call is in ``_open`` from before it is handed over until it ends. To end it is to take it out: ``dict.pop`` gives
   it to one thread only, which frees its room in the window and then tells who waits.
2. A call's deadline is kept by whoever waits for it, and otherwise by ``Deadlines``, which no connection can hold up.
3. ``_session`` changes as a whole: what was encoded for one channel is encoded again before it leaves on another.
4. Calls fail with their channel, as replies come to that alone; but not for a request that is larger than the broker
   takes. The broker has thrown away what was behind it, and that waits with all that has not left for the next channel.

Source: https://www.rabbitmq.com/docs/direct-reply-to, https://www.rabbitmq.com/tutorials/tutorial-six-python
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as StillOpen
from types import TracebackType
from typing import Any, NamedTuple

from pika import BasicProperties, DeliveryMode
from pika.spec import Basic

from rmqspec.client.bounds import check_number, check_whole
from rmqspec.client.connection import Loop
from rmqspec.client.content import Content
from rmqspec.client.deadlines import Deadlines
from rmqspec.client.encoding import frames
from rmqspec.client.errors import (
    CallFailed,
    CallRefused,
    CallTimedOut,
    ChannelClosed,
    ClientError,
    InvalidSetting,
    Unencodable,
    WrongProcess,
    WrongThread,
    again,
)
from rmqspec.client.link import Link, LoopChannel
from rmqspec.client.message import Message
from rmqspec.client.outbox import Outbox
from rmqspec.client.promise import Promise
from rmqspec.client.settings import Settings
from rmqspec.client.window import Window

__all__ = ["DIRECT_REPLY_TO", "ERROR_HEADER", "ROUTING_HEADERS", "TOO_LARGE", "RpcClient"]

DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"  # the broker's pseudo-queue: no queue is made, replies come straight back
PRECONDITION_FAILED = 406
ERROR_HEADER = "error"  # on a reply: what the server could not do
ROUTING_HEADERS = ("CC", "BCC")  # the broker would route a message with these to other queues too, or refuse it (406)
LONGEST = 4_294_967.0  # seconds: the broker takes no expiration of more milliseconds than fit into 32 bits
UNSENT = 1024 * 1024  # bytes that may wait in the socket's buffer; more requests wait here, where they can expire
NEXT_LOOK = 0.01  # seconds until the socket's buffer is looked at again
TOO_LARGE = re.compile(r"message size (\d+) is larger than (?:configured )?max size (\d+)")  # the broker's words (406)


class _Session(NamedTuple):
    """The channel that requests leave on, and where their replies come to."""

    number: int
    body_limit: int
    reply_to: str


class Call(Promise[bytes]):
    """A call that is open: the promise of its reply.

    Attributes:
        correlation_id: By which its reply is known.
        place: Its place among those that have left; 0 before.
    """

    frames: list[bytes | memoryview]
    session: _Session | None = None
    place = 0

    def __init__(self, client: RpcClient, request: Message, correlation_id: str, timeout: float) -> None:
        super().__init__()
        self.client, self.request, self.correlation_id, self.timeout = client, request, correlation_id, timeout
        self.deadline = time.monotonic() + timeout

    @property
    def queue(self) -> str:
        """Whom is called."""
        return self.request.routing_key

    def encode(self, session: _Session) -> None:
        """Encodes it for a channel, unless it is already."""
        if self.session is not session:
            self.request.properties.reply_to = session.reply_to
            self.frames = frames(self.request, session.number, session.body_limit)
            self.session = session

    def result(self, timeout: float | None = None) -> bytes:
        """The reply's body; raises what ``RpcClient.call`` raises, and ``TimeoutError`` after so many seconds."""
        return super().result(timeout) if self._left(timeout) is None else self.wait()

    def wait(self) -> bytes:
        """The reply's body; at the deadline it ends the call, if nobody else does."""
        try:
            return super().result(max(0.0, self.deadline - time.monotonic()))
        except StillOpen:
            self.client._expire(self)
            return super().result()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What ``result`` raises, or None."""
        if (left := self._left(timeout)) is not None:
            with contextlib.suppress(StillOpen):
                return super().exception(left)
            self.client._expire(self)
        return super().exception(timeout)

    def _left(self, timeout: float | None) -> float | None:
        """The seconds to its deadline if whoever waits for it would reach that, and then is to end it."""
        if self.done():
            return None
        self.check_waiting("result()")
        left = max(0.0, self.deadline - time.monotonic())
        return left if timeout is None or timeout > left else None

    def check_waiting(self, what: str) -> None:
        """Raises where waiting would be for ever: in a callback, and in a fork of the process that has called."""
        self.client._link.check_process()
        self.client._check_waiting(what)

    @property
    def about(self) -> str:
        """What it is the promise of, for the log."""
        return f"a call to {self.queue!r}"

    def cancel(self) -> bool:
        """Forgets the call; a reply that comes all the same is dropped."""
        cancelled = super().cancel()
        if cancelled:
            self.client._take(self.correlation_id)
        return cancelled


class RpcClient:
    """Calls servers on other queues. Any thread may use it; many calls may be open at once on its one connection.

    Args:
        source: The broker's URL, or settings.
        name: The connection's, shown in the management UI.
        timeout: Seconds that a call may take; each call can have its own.
        exclusive_queue: Take replies from a queue of the client's own instead of the broker's direct reply-to. It
            goes with the connection; each channel has a new one, as a lost connection may lock the last one for long.
        window: How many calls may be open.
        window_bytes: How many bytes of their requests.
        on_reconnect: Called with the seconds without a connection when there is one again, in the link's thread.
        on_blocked: Called with the broker's reason when it blocks publishers, and with an empty one afterwards.

    Raises:
        InvalidSetting: A number is out of range.
        ClientError: The first connection cannot be opened. A connection that is lost later is opened again; its open
            calls fail.
    """

    def __init__(
        self,
        source: str | Settings,
        name: str = "rpc-client",
        timeout: float = 5.0,
        *,
        exclusive_queue: bool = False,
        window: int = 10_000,
        window_bytes: int = 64 * 1024 * 1024,
        on_reconnect: Callable[[float], object] | None = None,
        on_blocked: Callable[[str], object] | None = None,
    ) -> None:
        check_whole("window", window, 1)
        check_number("window_bytes", window_bytes, 1, math.inf)
        self._timeout, self._exclusive = _seconds(timeout), exclusive_queue
        self._numbers, self._unique = itertools.count(1), uuid.uuid4().hex[:8]
        self._window = Window(window, window_bytes)
        self._open: dict[str, Call] = {}
        self._deadlines = Deadlines[Call](f"{name} (deadlines)", self._expire)
        # From here on: touched by the link's thread alone; the session and the limit are read by all.
        self._channel: LoopChannel | None = None
        self._places, self._limit, self._waits = itertools.count(1), math.inf, False
        self._link = Link(Settings.of(source), name, self, on_reconnect=on_reconnect, on_blocked=on_blocked)
        self._outbox = Outbox[Call](self._link.wake)
        self._link.open()

    @property
    def reply_to(self) -> str:
        """Where replies come to now."""
        return self._session.reply_to

    @property
    def connected(self) -> bool:
        """Whether a call could be sent now."""
        return self._link.connected

    @property
    def blocked(self) -> str:
        """Why the broker blocks publishers, and with them calls; empty where it does not."""
        return self._link.blocked

    @property
    def in_flight(self) -> int:
        """How many calls are open."""
        return len(self._open)

    def call(
        self, queue: str, request: bytes, timeout: float | None = None, *, headers: Mapping[str, Any] | None = None
    ) -> bytes:
        """Sends a request and returns the reply's body.

        Args:
            queue: The server's.
            request: The body, JSON.
            timeout: Seconds; by default the client's.
            headers: Travel with the request as they are, as ``traceparent``; but for ``CC`` and ``BCC``, which would
                route it to other queues too.

        Returns:
            The body, as ``Content``: bytes that know the reply's ``headers``.

        Raises:
            CallTimedOut: No reply came in time. The server may still have done the work.
            CallRefused: The server replied with an error.
            CallFailed: There is no such queue, or the connection was lost, or there is no room for one more call, or
                the request is larger than the broker takes.
            Unencodable: The protocol cannot carry the request.
            WrongThread: A callback of this client calls; it would wait for itself.
        """
        self._check_waiting("call()")
        call = self._begin(queue, request, timeout, headers)
        try:
            return call.wait()
        except BaseException:
            call.cancel()  # where an interrupt ends the wait; one that is done stays as it is
            raise

    def send(
        self, queue: str, request: bytes, timeout: float | None = None, *, headers: Mapping[str, Any] | None = None
    ) -> Call:
        """Sends a request without waiting for its reply; waits for room if too many calls are open.

        Returns:
            A future of the reply's body, which raises what ``call`` raises. To cancel it is to forget the call: a
            reply that comes all the same is dropped.

        Raises:
            CallFailed: No room came free before the deadline, the client has been closed, or it is known that the
                request is larger than the broker takes.
            Unencodable: The protocol cannot carry the request.
            InvalidSetting: The timeout is no number of seconds that the broker knows.
        """
        call = self._begin(queue, request, timeout, headers)
        self._deadlines.add(call.deadline, call)
        return call

    def _begin(self, queue: str, request: bytes, timeout: float | None, headers: Mapping[str, Any] | None) -> Call:
        self._link.check_process()
        seconds = self._timeout if timeout is None else _seconds(timeout)
        if len(request) > self._limit:
            raise _too_large(queue, len(request), self._limit)
        correlation_id = f"{self._unique}-{next(self._numbers)}"
        call = Call(self, _request(queue, request, seconds, correlation_id, headers), correlation_id, seconds)
        if seconds <= 0:
            words = f"the call to {queue!r} was not sent: its deadline was past when it was made"
            call.set_exception(CallTimedOut(words))
            return call
        call.encode(self._session)
        self._enter(call)
        self._open[correlation_id] = call
        try:
            self._outbox.put(call)
        except ClientError:
            self._take(correlation_id)
            raise
        return call

    def close(self) -> None:
        """Hangs up; calls that are open fail. In a fork of the process that has opened it, nothing happens.

        Raises:
            WrongThread: A callback of this client calls; it would wait for itself.
        """
        try:
            self._link.check_process()
        except WrongProcess:
            return
        self._check_waiting("close()")
        self._outbox.end(CallFailed("the client has been closed"))
        self._link.close()
        self._fail_all(CallFailed("the client was closed before the reply came"))
        self._deadlines.close()

    def __enter__(self) -> RpcClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def on_channel(self, channel: LoopChannel, loop: Loop) -> None:
        """The link has a channel: listens for replies."""
        reply_to = f"replies-{uuid.uuid4().hex}" if self._exclusive else DIRECT_REPLY_TO
        self._channel, self._loop, self._looks_again, self._waits = channel, loop, False, False
        self._session = _Session(channel.channel_number, loop.body_limit, reply_to)
        channel.add_on_return_callback(self._on_return)
        if self._exclusive:
            channel.queue_declare(reply_to, exclusive=True)
        channel.basic_consume(reply_to, self._on_reply, auto_ack=True)

    def on_lost(self, reason: ClientError, *, final: bool) -> None:
        """The link has lost its channel, and with it the address that replies would come to."""
        self._channel, self._waits = None, False
        error = CallFailed(f"no reply can come any more: {reason}", reason.reply_code, reason.reply_text)
        error._permanent = reason.permanent  # a code alone does not say it: a lost connection is another one soon
        if isinstance(reason, ChannelClosed):
            if not final and (large := TOO_LARGE.search(reason.reply_text)):
                self._after_large(int(large[1]), int(large[2]))
                return
        else:
            self._limit = math.inf  # a broker that starts again may take more
        if final:
            self._outbox.end(error)
        self._fail_all(error)

    def _after_large(self, size: int, limit: int) -> None:
        """A request was too large: it ends. Those before it have lost their replies, and the others leave again."""
        self._limit, self._waits = limit, True
        calls = list(self._open.values())
        # The broker refuses the first of that size; one that has expired meanwhile is not known any more.
        place = min((call.place for call in calls if call.place and len(call.request.body) == size), default=math.inf)
        words = f"no reply can come any more: the broker has refused another request, of {size} bytes, and its channel"
        for call in calls:
            if len(call.request.body) > limit:
                self._end(call, _too_large(call.queue, len(call.request.body), limit))
            elif 0 < call.place < place:
                self._end(call, CallFailed(words))
        behind = sorted((call for call in calls if call.place > place), key=lambda call: call.place)
        for call in behind:
            call.place = 0
        self._outbox.put_back(behind)

    def on_blocked(self, reason: str) -> None:
        """An alarm: requests wait at the broker, and the deadlines run."""

    def on_work(self) -> None:
        """Sends the calls that wait; without a channel they fail, unless there is another in a moment."""
        if self._waits and self._loop.is_open:
            return
        calls = self._outbox.take()
        if self._channel is None or not self._channel.is_open:  # the second where a loop ends by an error
            for call in calls:
                words = f"the call to {call.queue!r} was not sent: the connection to the broker is lost"
                self._end(call, CallFailed(words))
            return
        pieces: list[bytes | memoryview] = []
        unsent = self._loop.unsent
        while calls and unsent < UNSENT:
            call = calls.popleft()
            if call.correlation_id in self._open and self._encoded(call):
                call.place = next(self._places)
                pieces += call.frames
                unsent += len(call.request.body)
        if pieces:
            self._loop.write(pieces)
        if calls:
            self._outbox.put_back(calls)
            self._look_again()

    def _look_again(self) -> None:
        """The broker does not read: what is left expires here, unless there is room in the socket's buffer first."""
        if not self._looks_again:
            self._looks_again, channel = True, self._channel
            self._loop.ioloop.call_later(NEXT_LOOK, lambda: self._again(channel))

    def _again(self, channel: LoopChannel | None) -> None:
        if channel is self._channel:
            self._looks_again = False
            self.on_work()

    def _encoded(self, call: Call) -> bool:
        """Whether it could be encoded for the channel of now; another frame size may have been agreed upon."""
        try:
            call.encode(self._session)
        except Unencodable as error:
            self._end(call, CallFailed(str(error)))
            return False
        return True

    def _on_reply(self, _: LoopChannel, __: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        self._link.note_progress()
        call = self._open.get(str(properties.correlation_id))
        if call is None:
            return  # late, repeated or foreign
        headers = properties.headers or {}
        if ERROR_HEADER in headers:
            self._end(call, CallRefused(f"{call.queue!r} refused the call: {headers[ERROR_HEADER]!s:.1000}"))
        else:
            self._end(call, Content(body, headers))

    def _on_return(self, _: LoopChannel, method: Basic.Return, properties: BasicProperties, __: bytes) -> None:
        self._link.note_progress()
        if call := self._open.get(str(properties.correlation_id)):
            words = f"there is no queue {call.queue!r} to call: was its server ever started?"
            self._end(call, CallFailed(words, int(method.reply_code or 0), str(method.reply_text)))

    def _expire(self, call: Call) -> None:
        if call.correlation_id in self._open:
            why = f"the broker blocks publishers ({self.blocked})" if self.blocked else "is its server running?"
            self._end(call, CallTimedOut(f"no reply from {call.queue!r} within {call.timeout:g} s: {why}"))

    def _enter(self, call: Call) -> None:
        """Takes room in the window; waits for it until the deadline, but not in a callback."""
        size = len(call.request.body)
        if self._window.enter(size, 0.0):
            return
        waits = not (self._link.in_thread or self._deadlines.in_thread)
        if not waits or not self._window.enter(size, max(0.0, call.deadline - time.monotonic())):
            why = f"the broker blocks publishers ({self.blocked})" if self.blocked else "are their servers running?"
            raise CallFailed(f"the call to {call.queue!r} was not sent: {self._window.count} calls are open: {why}")

    def _take(self, correlation_id: str) -> bool:
        """Takes an open call out, and gives its room back; false if another thread has."""
        call = self._open.pop(correlation_id, None)
        if call is None:
            return False
        self._window.leave(1, len(call.request.body))
        return True

    def _end(self, call: Call, result: bytes | CallFailed) -> None:
        if not self._take(call.correlation_id) or not call.set_running_or_notify_cancel():
            return  # it has ended, or its caller has given it up
        if isinstance(result, bytes):
            call.set_result(result)
        else:
            call.set_exception(result)

    def _fail_all(self, error: CallFailed) -> None:
        for call in list(self._open.values()):
            self._end(call, again(error))

    def _check_waiting(self, what: str) -> None:
        self._link.check_waiting(what)
        if self._deadlines.in_thread:
            raise WrongThread(f"{what} in a callback of an expired call would hold up all other deadlines")


def _too_large(queue: str, size: int, limit: float) -> CallFailed:
    words = f"the request to {queue!r} has {size} bytes, and the broker takes {limit} at most"
    return CallFailed(words, PRECONDITION_FAILED, words)


def _seconds(timeout: float) -> float:
    if not -LONGEST <= timeout <= LONGEST:  # nor is it NaN
        raise InvalidSetting(f"timeout is {timeout!r}: seconds up to {LONGEST:,.0f} are wanted")
    return timeout


def _request(
    queue: str, body: bytes, timeout: float, correlation_id: str, headers: Mapping[str, Any] | None
) -> Message:
    properties = BasicProperties(
        content_type="application/json",
        delivery_mode=DeliveryMode.Transient,  # nobody waits for it any more after a restart
        correlation_id=correlation_id,
        expiration=str(math.ceil(max(0.0, timeout) * 1000)),  # nor after the deadline
        headers={name: value for name, value in headers.items() if name not in ROUTING_HEADERS} if headers else None,
    )
    # Mandatory: where there is no queue, the request comes back at once instead of never.
    return Message("", queue, body, properties)
