"""What several chapters need: what a consumer holds, what is left of a dead one, and users who may not do all."""

import socket
import threading
import time
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import pika
import pytest
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    NackError,
    UnroutableError,
)

from rmqspec.client import Connection, Publisher
from rmqspec.tools.broker.endpoint import random_login


class Holder:
    """A consumer that acknowledges only when it is told to: what it was sent, it holds."""

    def __init__(self, patience, channel, queue, **options):
        self.patience, self.channel, self.bodies, self.tags, self.headers = patience, channel, [], [], []
        self.consumer_tag = channel.basic_consume(queue, self._take, **options)

    def after(self, count):
        """What has come once so many messages have."""
        deadline = time.monotonic() + self.patience
        while len(self.bodies) < count:
            if time.monotonic() > deadline:
                pytest.fail(f"{count} message(s) expected within {self.patience:g} s, came: {self.bodies}")
            self.channel.connection.process_data_events(time_limit=1)  # returns with the first event
        return self.bodies

    def _take(self, _channel, method, properties, body):
        self.bodies.append(body)
        self.tags.append(method.delivery_tag)
        self.headers.append(properties.headers or {})


@pytest.fixture
def hold(patience):
    """Subscribes without acknowledging: `hold(channel, "orders").after(2)` is what came once two messages have."""
    return partial(Holder, patience)


@pytest.fixture
def take():
    """Fetches the next message without acknowledging it, and there must be one: `take(channel, "orders")`."""

    def fetch(channel, queue):
        method, _, body = channel.basic_get(queue)
        assert method is not None, f"{queue!r} has no message that could be taken"
        return method.delivery_tag, body

    return fetch


@pytest.fixture
def to_its_end(patience):
    """Runs a service that ends by itself, and stops it if it has not when time is up: `to_its_end(Worker(url))`."""

    def run(service):
        timer = threading.Timer(patience, service.stop)
        timer.start()
        try:
            service.run()
        finally:
            timer.cancel()

    return run


@pytest.fixture
def open_publisher(connection, patience):
    """Opens a publisher of ours, closed before the vhost goes, as its connection is: `open_publisher(url)`."""
    opened = []

    def open_one(source, **options):
        opened.append(Publisher(source, **options))
        return opened[-1]

    yield open_one
    for publisher in opened:
        publisher.close(patience)


@pytest.fixture
def cut():
    """Ends a connection as a crash does: the socket closes, and no word is said to the broker. `cut(connection)`."""

    def die(connection):
        # pika has no way to hang up without a goodbye.
        connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises(AMQPConnectionError):
            connection.process_data_events()

    return die


class Refusal(NamedTuple):
    """What the broker says to a mistake, and what that costs: nothing, the channel, or the whole connection."""

    code: int = 0
    words: str = ""
    costs: str = "nothing"


@pytest.fixture
def refusal(connection):
    """Makes a mistake on a channel of its own: `refusal(mistake)` is what becomes of it."""

    def of(mistake):
        try:
            with connection.channel() as careless:
                mistake(careless)
        except ConnectionClosedByBroker as error:
            return Refusal(error.reply_code, error.reply_text, "connection")
        except ChannelClosedByBroker as error:
            connection.channel().close()  # the connection serves on
            return Refusal(error.reply_code, error.reply_text, "channel")
        return Refusal()

    return of


@pytest.fixture
def looks(refusal):
    """Whether a queue or an exchange is there, "there" or "gone": `looks("queue", "work")`."""

    def at(kind, name):
        said = refusal(lambda channel: getattr(channel, f"{kind}_declare")(name, passive=True))
        if said.code:
            assert (said.code, said.costs) == (404, "channel")
            assert said.words.startswith(f"NOT_FOUND - no {kind} '{name}' in vhost")
        return "gone" if said.code else "there"

    return at


@pytest.fixture
def exists(connect):
    """Whether there is a queue of this name, asked by a publish: a declare, even a passive one, renews its lease."""
    probes = []

    def ask(name):
        if not probes or probes[-1].is_closed:
            probes.append(connect().channel())
            probes[-1].confirm_delivery()
        try:
            probes[-1].basic_publish("", name, b"anybody there?", mandatory=True)
        except (UnroutableError, NackError):  # a nack: it went while the message came
            return False
        except ConnectionClosedByBroker as error:  # so it may be since 4.3: 506, the queue is not found
            if "not_found" not in error.reply_text:
                raise
            return False
        return True

    return ask


@pytest.fixture
def user(broker, vhost):
    """Makes a user with a random password, who has these permissions in this test's vhost, or may not enter it."""
    names = []

    def make(tags="", **permissions):
        name, password = random_login()
        broker.management.create_user(name, password, tags)
        names.append(name)
        if permissions:
            broker.management.permit(vhost, name, **permissions)
        return replace(broker.endpoint, user=name, password=password)

    yield make
    for name in names:
        broker.management.delete_user(name)


@pytest.fixture
def enter(vhost, request, route, patience):
    """Opens a connection as this user: `enter(user(read=".*"))`. It is closed at the end."""
    opened = []

    def open_one(who, where=vhost):
        parameters = pika.URLParameters(route(who.url(where)))
        parameters.client_properties = {"connection_name": request.node.nodeid}
        opened.append(Connection(parameters))
        opened[-1].patience = patience
        return opened[-1]

    yield open_one
    for connection in opened:
        if connection.is_open:
            connection.close()
