"""Where the rooms meet pytest: options, the broker of a run, fixtures, chapter headings."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from rmqspec import client
from rmqspec.broker import SETTINGS, SOURCES, Broker, BrokerError, Choice, NoBroker, NotOurs, find
from rmqspec.broker.shared import SharedBroker
from rmqspec.broker.vhosts import VhostPool
from rmqspec.client import Channel, Connection, Delivery, open_connections
from rmqspec.client.connection import hang_up
from rmqspec.orders.system import OrderSystem

T = TypeVar("T")
_numbers = itertools.count(1)

BROKER = pytest.StashKey[Broker]()
CHOICE = pytest.StashKey[Choice]()
CHAPTER = pytest.StashKey[object]()

HELP = {
    "broker": f"where the broker comes from: auto (the first that can of {', '.join(SOURCES)}), or one of them",
    "url": "use this broker: amqp://user:password@host:port",
    "management_url": "where its management API is (default: the URL's host, port 15672)",
    "image": "the container image",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Each setting as an option and in the ini file; the environment stands between them."""
    group = parser.getgroup("rabbitmq", "RabbitMQ (rmqspec)")
    for name, (variable, default) in SETTINGS.items():
        choices = {"choices": ("auto", *SOURCES)} if name == "broker" else {}
        words = f"{HELP[name]}; environment: {variable}, default: {default or 'none'}"
        group.addoption(f"--rabbitmq-{name.replace('_', '-')}", dest=f"rabbitmq_{name}", help=words, **choices)
        parser.addini(f"rabbitmq_{name}", HELP[name], default="")


def pytest_configure(config: pytest.Config) -> None:
    """Declares the markers."""
    config.addinivalue_line("markers", "behaviour(*ids): the promises of the catalogue that this spec holds")
    config.addinivalue_line(
        "markers", "rabbitmq(since=None, before=None): the versions in which this is so, as in since='4.0'"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Finds the broker of this run, unless nothing will be run."""
    config = session.config
    letter = getattr(config, "workerinput", {}).get("rmqspec_broker")
    if letter:
        config.stash[BROKER] = SharedBroker(letter)
    elif not any(config.getoption(name, False) for name in ("collectonly", "showfixtures", "show_fixtures_per_test")):
        given = {name: config.getoption(f"rabbitmq_{name}") for name in SETTINGS}
        ini = {name: str(config.getini(f"rabbitmq_{name}")) for name in SETTINGS}
        config.stash[CHOICE] = Choice.settle(given, os.environ, ini)
        try:
            config.stash[BROKER] = find(config.stash[CHOICE], _Progress(config))
        except NoBroker as error:
            raise pytest.UsageError(str(error)) from error


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What broker, which version, from where, and who chose."""
    if CHOICE not in config.stash or BROKER not in config.stash:
        return []
    broker, choice = config.stash[BROKER], config.stash[CHOICE]
    where = f"{broker.endpoint.host}:{broker.endpoint.port}"
    return [f"broker: {broker.identity} at {where}, {broker.description} ({choice.origin})"]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a worker of pytest-xdist which broker to share."""
    if BROKER in node.config.stash:
        image = node.config.stash[CHOICE].image
        node.workerinput["rmqspec_broker"] = SharedBroker.letter(node.config.stash[BROKER], image)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends the broker that was started for this run."""
    if BROKER in config.stash:
        config.stash[BROKER].close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A spec of another version says so and is not run."""
    for marker in item.iter_markers("rabbitmq"):
        broker = item.config.stash[BROKER]
        since, before = marker.kwargs.get("since"), marker.kwargs.get("before")
        if since and broker.identity.release < _release(since):
            pytest.skip(f"not in this version: since RabbitMQ {since}, this is {broker.identity.version}")
        if before and broker.identity.release >= _release(before):
            pytest.skip(f"not in this version: before RabbitMQ {before}, this is {broker.identity.version}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Under -v, opens each chapter with its title and its prose. Node ids stay as they are."""
    reporter = item.config.pluginmanager.get_plugin("terminalreporter")
    module = getattr(item, "module", None)
    if reporter is None or reporter.verbosity < 1 or item.config.stash.get(CHAPTER, None) is module:
        return
    item.config.stash[CHAPTER] = module
    title, *prose = (getattr(module, "__doc__", None) or item.path.name).strip().splitlines()
    number = re.match(r"test_(\d+)_", item.path.name)
    reporter.ensure_newline()
    reporter.write_line("")
    reporter.write_line(f"{int(number[1])}. {title}" if number else title, bold=True)
    for line in prose:
        reporter.write_line(f"   {line}" if line else "")


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> Broker:
    """The broker of this run. Its address, its version, its management API; nobody restarts it."""
    return request.config.stash[BROKER]


@pytest.fixture(scope="module")
def disposable_broker(broker: Broker) -> Iterator[Broker]:
    """A second broker of the same kind, for one module: `stop()`, `kill()`, `start()` and `restart()` it."""
    try:
        second = broker.another()
    except NotOurs as reason:
        pytest.skip(f"not run: {reason}")
    except BrokerError as error:
        pytest.fail(f"no disposable broker: {error}", pytrace=False)
    yield second
    second.close()


@pytest.fixture(scope="session")
def vhosts(broker: Broker) -> Iterator[VhostPool]:
    """Makes vhosts ahead of the tests and deletes them behind."""
    pool = VhostPool(broker.management, f"rmqspec-{os.getpid()}-{time.time_ns() // 1_000_000 % 1_000_000}")
    yield pool
    pool.close()


@pytest.fixture
def vhost(vhosts: VhostPool) -> Iterator[str]:
    """A vhost that is this test's alone. A test that leaves a connection open fails here."""
    name = vhosts.take()
    yield name
    vhosts.give_back(name)
    left = open_connections()
    for connection in left:
        hang_up(connection)
    if left:
        names = ", ".join(connection.name for connection in left)
        pytest.fail(f"this test left {len(left)} connection(s) open: {names}", pytrace=False)


@pytest.fixture
def url(broker: Broker, vhost: str) -> str:
    """The AMQP URL of this test's vhost, as production code is given one."""
    return broker.endpoint.url(vhost)


@pytest.fixture
def connect(url: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], Connection]]:
    """Opens one more connection to this test's vhost, named after the test: `connect()`. It is closed at the end."""
    opened: list[Connection] = []

    def another() -> Connection:
        opened.append(client.connect(url, request.node.nodeid))
        return opened[-1]

    yield another
    for connection in opened:
        if connection.is_open:
            connection.close()


