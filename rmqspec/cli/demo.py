"""The demo, in one terminal."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from rmqspec.cli import terminal
from rmqspec.cli.demo_book import Album
from rmqspec.cli.demo_parts import PARTS, rate_option, seed_option, work_time_option
from rmqspec.cli.options import FileToWrite, SectionedGroup, Whole
from rmqspec.cli.settings import Where, broker_option, connection_options, image_option
from rmqspec.client import Settings, connect
from rmqspec.orders import Failures, demo
from rmqspec.tools.broker import Choice, Identity, find, rabbitup

__all__ = ["demo_group"]


@click.group("demo", cls=SectionedGroup, invoke_without_command=True)
@click.option("--orders", type=Whole(min=1), default=20, show_default=True, help="How many orders.")
@click.option("--workers", type=Whole(1, 100), default=3, show_default=True, help="How many workers.")
@rate_option
@seed_option
@work_time_option(0.05)
@click.option(
    "--book", type=FileToWrite(), metavar="FILE",
    help="Writes what went over the wire, scene by scene, as one HTML file.",
)  # fmt: skip
@connection_options()
@broker_option
@image_option
@click.pass_context
def demo_group(context: click.Context, /, **options: Any) -> None:
    """The whole order system in one terminal, or one of its parts.

    Without a part: declares the topology, asks the inventory by RPC, starts workers, notification, analytics and
    logs, publishes orders, and ends with a table of what went through each exchange and queue. Uses the broker that
    is named, or the one of `rabbitup`, or starts one for this run and removes it at the end.
    """
    if context.invoked_subcommand is None:
        _whole_demo(**options)
        return
    given = [
        parameter.opts[0]
        for parameter in demo_group.params
        if parameter.name and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        part, before = context.invoked_subcommand, ", ".join(given)
        raise click.UsageError(
            f"before {part} nobody would look at {before}: rmqspec demo {part} --help has what it takes"
        )


for part in PARTS:
    demo_group.add_command(part)


def _whole_demo(
    orders: int,
    workers: int,
    failure_rate: float,
    seed: int,
    work_time: float,
    where: Where,
    source: str,
    image: str,
    book: Path | None,
) -> None:
    plan = demo.Plan(orders, workers, Failures(failure_rate, seed), work_time)
    with _broker_for_a_run(where, source, image) as (settings, description):
        terminal.scene(f"The order system on {description}")
        if book is None:
            terminal.summary(demo.run(settings, plan, terminal.voice, terminal.scene))
        else:
            _recorded_demo(settings, plan, book, description)


def _recorded_demo(settings: Settings, plan: demo.Plan, path: Path, description: str) -> None:
    album = Album(path)
    with album.on_the_way(settings) as through:
        terminal.summary(demo.run(through, plan, terminal.voice, album.scene))
    album.write(_identity(settings), description)


@contextlib.contextmanager
def _broker_for_a_run(where: Where, source: str, image: str) -> Iterator[tuple[Settings, str]]:
    standing = None if where.url or source != "auto" else rabbitup.current()
    if where.url or standing:
        settings = where.settings()
        yield settings, f"{_identity(settings)}, {'started by rabbitup' if standing else 'named by its URL'}"
        return
    with _sigterm_as_interrupt():
        broker = find(Choice.settle({"broker": source, "image": image}, os.environ), terminal.progress)
        terminal.progress("")
        terminal.passed_over(broker.passed_over)
        try:
            settings = replace(where, url=broker.endpoint.url()).settings()
            yield settings, f"{broker.identity}, {broker.description}"
        finally:
            broker.close()


def _identity(settings: Settings) -> Identity:
    """What the broker announces; or what is wrong with it, in one sentence before anything else is said."""
    with contextlib.closing(connect(settings, "rmqspec demo")) as connection:
        said = connection._impl.server_properties  # type: ignore[attr-defined]  # pika has no public way to it
        return Identity(*(str(said.get(name, "unknown")) for name in ("product", "version", "platform")))


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """A broker that was started for this run is removed on SIGTERM too."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
