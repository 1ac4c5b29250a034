"""The demo, and its parts one by one."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import click

from rmqspec import terminal
from rmqspec.broker import Choice, Identity, find, rabbitup
from rmqspec.cli_demo_book import Album
from rmqspec.cli_settings import Where, broker_option, connection_options, image_option
from rmqspec.cli_signals import on_signals
from rmqspec.client import RpcClient, Settings, connect
from rmqspec.client.errors import ClientError
from rmqspec.orders import (
    Analytics,
    Failures,
    Inbox,
    InvalidMessage,
    InventoryServer,
    LogConsumer,
    Notification,
    Producer,
    Worker,
    demo,
    read_orders,
    retry_ladder,
    sample_orders,
    stock_of,
)
from rmqspec.orders.service import Service

__all__ = ["demo_group"]

Decorated = Callable[..., Any]

seed_option = click.option(
    "--seed", type=int, default=0, show_default=True,
    help="Chooses the sample orders and which of them fail; the same seed repeats a run.",
)  # fmt: skip
rate_option = click.option(
    "--failure-rate", type=click.FloatRange(0, 1), default=0.1, show_default=True,
    help="The share of orders that fail, for the sake of the lesson.",
)  # fmt: skip


def seconds(context: click.Context, option: click.Parameter, words: str | None) -> tuple[float, ...]:
    """Reads times that a queue can wait, with commas between: from a millisecond to what fits into 32 bits of them."""
    number = click.FloatRange(0.001, 4_294_967)
    return tuple(number(word, option, context) for word in words.split(",")) if words else ()


def work_time_option(default: float) -> Decorated:
    """How long an order takes."""
    return click.option(
        "--work-time", type=click.FloatRange(min=0), default=default, show_default=True, metavar="SECONDS",
        help="How long an order takes.",
    )  # fmt: skip


@click.group("demo", invoke_without_command=True)
@click.option("--orders", type=click.IntRange(min=1), default=20, show_default=True, help="How many orders.")
@click.option("--workers", type=click.IntRange(min=1), default=3, show_default=True, help="How many workers.")
@rate_option
@seed_option
@work_time_option(0.05)
@click.option(
    "--book", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
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


@demo_group.command()
@click.argument("name", metavar="[ID]", default="1")
@rate_option
@seed_option
@work_time_option(0.5)
@click.option(
    "--inbox", "path", default=":memory:", metavar="FILE", help="Keeps what is done, so that it is done once."
)
@click.option(
    "--retry", "delays", callback=seconds, metavar="SECONDS,…",
    help="Tries an order that fails again, after each of these pauses, as in 1,10,60; then it goes to orders.failed. "
    "Default: it goes there at its first failure.",
)  # fmt: skip
@connection_options()
def worker(
    name: str, failure_rate: float, seed: int, work_time: float, path: str, delays: tuple[float, ...], where: Where
) -> None:
    """Work on orders, one at a time.

    ID tells several workers apart. Ctrl-C or SIGTERM finishes the order in hand and acknowledges it first. With an
    --inbox an order that comes twice is done once, also after a restart and by several workers.
    """
    name = f"worker-{name}" if name.isdigit() else name
    failures, inbox, say = Failures(failure_rate, seed), Inbox(path), terminal.voice(name)
    retry = retry_ladder(*delays) if delays else None
    _serve(where, name, lambda source: Worker(source, name, failures, work_time, inbox, say, retry))


@demo_group.command()
@connection_options()
def notification(where: Where) -> None:
    """Tell customers of completed orders (fanout)."""
    _serve(where, "notification", lambda source: Notification(source, say=terminal.voice("notification")))


@demo_group.command()
@connection_options()
def analytics(where: Where) -> None:
    """Add up completed orders (fanout); the totals are printed after each."""
    _serve(where, "analytics", lambda source: Analytics(source, say=terminal.voice("analytics")))


@demo_group.command()
@connection_options()
def logs(where: Where) -> None:
    """Print whatever happens to orders (topic, order.#)."""
    _serve(where, "logs", lambda source: LogConsumer(source, say=terminal.voice("logs")))


@demo_group.command("rpc-server")
@connection_options()
def rpc_server(where: Where) -> None:
    """Answer how many of a thing there are (RPC)."""
    _serve(where, "inventory", lambda source: InventoryServer(source, say=terminal.voice("inventory")))


@demo_group.command("rpc-client")
@click.argument("skus", metavar="[ITEM]...", nargs=-1)
@click.option("--timeout", type=click.FloatRange(min=0), default=5.0, show_default=True, help="Seconds for each call.")
@connection_options(without="timeout")
def rpc_client(skus: tuple[str, ...], timeout: float, where: Where) -> None:
    """Ask the inventory for items, and wait for each answer.

    Without an ITEM it asks for a keyboard. Exit code 1 if an answer is missing.
    """
    say, missing = terminal.voice("rpc-client"), 0
    with RpcClient(where.settings(), "rmqspec rpc-client", timeout) as client:
        for sku in skus or ("keyboard",):
            try:
                say(f"{sku}: {stock_of(client, sku)} in stock")
            except ClientError as error:
                say(f"{sku}: {error}")
                missing += 1
    sys.exit(1 if missing else 0)


@demo_group.command()
@click.option("--orders", type=click.IntRange(min=1), default=10, show_default=True, help="How many sample orders.")
@click.option("--file", "source", type=click.File("rb"), help="Orders as JSON Lines instead; - for standard input.")
@seed_option
@connection_options()
def produce(orders: int, source: BinaryIO | None, seed: int, where: Where) -> None:
    r"""Publish orders, sample ones or those of a file.

    \b
    A line of a file:
    {"order_id": "A1", "customer": "Ada", "items": [{"sku": "mouse", "quantity": 2, "unit_price_cents": 2450}]}

    A line that is no order is reported with its number; the others are published all the same, and the exit code is 1.
    """
    wrong = 0
    with contextlib.closing(Producer(where.settings(), terminal.voice("producer"), "rmqspec producer")) as producer:
        for order in read_orders(source) if source else sample_orders(orders, seed):
            if isinstance(order, InvalidMessage):
                terminal.notice(f"rmqspec: {order}")
                wrong += 1
            else:
                producer.publish(order)
    terminal.notice(f"{producer.published} orders published and confirmed" + (f", {wrong} refused" if wrong else ""))
    sys.exit(1 if wrong else 0)


def _serve(where: Where, name: str, make: Callable[[Settings], Service]) -> None:
    service = make(where.settings())
    with on_signals(service.stop):
        terminal.voice(name)("is ready; Ctrl-C ends it after the message in hand")
        service.run()
    terminal.voice(name)("has stopped; nothing was left half done")
