"""Opening connections: the one place that names pika's adapters.

pika deprecates ``BlockingConnection`` in 1.5 and removes it in 2.0; when that day comes, this file changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from traceback import walk_stack
from typing import cast
from weakref import WeakSet

import pika
from pika import exceptions
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from rmqspec.client import process
from rmqspec.client.bounds import check_whole
from rmqspec.client.decoding import Reader
from rmqspec.client.encoding import OVERHEAD
from rmqspec.client.errors import ChannelClosed, ClientError, ConnectionLost, Unanswered, Unreachable, WrongProcess
from rmqspec.client.quiet import quiet_pika
from rmqspec.client.refusal import refusal
from rmqspec.client.settings import Settings

__all__ = ["Channel", "Connection", "Loop", "connect", "open_connections", "open_loop", "refusal", "translated"]

Channel = BlockingChannel

_log = logging.getLogger("rmqspec.client")


class Connection(BlockingConnection):
    """A connection that knows its name. One thread uses it at a time; see https://www.rabbitmq.com/docs/connections.

    In a fork of the process that has opened it, it raises ``WrongProcess``, and its ``close`` does nothing: the
    goodbye would be that of the parent.

    Attributes:
        patience: Seconds that the broker has to answer a method; None is for ever, as with pika. One that it does not
            answer ends with ``Unanswered``, and so does the connection: pika would go on waiting.
        unanswered: Whether that has happened.
    """

    name: str
    patience: float | None = None
    unanswered = False

    def __init__(self, parameters: pika.connection.Parameters) -> None:
        # pika means this argument for tests; there is no other way to say what works beneath.
        self._born = process.here()
        super().__init__(parameters, _impl_class=Reader)  # type: ignore[arg-type]

    def close(self, reply_code: int = 200, reply_text: str = "Normal shutdown") -> None:
        """As pika's."""
        if self._born is process.here():
            super().close(reply_code, reply_text)

    def process_data_events(self, time_limit: float | None = 0) -> None:
        """As pika's. Whoever waits for a message waits as long as he says."""
        patience, self.patience = self.patience, None
        try:
            super().process_data_events(time_limit)
        finally:
            self.patience = patience

    def _flush_output(self, *waiters: Callable[[], bool]) -> None:
        """Where pika waits for every answer; it has no deadline of its own for that."""
        if self._born is not process.here():
            raise WrongProcess("a connection was opened before this process was forked: open one of its own here")
        if self.patience is None:
            super()._flush_output(*waiters)  # type: ignore[misc]
            return
        timer = self._impl.ioloop.call_later(self.patience, self._give_up)  # type: ignore[attr-defined]
        try:
            super()._flush_output(*waiters)  # type: ignore[misc]
        except Unanswered:
            with suppress(exceptions.AMQPError):
                super()._flush_output(lambda: False)  # type: ignore[misc]  # until pika knows of the end too
            raise
        finally:
            if self.is_open:
                self._impl.ioloop.remove_timeout(timer)  # type: ignore[attr-defined]

    def _give_up(self) -> None:
        self.unanswered = True
        error = Unanswered(f"the broker has not answered {_asked()} within {self.patience:g} s")
        self._impl._terminate_stream(exceptions.StreamLostError(str(error)))  # type: ignore[attr-defined]
        raise error


def _asked() -> str:
    """The method of pika's that waits: the innermost of those on the stack that are its public ones."""
    frames = [frame for frame, _ in walk_stack(None) if frame.f_globals["__name__"] == BlockingChannel.__module__]
    return next((name for frame in frames if not (name := frame.f_code.co_name).startswith("_")), "a method")


class Loop(Reader):
    """A connection that runs in an event loop, in the one thread that runs the loop."""

    name: str

    @property
    def body_limit(self) -> int:
        """Bytes of a body that fit into one frame: the negotiated frame size less what is around the body."""
        return int(cast("pika.ConnectionParameters", self.params).frame_max) - OVERHEAD

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the socket has not taken yet."""
        return int(self._get_write_buffer_size())  # type: ignore[attr-defined]

    def write(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Sends frames that are marshalled already, in one piece that leaves in one write.

        pika has no public way to do that: ``basic_publish`` hands each frame to the socket's buffer by itself.
        """
        self._output_marshaled_frames([b"".join(pieces)])  # type: ignore[attr-defined]

    def cut(self) -> None:
        """Ends without waiting for the broker any longer; nothing happens if that has come to an end already."""
        if not self.is_closed:
            self._terminate_stream(exceptions.StreamLostError("the broker does not answer"))  # type: ignore[attr-defined]


