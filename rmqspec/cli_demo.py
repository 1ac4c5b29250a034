"""The demo, and its parts one by one."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import click

from rmqspec import terminal
from rmqspec.broker import Choice, Endpoint, find, rabbitup
from rmqspec.broker.endpoint import greet
from rmqspec.cli_settings import broker_option, image_option, settings, url_option
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
@url_option
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
    url: str | None,
    source: str,
    image: str,
) -> None:
    plan = demo.Plan(orders, workers, Failures(failure_rate, seed), work_time)
    with _broker_for_a_run(url, source, image) as (address, description):
        terminal.scene(f"The order system on {description}")
        terminal.summary(demo.run(address, plan, terminal.voice, terminal.scene))


@contextlib.contextmanager
def _broker_for_a_run(url: str | None, source: str, image: str) -> Iterator[tuple[str, str]]:
    standing = None if url or source != "auto" else rabbitup.current()
    if standing:
        yield standing.endpoint.url(), f"{standing.identity()}, started by rabbitup"
        return
    if url:
        connect(url, "rmqspec demo").close()  # says in one sentence what is wrong with it, before anything else is said
        yield url, f"{greet(Endpoint.parse(url))}, named by its URL"
        return
    with _sigterm_as_interrupt():
        broker = find(Choice.settle({"broker": source, "image": image}, os.environ), terminal.progress)
        terminal.progress("")
        try:
            yield broker.endpoint.url(), f"{broker.identity}, {broker.description}"
        finally:
            broker.close()


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
@url_option
def worker(name: str, failure_rate: float, seed: int, work_time: float, path: str, url: str | None) -> None:
    """Work on orders, one at a time.

    ID tells several workers apart. Ctrl-C or SIGTERM finishes the order in hand and acknowledges it first. With an
    --inbox an order that comes twice is done once, also after a restart and by several workers.
    """
    name = f"worker-{name}" if name.isdigit() else name
    failures, inbox = Failures(failure_rate, seed), Inbox(path)
    _serve(url, name, lambda source: Worker(source, name, failures, work_time, inbox, terminal.voice(name)))


@demo_group.command()
@url_option
def notification(url: str | None) -> None:
    """Tell customers of completed orders (fanout)."""
    _serve(url, "notification", lambda source: Notification(source, say=terminal.voice("notification")))


@demo_group.command()
@url_option
def analytics(url: str | None) -> None:
    """Add up completed orders (fanout); the totals are printed after each."""
    _serve(url, "analytics", lambda source: Analytics(source, say=terminal.voice("analytics")))


@demo_group.command()
@url_option
def logs(url: str | None) -> None:
    """Print whatever happens to orders (topic, order.#)."""
    _serve(url, "logs", lambda source: LogConsumer(source, say=terminal.voice("logs")))


@demo_group.command("rpc-server")
@url_option
def rpc_server(url: str | None) -> None:
    """Answer how many of a thing there are (RPC)."""
    _serve(url, "inventory", lambda source: InventoryServer(source, say=terminal.voice("inventory")))


@demo_group.command("rpc-client")
@click.argument("skus", metavar="[ITEM]...", nargs=-1)
@click.option("--timeout", type=click.FloatRange(min=0), default=5.0, show_default=True, help="Seconds for each call.")
@url_option
def rpc_client(skus: tuple[str, ...], timeout: float, url: str | None) -> None:
    """Ask the inventory for items, and wait for each answer.

    Without an ITEM it asks for a keyboard. Exit code 1 if an answer is missing.
    """
    say, missing = terminal.voice("rpc-client"), 0
    with RpcClient(settings(url), "rmqspec rpc-client", timeout) as client:
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
@url_option
def produce(orders: int, source: BinaryIO | None, seed: int, url: str | None) -> None:
    r"""Publish orders, sample ones or those of a file.

    \b
    A line of a file:
    {"order_id": "A1", "customer": "Ada", "items": [{"sku": "mouse", "quantity": 2, "unit_price_cents": 2450}]}

    A line that is no order is reported with its number; the others are published all the same, and the exit code is 1.
    """
    wrong = 0
    with contextlib.closing(Producer(settings(url), terminal.voice("producer"), "rmqspec producer")) as producer:
        for order in read_orders(source) if source else sample_orders(orders, seed):
            if isinstance(order, InvalidMessage):
                terminal.notice(f"rmqspec: {order}")
                wrong += 1
            else:
                producer.publish(order)
    terminal.notice(f"{producer.published} orders published and confirmed" + (f", {wrong} refused" if wrong else ""))
    sys.exit(1 if wrong else 0)


def _serve(url: str | None, name: str, make: Callable[[Settings], Service]) -> None:
    service = make(settings(url))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: service.stop())
    terminal.voice(name)("is ready; Ctrl-C ends it after the message in hand")
    service.run()
    terminal.voice(name)("has stopped; nothing was left half done")
