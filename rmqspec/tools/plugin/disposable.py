"""Brokers that a module has for itself: they may be configured, stopped and killed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from rmqspec.client import Settings
from rmqspec.tools.broker import Broker, BrokerError, Configuration, NotOurs
from rmqspec.tools.broker.configuration import PLAIN
from rmqspec.tools.plugin.lies import LIAR, has_own_broker
from rmqspec.tools.wire.lies import Lie

Kept = list[tuple[Configuration, Broker]]
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marker."""
    config.addinivalue_line("markers", "own_broker: starts a broker of its own (set by the plugin, for -m)")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what takes seconds because a broker boots: ``-m "not own_broker"`` leaves it out."""
    for item in items:
        if has_own_broker(item):
            item.add_marker("own_broker")


@pytest.fixture(scope="module")
def kept_brokers() -> Iterator[Kept]:
    """Those that wait for the next lie: a boot for each would take hours. Empty in any ordinary run."""
    kept: Kept = []
    yield kept
    for _, one in kept:
        one.close()


@pytest.fixture(scope="module")
def another_broker(
    request: pytest.FixtureRequest, broker: Broker, kept_brokers: Kept, lie: Lie | None
) -> Iterator[Callable[..., Broker]]:
    """Starts one more broker of the same kind, for one module: `another_broker(Configuration(lines=…))`."""
    started: Kept = []
    liar = request.config.stash.get(LIAR, None)

    def start(configuration: Configuration = PLAIN) -> Broker:
        if liar is not None:
            configuration = liar.configured(configuration)
        for index, (its, _) in enumerate(kept_brokers):
            if its == configuration:
                started.append(kept_brokers.pop(index))
                return started[-1][1]
        try:
            started.append((configuration, broker.another(configuration)))
        except NotOurs as reason:
            pytest.skip(f"not run: {reason}")
        except BrokerError as error:
            pytest.fail(f"no disposable broker: {error}", pytrace=False)
        return started[-1][1]

    yield start
    if lie is not None and lie.configure is None:
        kept_brokers += started
        return
    for _, one in started:
        one.close()


@pytest.fixture(scope="module")
def disposable_broker(another_broker: Callable[..., Broker], lie: Lie | None) -> Broker:
    """A second broker of the same kind, for one module: `stop()`, `kill()`, `start()` and `restart()` it.

    It has no management API, which would make each stop five seconds longer; `control(…)` is rabbitmqctl. Only where it
    is lied to it has one: each lie has a vhost of its own.
    """
    return another_broker(Configuration(management=lie is not None))


@pytest.fixture(scope="module")
def disposable_url(disposable_broker: Broker, route: Callable[[str], str], lie: Lie | None) -> Iterator[str]:
    """The AMQP URL of a vhost of the disposable broker; each lie has its own."""
    if lie is None:
        yield route(disposable_broker.endpoint.url())
        return
    name = f"rmqspec-{next(_numbers)}"
    disposable_broker.management.create_vhost(name)
    yield route(disposable_broker.endpoint.url(name))
    disposable_broker.management.delete_vhost(name)


@pytest.fixture(scope="module")
def disposable_source(disposable_url: str, patience: float) -> Settings:
    """The same for our own clients, which wait for the broker's answers no longer than a test does."""
    return replace(Settings.of(disposable_url), answer_timeout=patience)
