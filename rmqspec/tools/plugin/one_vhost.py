"""A broker of which nothing but its AMQP URL is known: all tests use the URL's vhost, with random names.

Specs call their queues ``orders`` and ``work``, and make them in a vhost of their own. Where no management API was
named nobody can make one. So a proxy stands next to the broker and gives all names of a test a random word in front
(``wire/names.py``). Nothing of a test meets what others have in the vhost, nor what an earlier test has left there;
there are brokers that cannot delete an exchange. What a test has declared is deleted over AMQP behind it, as far as
the broker does that.

The names of ``amq.fanout`` and its like cannot be changed, so two tests that use them would still get each other's
messages: tests take turns. The lock holds between the workers of pytest-xdist, and between two runs on one machine.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from pika.exceptions import AMQPError, ChannelClosedByBroker

from rmqspec.client import Connection, Settings, connect
from rmqspec.client.connection import hang_up
from rmqspec.client.errors import ClientError, Unanswered
from rmqspec.tools.broker import Broker, NoManagement, NotOurs
from rmqspec.tools.plugin.broker import BROKER
from rmqspec.tools.wire.names import RandomNames
from rmqspec.tools.wire.proxy import Proxy

__all__ = ["ONE_VHOST", "OneVhost"]

Thing = tuple[str, str]  # "queue" or "exchange", and its name
ANSWER = 2.0  # seconds that the broker has to open a connection, and to declare or delete something
BUSY = 5.0  # seconds after which a queue that is exclusive to a connection has gone with it


class OneVhost:
    """The vhost that tests share.

    Args:
        broker: Its ``vhost`` is the one.

    Attributes:
        name: Its name.
        left: What the broker has not deleted, by kind ("queue", "exchange"): the reason of the first of them.
    """

    def __init__(self, broker: Broker) -> None:
        self.name = broker.vhost or "/"
        self.left: dict[str, str] = {}
        self._unanswered: set[str] = set()  # kinds of which a deletion was not answered
        settings = Settings.of(broker.endpoint.url(self.name))
        self._where = replace(settings, timeout=ANSWER, answer_timeout=ANSWER, heartbeat=0)
        self._names = RandomNames()
        place = f"{broker.endpoint.host}:{broker.endpoint.port}/{self.name}".encode()
        user = getattr(os, "getuid", int)()
        self._lock = Path(tempfile.gettempdir(), f"rmqspec-{user}-{hashlib.sha256(place).hexdigest()[:16]}.lock")

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits until no other test has the vhost; from then on names are others than before."""
        with FileLock(self._lock):
            self._names = RandomNames()
            yield

    def stand_in(self, proxy: Proxy) -> None:
        """Changes the names on connections that come through a proxy from now on."""
        proxy.taps = lambda _, direction: self._names.tap(direction)

    def tidy(self) -> None:
        """Deletes what the test has declared, as far as the broker does that. What stays is noted in ``left``."""
        things = [thing for thing in self._names.declared if thing[0] not in self._unanswered]
        deadline = time.monotonic() + BUSY
        while things := self._delete(things):
            if time.monotonic() > deadline:
                self._leave(things, "locked by a connection that is no more")
                return
            time.sleep(0.02)

    def is_alive(self) -> bool:
        """Whether the broker still declares a queue; one that has stopped in the middle greets, and no more."""
        try:
            connection = connect(self._where, "rmqspec, between tests")
            connection.channel().queue_declare(RandomNames().prefix + "alive", exclusive=True)
            connection.close()
        except (AMQPError, ClientError):
            return False
        return True

    def is_another(self) -> None:
        """The broker has been started again: what it did not answer before it may answer now."""
        self._unanswered.clear()

    def _delete(self, things: list[Thing]) -> list[Thing]:
        """Returns those that are locked: a queue that is exclusive to a connection goes with it, a moment later."""
        locked: list[Thing] = []
        connection: Connection | None = None
        for kind, name in things:
            if kind in self._unanswered:
                continue
            try:
                if connection is None or not connection.is_open:
                    connection = connect(self._where, "rmqspec, between tests")
                channel = connection.channel()  # of its own: a refusal closes it
                (channel.queue_delete if kind == "queue" else channel.exchange_delete)(name)
                channel.close()
            except ChannelClosedByBroker as error:
                if error.reply_code == 405:
                    locked.append((kind, name))
                elif error.reply_code != 404:
                    self._leave([(kind, name)], error.reply_text)
            except (AMQPError, ClientError) as error:
                if connection is not None:
                    hang_up(connection)  # it is over, also where it does not know that yet
                connection = None
                if isinstance(error, Unanswered):
                    self._unanswered.add(kind)  # nobody waits for that after each test
                self._leave([(kind, name)], str(error) or repr(error))
        if connection is not None and connection.is_open:
            connection.close()
        return locked

    def _leave(self, things: list[Thing], why: str) -> None:
        for kind, _ in things:
            self.left.setdefault(kind, why)


ONE_VHOST = pytest.StashKey[OneVhost]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Stands by, if the broker of this run has one vhost for all."""
    broker = session.config.stash.get(BROKER, None)
    if broker is not None and broker.vhost is not None:
        session.config.stash[ONE_VHOST] = OneVhost(broker)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """One test at a time. The wait is none of the test's: its time-out (pytest-timeout) begins behind it."""
    if ONE_VHOST not in item.config.stash:
        return (yield)
    with item.config.stash[ONE_VHOST].turn():
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    """What a fixture needs and the broker does not give."""
    with _not_run():
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """What a spec needs and the broker does not give."""
    with _not_run():
        return (yield)


@contextmanager
def _not_run() -> Iterator[None]:
    """A spec that cannot be asked of this broker is no failure of it, and says what is missing."""
    try:
        yield
    except (NoManagement, NotOurs) as reason:
        pytest.skip(f"not run: {reason}")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Says what stays in somebody else's vhost."""
    if ONE_VHOST in config.stash:
        for kind, why in config.stash[ONE_VHOST].left.items():
            terminalreporter.write_line(f"left in the vhost: {kind}s with random names, because {why}")
