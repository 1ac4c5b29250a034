"""Opening connections: the one place that names one of pika's adapters.

pika deprecates ``BlockingConnection`` in 1.5 and removes it in 2.0; when that day comes, this file changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from weakref import WeakSet

import pika
from pika import exceptions
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

from rmqspec.client.errors import (
    ChannelClosed,
    ClientError,
    ConnectionLost,
    InvalidUrl,
    LoginRefused,
    Unreachable,
    VhostRefused,
)

__all__ = ["Channel", "Connection", "connect", "open_connections", "translated"]

Channel = BlockingChannel


class Connection(BlockingConnection):
    """A connection that knows its name. One thread uses it at a time; see https://www.rabbitmq.com/docs/connections."""

    name: str


_opened: WeakSet[Connection] = WeakSet()


def connect(url: str, name: str, heartbeat: int = 60, timeout: float = 10.0) -> Connection:
    """Opens a connection.

    Args:
        url: ``amqp://user:password@host:port/vhost``; see https://www.rabbitmq.com/docs/uri-spec.
        name: Shown in the management UI beside the connection. Without it an operator sees only a port number.
        heartbeat: Seconds after which a silent peer is given up; see https://www.rabbitmq.com/docs/heartbeats.
        timeout: Seconds to wait for the socket, and again for the handshake.

    Raises:
        InvalidUrl: It is no AMQP URL.
        Unreachable: Nobody answers.
        LoginRefused: User or password are wrong.
        VhostRefused: The vhost is missing or closed to this user.
    """
    parameters = _parse(url)
    parameters.client_properties = {"connection_name": name}
    parameters.heartbeat = heartbeat
    parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = timeout
    try:
        connection = Connection(parameters)
        connection.name = name
    except (exceptions.AMQPError, OSError) as error:
        raise _refusal(parameters, error) from error
    _opened.add(connection)
    return connection


def open_connections() -> list[Connection]:
    """The connections of this process that are open now: what a test or a service forgot to close."""
    return [connection for connection in _opened if connection.is_open]


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turns pika's exceptions into those of this room.

    Args:
        what: What was being done, for the message: ``consuming from 'orders'``.

    Raises:
        ChannelClosed: The broker refused the operation.
        ConnectionLost: The connection ended meanwhile.
    """
    try:
        yield
    except exceptions.ChannelClosedByBroker as error:
        raise ChannelClosed(
            f"{what}: the broker closed the channel: {error.reply_text}", error.reply_code, error.reply_text
        ) from error
    except exceptions.ConnectionClosed as error:
        raise ConnectionLost(
            f"{what}: the connection was closed: {error.reply_text}", error.reply_code, error.reply_text
        ) from error
    except exceptions.AMQPConnectionError as error:
        raise ConnectionLost(f"{what}: the connection to the broker was lost; is it still running?") from error


def _parse(url: str) -> pika.URLParameters:
    if urlsplit(url).scheme not in ("amqp", "amqps"):
        raise InvalidUrl("a broker's URL reads amqp://user:password@host:port/vhost, or amqps://…")
    try:
        return pika.URLParameters(url)
    except (ValueError, TypeError) as error:
        raise InvalidUrl(f"the broker's URL cannot be read: {error}") from error


def _refusal(parameters: pika.URLParameters, error: Exception) -> ClientError:
    where = f"{parameters.host}:{parameters.port}"
    said = re.search(
        r"\((\d{3})\) '(.*?)'", str(error)
    )  # during the handshake pika hands the broker's words on as text
    code, text = (int(said[1]), said[2]) if said else (0, "")
    login = (exceptions.ProbableAuthenticationError, exceptions.AuthenticationError)
    if code == 403 or isinstance(error, login):
        user = getattr(parameters.credentials, "username", "")
        return LoginRefused(f"the broker at {where} refused the login of {user!r}: check user and password", code, text)
    if code == 530 or isinstance(error, exceptions.ProbableAccessDeniedError):
        vhost = parameters.virtual_host
        return VhostRefused(f"the broker at {where} has no vhost {vhost!r} for this user: create it", code, text)
    return Unreachable(f"no broker answers at {where}: start one (rmqspec rabbitup), or correct its address")
