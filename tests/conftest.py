"""What specs need beside the plugin's fixtures: consumers that ack nothing, refusals, users; and the command line."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import pika
import pytest
from hypothesis import settings
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    NackError,
    UnroutableError,
)

from rmqspec.client import Connection, Publisher
from rmqspec.tools.broker.endpoint import random_login

# For what one has minutes for: `--hypothesis-profile=thorough`.
settings.register_profile("thorough", max_examples=300, stateful_step_count=50, deadline=None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is for what a script runs in the background, and so it would be for every process that is started here:
    # those are sent a Ctrl-C, and must hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Process:
    """`rmqspec …` in a process of its own; its output is read as it comes, and waited for `within` so many seconds."""

    def __init__(self, *arguments, environment, within=20.0):
        self.arguments, self.lines, self._news, self.within = arguments, [], threading.Condition(), within
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rmqspec", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def waits_for(self, words, count=1):
        """Returns when so many lines with these words have come; the wait ends with the line, not with a poll."""
        deadline = time.monotonic() + self.within
        with self._news:
            while len(found := [line for line in self.lines if words in line]) < count:
                left = deadline - time.monotonic()
                ended = not self._reader.is_alive()
                if ended or (not self._news.wait(max(0.0, left)) and left <= 0):
                    said = "\n".join(self.lines)
                    pytest.fail(f"{self.arguments}: {words!r} was expected {count} times; it said:\n{said}")
        return found

    def ends(self, with_signal=None, within=None):
        """Sends the signal, if any, and returns the exit code."""
        if with_signal is not None and self._process.poll() is None:
            self._process.send_signal(with_signal)
        code = self._process.wait(within or self.within)
        self._reader.join(self.within)
        self._process.stdout.close()
        return code

    @property
    def output(self):
        return "\n".join(self.lines)

    def _read(self):
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


@pytest.fixture
def environment(tmp_path):
    """Of a person who has started no broker with rabbitup; tests add RABBITMQ_URL."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
    return {**kept, "XDG_STATE_HOME": str(tmp_path), "COLUMNS": "132"}


@pytest.fixture
def run(environment, url, patience):
    """Starts `rmqspec …` on this test's vhost: `run("demo", "worker", "1")`. What still runs at the end is killed."""
    started = []

    def start(*arguments, **more):
        # The URL holds the password, so it travels in the environment: arguments are shown to every user.
        waits = {"RABBITMQ_ANSWER_TIMEOUT": str(patience)}
        surroundings = {**environment, **waits, "RABBITMQ_URL": url, **more}
        started.append(Process(*arguments, environment=surroundings, within=min(20.0, 3 * patience)))
        return started[-1]

    yield start
    for process in started:
        process.ends(signal.SIGKILL)


class UnackedConsumer:
    """A consumer that acknowledges nothing by itself.

    Attributes:
        bodies: Of all deliveries so far, oldest first.
        tags: Their delivery tags.
        headers: Their headers.
    """

    def __init__(self, wait_limit, channel, queue, **options):
        self.wait_limit, self.channel = wait_limit, channel
        self.bodies, self.tags, self.headers = [], [], []
        self.consumer_tag = channel.basic_consume(queue, self._on_delivery, **options)

    def wait_for(self, count):
        """The bodies, once at least so many messages were delivered."""
        __tracebackhide__ = True  # the failing line is the spec's
        deadline = time.monotonic() + self.wait_limit
        while len(self.bodies) < count:
            if time.monotonic() > deadline:
                pytest.fail(f"{count} message(s) expected within {self.wait_limit:g} s, came: {self.bodies}")
            self.channel.connection.process_data_events(time_limit=1)  # returns with the first event
        return self.bodies

    def _on_delivery(self, _channel, method, properties, body):
        self.bodies.append(body)
        self.tags.append(method.delivery_tag)
        self.headers.append(properties.headers or {})


@pytest.fixture
def subscribe_without_ack(wait_limit):
    """A consumer that acks nothing: `subscribe_without_ack(channel, "orders").wait_for(2)` returns two bodies."""
    return partial(UnackedConsumer, wait_limit)


@pytest.fixture
def get_without_ack():
    """`basic.get` of a message that must be there: `get_without_ack(channel, "orders")` is its tag and its body."""

    def fetch(channel, queue):
        method, _, body = channel.basic_get(queue)
        assert method is not None, f"{queue!r} is empty"
        return method.delivery_tag, body

    return fetch


@pytest.fixture
def run_until_it_ends(patience):
    """Runs a service that ends by itself, and stops it when time is up: `run_until_it_ends(Worker(url))`."""

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
    """Ends a connection as a crash does: the socket closes, without `connection.close`. `cut(connection)`."""

    def die(connection):
        # pika has no way to hang up without a goodbye.
        connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises(AMQPConnectionError):
            connection.process_data_events()

    return die


class Refusal(NamedTuple):
    """How the broker answered a mistake.

    Attributes:
        code: The reply code, or 0 if it was accepted.
        text: The reply text.
        closed: What the broker closed: "nothing", the "channel", or the "connection".
    """

    code: int = 0
    text: str = ""
    closed: str = "nothing"


@pytest.fixture
def refusal(connection):
    """How the broker refuses an operation, on a channel of its own: `refusal(lambda channel: …)` is a `Refusal`."""

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
def lookup(refusal):
    """Asks by a passive declare whether something "exists" or is "missing": `lookup("queue", "work")`."""

    def passive_declare(kind, name):
        said = refusal(lambda channel: getattr(channel, f"{kind}_declare")(name, passive=True))
        if said.code:
            assert (said.code, said.closed) == (404, "channel")
            assert said.text.startswith(f"NOT_FOUND - no {kind} '{name}' in vhost")
        return "missing" if said.code else "exists"

    return passive_declare


@pytest.fixture
def exists(connect):
    """Whether a queue exists, asked by a mandatory publish: a declare, even a passive one, counts as use of it."""
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
def connect_as(vhost, request, route, patience):
    """Opens a connection as this user: `connect_as(user(read=".*"))`. It is closed at the end."""
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