_opened: WeakSet[Connection | Loop] = WeakSet()


def connect(source: str | Settings, name: str, heartbeat: int | None = None) -> Connection:
    """Opens a connection for one thread. Of several addresses the first that answers is used.

    Args:
        source: ``amqp://user:password@host:port/vhost``, or settings.
        name: Shown in the management UI beside the connection.
        heartbeat: Seconds after which a silent peer is given up; by default that of the settings.

    Raises:
        InvalidSetting: The heartbeat is no number of seconds that the protocol has room for.
        InvalidUrl: It is no AMQP URL.
        Unreachable: Nobody answers.
        LoginRefused: User or password are wrong.
        VhostRefused: The vhost is missing or closed to this user.
        TlsRefused: The certificates do not fit.
    """
    settings = Settings.of(source)
    if heartbeat is not None:
        check_whole("heartbeat", heartbeat, 0, 65_535)
    for attempt in range(len(settings.urls)):
        parameters = settings.parameters(attempt, name)
        if heartbeat is not None:
            parameters.heartbeat = heartbeat
        try:
            with quiet_pika(debugging=_log.isEnabledFor(logging.DEBUG)):  # what has failed is said by what is raised
                connection = Connection(parameters)
        except (
            exceptions.AMQPError,
            AMQPConnectorException,  # nothing came in time
            OSError,
            ValueError,  # the peer is gone again already
        ) as error:
            last = refusal(parameters, error)
            last.__cause__ = error
            if not isinstance(last, Unreachable):
                break
        else:
            connection.name, connection.patience = name, settings.answer_timeout
            _opened.add(connection)
            return connection
    raise last


def open_loop(
    parameters: pika.URLParameters,
    name: str,
    opened: Callable[[Loop], None],
    refused: Callable[[BaseException], None],
    closed: Callable[[BaseException], None],
) -> Loop:
    """Begins to open a connection; the callbacks come once its ``ioloop`` is started.

    Args:
        parameters: Where to connect, and how.
        name: The connection's.
        opened: It is open.
        refused: It cannot be opened.
        closed: It was open and has ended.
    """
    loop = Loop(
        parameters,
        on_open_callback=lambda loop: opened(loop),
        on_open_error_callback=lambda _, error: refused(error),
        on_close_callback=lambda _, error: closed(error),
    )
    loop.name = name
    _opened.add(loop)
    return loop


def hang_up(connection: Connection | Loop) -> None:
    """Closes a connection that somebody forgot, from whatever thread; from now on it counts as closed."""
    _opened.discard(connection)
    if isinstance(connection, Loop):
        connection.ioloop.add_callback_threadsafe(connection.close)
    elif connection.is_open:
        with suppress(exceptions.AMQPError):  # its broker may be gone
            connection.close()


def open_connections() -> list[Connection | Loop]:
    """The connections of this process that are open now: what a test or a service forgot to close."""
    return [connection for connection in _opened if connection.is_open]


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turns pika's exceptions into those of the client.

    Args:
        what: What was being done, for the message: ``consuming from 'orders'``.

    Raises:
        ChannelClosed: The broker refused the operation.
        ConnectionLost: The connection ended meanwhile.
    """
    try:
        yield
    except exceptions.AMQPError as error:
        raise translation(what, error) from error


def translation(what: str, error: BaseException) -> ClientError:
    """One of pika's exceptions as one of ours."""
    code, text = getattr(error, "reply_code", 0), getattr(error, "reply_text", "")
    if isinstance(error, exceptions.ChannelClosed):
        return ChannelClosed(f"{what}: the broker closed the channel: {text}", code, text)
    if isinstance(error, exceptions.ConnectionClosed):
        return ConnectionLost(f"{what}: the connection was closed: {text}", code, text)
    return ConnectionLost(f"{what}: the connection to the broker was lost; is it still running?")
