"""The broker of a run: its options, how it is found, and which specs its version runs."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from rmqspec.tools.broker import SETTINGS, SOURCES, Broker, BrokerError, Choice, find
from rmqspec.tools.broker.shared import SharedBroker
from rmqspec.tools.plugin.words import not_empty

BROKER = pytest.StashKey[Broker]()
CHOICE = pytest.StashKey[Choice]()
LIKE = pytest.StashKey[tuple[int, ...]]()

HELP = {
    "broker": f"where the broker comes from: auto (the first that can of {', '.join(SOURCES)}), or one of them",
    "url": "use this broker: amqp://user:password@host:port/vhost",
    "management_url": "where its management API is; without it all tests use the URL's vhost, with random names",
    "image": "the container image",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Each setting as an option and in the ini file; the environment stands between them."""
    group = parser.getgroup("rabbitmq", "RabbitMQ (rmqspec)")
    for name, (variable, default) in SETTINGS.items():
        words = f"{HELP[name]}; environment: {variable}, default: {default or 'none'}"
        group.addoption(f"--rabbitmq-{name.replace('_', '-')}", dest=f"rabbitmq_{name}", help=words)
        parser.addini(f"rabbitmq_{name}", HELP[name], default="")
    words = (
        "run the specs that are meant for this version of RabbitMQ, such as 4.3 (which is 4.3.0), whatever version the "
        "broker announces: for a broker that is compatible with it"
    )
    group.addoption("--like", metavar="VERSION", type=not_empty, help=words)


def pytest_configure(config: pytest.Config) -> None:
    """Declares the markers."""
    config.addinivalue_line("markers", "behaviour(*ids): the promises of the catalogue that this spec holds")
    config.addinivalue_line(
        "markers", "rabbitmq(since=None, before=None): the versions in which this is so, as in since='4.0'"
    )
    if like := config.getoption("like"):
        if not re.fullmatch(r"\d+\.\d+(\.\d+)?", like):
            raise pytest.UsageError(f"--like {like}: a version of RabbitMQ is wanted, such as 4.3 or 4.3.1")
        config.stash[LIKE] = (*_release(like), 0)[:3]


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
        try:
            config.stash[CHOICE] = Choice.settle(given, os.environ, ini)
            config.stash[BROKER] = find(config.stash[CHOICE], _Progress(config))
        except BrokerError as error:
            raise pytest.UsageError(str(error)) from error


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What broker, which version, from where, and who chose."""
    if CHOICE not in config.stash or BROKER not in config.stash:
        return []
    broker, choice = config.stash[BROKER], config.stash[CHOICE]
    where = f"{broker.endpoint.host}:{broker.endpoint.port}"
    lines = [f"broker: {broker.identity} at {where}, {broker.description} ({choice.origin})"]
    if LIKE in config.stash:
        lines.append(f"read as RabbitMQ {config.getoption('like')} (--like)")
    if broker.vhost is not None:
        lines.append(
            f"vhost: {broker.vhost}, for all tests in turn, with random names: no --rabbitmq-management-url was given"
        )
    if passed_over := [one for one in broker.passed_over if not one.startswith("url ")]:
        lines.append(f"passed over: {'; '.join(passed_over)}")
    return lines


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
        identity, like = item.config.stash[BROKER].identity, item.config.stash.get(LIKE, None)
        release = like or identity.release
        this = f"read as {item.config.getoption('like')}" if like else identity.version
        since, before = marker.kwargs.get("since"), marker.kwargs.get("before")
        if since and release < _release(since):
            pytest.skip(f"not in this version: since RabbitMQ {since}, this is {this}")
        if before and release >= _release(before):
            pytest.skip(f"not in this version: before RabbitMQ {before}, this is {this}")


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
