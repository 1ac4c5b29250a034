"""The fixtures: a broker, a vhost for each test, and what a spec needs to publish, to receive and to wait."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from rmqspec import client
from rmqspec.client import Channel, Connection, Delivery, Settings, open_connections
from rmqspec.client.bounds import check_number
from rmqspec.client.connection import hang_up
from rmqspec.client.errors import InvalidSetting
from rmqspec.tools.broker import Broker, NoManagement
from rmqspec.tools.broker.vhosts import VhostPool
from rmqspec.tools.plugin.broker import BROKER
from rmqspec.tools.plugin.failures import SHORT, is_red
from rmqspec.tools.plugin.one_vhost import ONE_VHOST
from rmqspec.tools.plugin.opened import Opened

if TYPE_CHECKING:
    from rmqspec.orders.system import OrderSystem

T = TypeVar("T")
PATIENCE = pytest.StashKey[float]()
INTERRUPTED = pytest.StashKey[bool]()
_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long specs wait."""
    words = (
        "how long a spec waits for what has to come (default: 10); a broker that differs much is asked faster with 2"
    )
    parser.getgroup("rabbitmq").addoption("--patience", metavar="SECONDS", type=float, default=10.0, help=words)


def pytest_configure(config: pytest.Config) -> None:
    """Listens for Ctrl-C, and says at once if nothing can be waited for so long."""
    try:
        check_number("--patience", config.getoption("patience"), least=0.01)
    except InvalidSetting as error:
        raise pytest.UsageError(f"{error} (seconds)") from None
    config.pluginmanager.register(_Interrupt(config))


class _Interrupt:
    """Ctrl-C ends a run in the middle of a spec, which has closed nothing yet: no reason to complain of it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_keyboard_interrupt(self) -> None:
        self._config.stash[INTERRUPTED] = True


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> Broker:
    """The broker of this run. Its address, its version, its management API; nobody restarts it."""
    return request.config.stash[BROKER]


@pytest.fixture(scope="session")
def patience(request: pytest.FixtureRequest) -> float:
    """Seconds after which a test no longer believes that something will come."""
    seconds: float = request.config.getoption("patience")
    return request.config.stash.get(PATIENCE, seconds)


@pytest.fixture
def wait_limit(request: pytest.FixtureRequest, patience: float) -> float:
    """Seconds that one wait may take in this spec: less where another spec of the file has failed already."""
    return min(patience, SHORT) if is_red(request.node) else patience


@pytest.fixture(scope="session")
def vhosts(broker: Broker) -> Iterator[VhostPool]:
    """Makes vhosts ahead of the tests and deletes them behind."""
    if broker.vhost is not None:
        raise NoManagement("vhosts are set")
    pool = VhostPool(broker.management, f"rmqspec-{os.getpid()}-{time.time_ns() // 1_000_000 % 1_000_000}")
    yield pool
    pool.close()


@pytest.fixture
def vhost(request: pytest.FixtureRequest) -> Iterator[str]:
    """A vhost that is this test's alone. A test that leaves a connection open fails here, and no other test does.

    So it is with each connection of ours, and with each ``pika.BlockingConnection`` to this vhost.
    """
    shared = request.config.stash.get(ONE_VHOST, None)
    pool: VhostPool | None = None if shared else request.getfixturevalue("vhosts")
    name = shared.name if shared else pool.take() if pool else ""
    opened = Opened(name)
    with opened.noting():
        yield name
    if pool:
        pool.give_back(name)
    left = open_connections()
    for connection in left:
        hang_up(connection)
    names = [*(connection.name for connection in left), *opened.close()]
    if shared:
        shared.tidy()
    if names and INTERRUPTED not in request.config.stash:
        pytest.fail(f"this test left {len(names)} connection(s) open: {', '.join(names)}", pytrace=False)


@pytest.fixture
def url(broker: Broker, vhost: str, route: Callable[[str], str]) -> str:
    """The AMQP URL of this test's vhost, as production code is given one."""
    return route(broker.endpoint.url(vhost))


@pytest.fixture
def source(url: str, wait_limit: float) -> Settings:
    """This test's vhost for our own clients, which wait for the broker's answers no longer than a test does."""
    return replace(Settings.of(url), answer_timeout=wait_limit, ca=os.environ.get("RABBITMQ_CA"))


@pytest.fixture
def connect(source: Settings, request: pytest.FixtureRequest) -> Iterator[Callable[[], Connection]]:
    """Opens one more connection to this test's vhost, named after the test: `connect()`. It is closed at the end."""
    opened: list[Connection] = []

    def another() -> Connection:
        opened.append(client.connect(source, request.node.nodeid))
        return opened[-1]

    yield another
    for connection in opened:
        if connection.unanswered:
            hang_up(connection)
        elif connection.is_open:
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
def receive(connection: Connection, wait_limit: float) -> Callable[..., list[Delivery]]:
    """Waits for messages that are still to come: `receive("orders", 3)` returns three deliveries, acknowledged."""

    def wait(queue: str, count: int = 1, within: float = wait_limit) -> list[Delivery]:
        __tracebackhide__ = True  # the failing line is the spec's
        channel = connection.channel()
        channel.basic_qos(prefetch_count=count)
        deliveries: list[Delivery] = []
        deadline = time.monotonic() + within
        while len(deliveries) < count:
            left = max(0.0, deadline - time.monotonic())
            method, properties, body = next(channel.consume(queue, inactivity_timeout=left))
            if method is None or properties is None:
                got = [delivery.body for delivery in deliveries]
                pytest.fail(f"{queue!r}: {count} message(s) expected within {within:g} s, came: {got}")
            key = method.routing_key or ""
            deliveries.append(
                Delivery(queue, method.exchange or "", key, bool(method.redelivered), properties, body or b"")
            )
            channel.basic_ack(method.delivery_tag or 0)
        channel.close()
        return deliveries

    return wait


@pytest.fixture
def orders(source: Settings, request: pytest.FixtureRequest) -> Iterator[OrderSystem]:
    """The order system, declared on this test's vhost; `orders.start(…)` runs a service until the test ends."""
    from rmqspec.orders.system import OrderSystem  # who tests consumers of their own starts faster without it

    with OrderSystem(source, request.node.nodeid) as system:
        yield system


@pytest.fixture
def eventually(wait_limit: float) -> Callable[..., None]:
    """The one poll: `eventually(probe, expected)` calls the probe until it returns that, and shows what it last saw."""

    def wait(probe: Callable[[], T], expected: T, within: float = wait_limit) -> None:
        __tracebackhide__ = True
        deadline = time.monotonic() + within
        while (seen := probe()) != expected:
            if time.monotonic() > deadline:
                pytest.fail(f"expected {expected!r} within {within:g} s, last seen: {seen!r}")
            time.sleep(0.01)

    return wait
