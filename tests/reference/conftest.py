"""What the shelf needs beside the fixtures of all tests: a client that says whatever a spec wants it to."""

import socket
from collections import deque

import pika
import pytest
from pika import frame, spec

from rmqspec.client.decoding import ours
from rmqspec.tools.broker.endpoint import Endpoint
from rmqspec.tools.wire.said import Said, Sayings

HEADER = b"AMQP\x00\x00\x09\x01"


class RawClient:
    """A TCP connection to the broker: what is sent goes out as it is, and what comes is read method by method.

    Args:
        endpoint: Where the broker listens, and the login.
        vhost: What `open` opens.
        patience: Seconds that the broker may take to say something.
    """

    def __init__(self, endpoint, vhost, patience):
        self._endpoint, self._vhost, self._patience = endpoint, vhost, patience
        self._socket = socket.create_connection((endpoint.host, endpoint.port), patience)
        self._sayings, self._heard = Sayings(by_broker=True), deque()

    def send(self, *frames):
        """Sends frames of pika's, or bytes, in one piece."""
        self._socket.sendall(b"".join(each if isinstance(each, bytes) else each.marshal() for each in frames))

    def say(self, method, channel=0):
        """Sends one method."""
        self.send(frame.Method(channel, ours(method)))

    def hears(self, name):
        """The method that the broker says next, which must have this name: `client.hears("connection.start")`."""
        __tracebackhide__ = True
        return self.hears_message(name).method

    def hears_message(self, name):
        """The same with its message: `client.hears_message("basic.get-ok").headers`."""
        __tracebackhide__ = True
        said = self._next()
        if not isinstance(said, Said) or said.name != name:
            pytest.fail(f"{name} was expected, came: {said or 'the end of the connection'}")
        return said

    def hears_bytes(self):
        """What the broker sends next, which is no method: a protocol header."""
        __tracebackhide__ = True
        said = self._next()
        if not isinstance(said, bytes):
            pytest.fail(f"bytes were expected, came: {said or 'the end of the connection'}")
        return said

    def hears_close(self):
        """The `connection.close` that the broker sends next; it is answered."""
        __tracebackhide__ = True
        close = self.hears("connection.close")
        self.say(spec.Connection.CloseOk())
        return close

    def hears_the_end(self, within=None):
        """Returns when the broker closes the socket, and fails if it still says something."""
        __tracebackhide__ = True
        if within:
            self._patience = within
            self._socket.settimeout(within)
        if (said := self._next()) is not None:
            pytest.fail(f"the end of the connection was expected, came: {said}")

    def begin(self, header=HEADER):
        """Sends the protocol header; returns `connection.start`."""
        self.send(header)
        return self.hears("connection.start")

    def log_in(self, mechanism="PLAIN", response=None, **properties):
        """Answers `connection.start`, by default with this run's login; what comes then is not read yet."""
        plain = f"\0{self._endpoint.user}\0{self._endpoint.password}"
        self.say(spec.Connection.StartOk(properties, mechanism, plain if response is None else response, "en_US"))

    def tune(self, **changes):
        """Reads `connection.tune` and agrees, but for these changes: `tune(channel_max=0)`. Returns the proposal."""
        offer = self.hears("connection.tune")
        agreed = {"channel_max": offer.channel_max, "frame_max": offer.frame_max, "heartbeat": 0} | changes
        self.say(spec.Connection.TuneOk(**agreed))
        return offer

    def enter(self):
        """Opens the vhost; what comes then is not read yet."""
        self.say(spec.Connection.Open(self._vhost))

    def open(self, *channels, capabilities=(), **tuning):
        """The whole handshake, and these channels; returns the client."""
        self.begin()
        self.log_in(capabilities=dict.fromkeys(capabilities, True))
        self.tune(**tuning)
        self.enter()
        self.hears("connection.open-ok")
        for number in channels:
            self.say(spec.Channel.Open(), number)
            self.hears("channel.open-ok")
        return self

    def close(self):
        """Closes the socket, without a goodbye."""
        self._socket.close()

    def _next(self):
        """What the broker says next: a method, bytes that are none, or None at the end. Heartbeats are passed over."""
        heartbeat = frame.Heartbeat().marshal()
        while True:
            while not self._heard:
                try:
                    data = self._socket.recv(65536)
                except ConnectionResetError:
                    data = b""
                except TimeoutError:
                    pytest.fail(f"the broker was expected to say something, or to hang up, within {self._patience:g} s")
                self._heard.extend(self._sayings.feed(data) if data else [*self._sayings.feed(b""), None])
            if (said := self._heard.popleft()) != heartbeat:
                return said


@pytest.fixture
def raw_client(url, wait_limit):
    """Opens a connection that says anything: `raw_client().open(1)`; see `RawClient`. It is closed at the end."""
    opened = []

    def connect():
        opened.append(RawClient(Endpoint.parse(url), pika.URLParameters(url).virtual_host, wait_limit))
        return opened[-1]

    yield connect
    for client in opened:
        client.close()
