"""The parts of the demo, one by one: each is a program of its own, for a terminal of its own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import click

from rmqspec.cli import terminal
from rmqspec.cli.options import Finite, SectionedCommand, Whole, seconds
from rmqspec.cli.settings import Where, connection_options
from rmqspec.cli.signals import on_signals
from rmqspec.client import RpcClient, Settings
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
    read_orders,
    retry_ladder,
    sample_orders,
    stock_of,
)
from rmqspec.orders.inventory import query
from rmqspec.orders.messages import counted
from rmqspec.orders.producer import new_run
from rmqspec.orders.service import Service, harmless

__all__ = ["PARTS", "rate_option", "seed_option", "work_time_option"]

Decorated = Callable[..., Any]

seed_option = click.option(
    "--seed", type=int, default=0, show_default=True,
    help="Chooses the sample orders and which of them fail; the same seed repeats a run.",
)  # fmt: skip
rate_option = click.option(
    "--failure-rate", type=Finite(0, 1), default=0.1, show_default=True,
    help="The share of orders that fail, to show what happens then.",
)  # fmt: skip


def delays(context: click.Context, option: click.Parameter, words: str | None) -> tuple[float, ...]:
    """Reads times that a queue can wait, with commas between: from a millisecond to what fits into 32 bits of them."""
    number = Finite(0.001, 4_294_967)
    return tuple(number(word, option, context) for word in words.split(",")) if words else ()


def work_time_option(default: float) -> Decorated:
    """How long an order takes."""
    return click.option(
        "--work-time", type=seconds(), default=default, show_default=True, metavar="SECONDS",
        help="How long an order takes.",
    )  # fmt: skip


inbox_option = click.option(
    "--inbox", "path", default=":memory:", metavar="FILE",
    help="Remembers for a week what is done, so that a message that is delivered twice is handled once, also after a "
    "restart and by several processes with the same file. Default: in memory, until this process ends.",
)  # fmt: skip


@click.command(cls=SectionedCommand)
@click.argument("name", metavar="[ID]", default="W1")
@rate_option
@seed_option
@work_time_option(0.5)
@inbox_option
@click.option(
    "--retry", "delays", callback=delays, metavar="SECONDS,…",
    help="Tries an order that fails again, after each of these pauses, as in 1,10,60; then it goes to orders.failed. "
    "A broker that is killed may lose an order on its way back from a pause. Default: it goes there at its first "
    "failure.",
)  # fmt: skip
@click.option(
    "--prefetch",
    type=Whole(1, 65_535),
    default=1,
    show_default=True,
    metavar="N",
    help="How many unacked orders it may have. More than one, and those behind a slow one wait for it.",
)
@connection_options()
def worker(
    name: str,
    failure_rate: float,
    seed: int,
    work_time: float,
    path: str,
    delays: tuple[float, ...],
    prefetch: int,
    where: Where,
) -> None:
    """Work on orders, one at a time.

    ID tells several workers apart: W1, W2, or just 2. Ctrl-C or SIGTERM finishes the order at work and acknowledges it
    first; Ctrl-C again gives it back at once, and another worker gets it, redelivered.

    With an --inbox on a local disk, workers of one machine do each order once: an order that another worker has begun
    is requeued until that worker has finished it or has been gone for ten seconds. An order is worked on again if a
    worker is killed between its last step and the note of it, or is suspended for longer than that. Its events then
    have the same message id, so notification and analytics with an --inbox of theirs are not misled. Orders without a
    message id are not remembered.
    """
    name = f"W{name}" if name.isdigit() else name
    failures, inbox, say = Failures(failure_rate, seed), Inbox(path), terminal.voice(name)
    retry = retry_ladder(*delays) if delays else None
    _serve(where, name, lambda source: Worker(source, name, failures, work_time, inbox, say, retry, prefetch=prefetch))


@click.command(cls=SectionedCommand)
@inbox_option
@connection_options()
def notification(path: str, where: Where) -> None:
    """Notify customers of completed orders (fanout).

    With an --inbox each customer is notified once, unless the process is killed between the notification and its note.
    The file may be the one of the workers.
    """
    inbox, say = Inbox(path), terminal.voice("notification")
    _serve(where, "notification", lambda source: Notification(source, say=say, inbox=inbox))


@click.command(cls=SectionedCommand, short_help="Add up completed orders (fanout).")
@inbox_option
@connection_options()
def analytics(path: str, where: Where) -> None:
    """Add up completed orders (fanout); the totals are printed after each.

    The totals are those since this process has started. With an --inbox each completion is counted once, so
    what an earlier process has counted is not counted again.
    """
    inbox, say = Inbox(path), terminal.voice("analytics")
    _serve(where, "analytics", lambda source: Analytics(source, say=say, inbox=inbox))


@click.command(cls=SectionedCommand)
@connection_options()
def logs(where: Where) -> None:
    """Print whatever happens to orders (topic, order.#)."""
    _serve(where, "logs", lambda source: LogConsumer(source, say=terminal.voice("logs")))


@click.command("rpc-server", cls=SectionedCommand)
@connection_options()
def rpc_server(where: Where) -> None:
    """Answer how many of a thing there are (RPC)."""
    _serve(where, "inventory", lambda source: InventoryServer(source, say=terminal.voice("inventory")))


@click.command("rpc-client", cls=SectionedCommand)
@click.argument("skus", metavar="[ITEM]...", nargs=-1)
@click.option("--timeout", type=seconds(), default=5.0, show_default=True, help="Seconds for each call.")
@connection_options(without="timeout")
def rpc_client(skus: tuple[str, ...], timeout: float, where: Where) -> None:
    """Ask the inventory for items, and wait for each answer.

    Without an ITEM it asks for a keyboard. Exit code 1 if an answer is missing.
    """
    say, missing = terminal.voice("rpc-client"), 0
    for sku in skus:
        try:
            query(sku)
        except InvalidMessage as error:
            raise click.BadParameter(f"{sku!r} can be no item: {error}") from error
    with RpcClient(where.settings(), "rmqspec rpc-client", timeout) as client:
        say(f"waits for replies at reply_to {client.reply_to}")
        for sku in skus or ("keyboard",):
            try:
                stock_of(client, sku, say=say)
            except ClientError as error:
                say(f"{sku}: {error}")
                missing += 1
    sys.exit(1 if missing else 0)


@click.command(cls=SectionedCommand)
@click.option("--orders", type=Whole(min=1), default=10, show_default=True, help="How many sample orders.")
@click.option("--file", "source", type=click.File("rb"), help="Orders as JSON Lines instead; - for standard input.")
@seed_option
@connection_options()
def produce(orders: int, source: BinaryIO | None, seed: int, where: Where) -> None:
    """Publish orders, sample ones or those of a file.

    \b
    A line of a file:
    {"order_id": "A1", "customer": "Ada", "items": [{"sku": "mouse", "quantity": 2, "unit_price_cents": 2450}]}

    A line that is no order is reported with its number; the others are published all the same, and the exit code is 1.
    """  # noqa: D301  (click knows by the backspace what not to wrap)
    wrong, ended = 0, False
    producer = Producer(where.settings(), terminal.voice("producer"), "rmqspec producer")
    try:
        for order in read_orders(source) if source else sample_orders(orders, seed, new_run()):
            if isinstance(order, InvalidMessage):
                terminal.notice(f"rmqspec: {order}")
                wrong += 1
            else:
                producer.publish(order)
    except KeyboardInterrupt:
        ended = True
    finally:
        producer.close(0.0)  # each was waited for, but for one that a person has given up
    refused, cut = (f", {wrong} refused" if wrong else ""), (", ended by Ctrl-C" if ended else "")
    terminal.notice(f"{counted(producer.published, 'order')} published and confirmed{refused}{cut}")
    sys.exit(130 if ended else 1 if wrong else 0)


def _serve(where: Where, name: str, make: Callable[[Settings], Service]) -> None:
    service, say = make(where.settings()), harmless(terminal.voice(name))

    def stop() -> None:
        at_work = service.at_work
        say(f"finishing {at_work}; again gives it back" if at_work else "stopping; again ends at once")
        service.stop()

    def give_up() -> None:
        at_work = service.at_work
        say(f"gives {at_work} back, and ends" if at_work else "ends")
        service.give_up()
        os._exit(128 + signal.SIGINT)  # the broker sees the connections end, and requeues what was not acknowledged

    with on_signals(stop, give_up):
        say(f"is ready, pid {os.getpid()}; Ctrl-C ends it after the message at work")
        service.run()
    say("has stopped; nothing was left half done")


PARTS = (worker, notification, analytics, logs, rpc_server, rpc_client, produce)