@pytest.fixture
def connection(connect: Callable[[], Connection]) -> Connection:
    """A connection to this test's vhost, named after the test in the management UI."""
    return connect()


@pytest.fixture
def channel(connection: Connection) -> Channel:
    """A channel in confirm mode: `basic_publish` returns when the message is in its queues, so no test waits."""
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


@pytest.fixture
def bound_queue(channel: Channel) -> Callable[..., str]:
    """Makes a durable queue and binds it: `bound_queue("logs.topic", "order.#")` returns its name."""

    def make(exchange: str, *keys: str, **arguments: Any) -> str:
        name = f"q{next(_numbers)}"
        channel.queue_declare(name, durable=True, arguments=arguments)
        for key in keys or ("",):
            channel.queue_bind(name, exchange, key)
        return name

    return make


@pytest.fixture
def drain(channel: Channel) -> Callable[[str], list[bytes]]:
    """Takes all that a queue holds now: `drain("orders")` returns the bodies, oldest first."""

    def take(queue: str) -> list[bytes]:
        bodies = []
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            bodies.append(got[2] or b"")
        return bodies

    return take


@pytest.fixture
def receive(connection: Connection) -> Callable[..., list[Delivery]]:
    """Waits for messages that are still to come: `receive("orders", 3)` returns three deliveries, acknowledged."""

    def wait(queue: str, count: int = 1, within: float = 10.0) -> list[Delivery]:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=count)
        deliveries: list[Delivery] = []
        deadline = time.monotonic() + within
        while len(deliveries) < count:
            left = max(0.0, deadline - time.monotonic())
            method, properties, body = next(channel.consume(queue, inactivity_timeout=left))
            if method is None or properties is None:
                got = [delivery.body for delivery in deliveries]
                pytest.fail(f"{queue!r}: {count} message(s) expected within {within:g} s, came: {got}", pytrace=False)
            key = method.routing_key or ""
            deliveries.append(
                Delivery(queue, method.exchange or "", key, bool(method.redelivered), properties, body or b"")
            )
            channel.basic_ack(method.delivery_tag or 0)
        channel.close()
        return deliveries

    return wait


@pytest.fixture
def orders(url: str, request: pytest.FixtureRequest) -> Iterator[OrderSystem]:
    """The order system, declared on this test's vhost; `orders.start(…)` runs a service until the test ends."""
    with OrderSystem(url, request.node.nodeid) as system:
        yield system


@pytest.fixture
def eventually() -> Callable[..., None]:
    """The one poll: `eventually(probe, expected)` calls the probe until it returns that, and shows what it last saw."""

    def wait(probe: Callable[[], T], expected: T, within: float = 10.0) -> None:
        deadline = time.monotonic() + within
        while (seen := probe()) != expected:
            if time.monotonic() > deadline:
                pytest.fail(f"expected {expected!r} within {within:g} s, last seen: {seen!r}", pytrace=False)
            time.sleep(0.01)

    return wait


class _Progress:
    """Tells what the search for a broker does: a line for each step, rewritten in place where a terminal can."""

    def __init__(self, config: pytest.Config) -> None:
        self._reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._last = ""

    def __call__(self, words: str) -> None:
        step = words.partition(":")[0]  # "downloading …: 54 %" is one step
        if self._reporter is None or self._reporter.verbosity < 0 or (step == self._last and not self._rewrites):
            return
        if self._rewrites:
            self._reporter.rewrite(f"broker: {words}", erase=True)
        else:
            self._reporter.write_line(f"broker: {words}")
        self._last = step

    @property
    def _rewrites(self) -> bool:
        return bool(self._reporter.isatty)


def _release(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
