"""What pika keeps to itself and specs need: no other file of tests/ names a private attribute of pika's.

pyproject.toml says which versions of pika these are; a later one may name them differently.
"""

import socket
from contextlib import contextmanager


def send_method(channel, method, properties=None, body=b""):
    """Sends what pika has no call for, as `spec.Basic.Publish` with properties that it would refuse."""
    channel._impl._send_method(method, None if properties is None else (properties, body))


def send_frames(channel, *frames):
    """Writes frames as they are; pika itself writes whole messages."""
    channel.connection._impl._output_marshaled_frames([each.marshal() for each in frames])


def on_method(channel, kind, callback):
    """Calls back with each method of a kind that comes on a channel."""
    channel._impl.add_callback(lambda answer: callback(answer.method), [kind], one_shot=False)


def confirm_delivery(channel, callback):
    """Puts a channel into confirm mode, and calls back with each confirm; a blocking channel keeps them to itself."""
    channel._impl.confirm_delivery(lambda answer: callback(answer.method))


def on_return(channel, callback):
    """Calls back with each `basic.return`, also where a blocking channel would wait for the confirm behind it."""
    channel._impl.add_on_return_callback(lambda _channel, method, _properties, _body: callback(method))


def closing_reason(channel):
    """The error with which a channel was closed."""
    return channel._closing_reason


def agreed_parameters(connection):
    """The parameters that a connection uses since its handshake: a copy of those that it was given."""
    return connection._impl.params


def hang_up(connection):
    """Closes the socket as a crash does, without `connection.close`; pika does not know of it yet."""
    connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def bytes_read(connection):
    """Collects what comes over a connection, and keeps it from pika: `with bytes_read(connection) as received:`."""
    reader = connection._impl
    received = []
    reader._on_data_available = received.append
    try:
        yield received
    finally:
        del reader._on_data_available
