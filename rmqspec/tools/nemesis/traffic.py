"""Who publishes and who consumes while things go wrong: with care, or, to test the check, without."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from pika.exceptions import AMQPError

from rmqspec.client import Channel, Consumer, Delivery, Outcome, Publisher, Settings, connect
from rmqspec.client.errors import ClientError, ConnectionLost, OutcomeUnknown, Unreachable, WindowFull
from rmqspec.client.message import Confirmed, persistent
from rmqspec.tools.nemesis.account import Fate, Ledger

__all__ = ["Traffic", "Unfinished", "consume", "consume_carelessly", "errors_of", "produce", "produce_carelessly"]

BACKLOG = 20_000  # confirmed orders that may wait: the end of a run need not take as long as the run
QUIET = 1.0  # seconds without an order after which none is under way any more
PATIENCE = 20.0  # seconds for the last answers


class Unfinished(ClientError):
    """The queue did not become empty, or somebody ended before the time: there is no account to trust."""


class Traffic:
    """What producers and consumers share.

    Args:
        settings: How to connect.
        queue: Where orders go.
        ledger: Where each is noted.
    """

    def __init__(self, settings: Settings, queue: str, ledger: Ledger) -> None:
        self.settings, self.queue, self.ledger = settings, queue, ledger
        self.producing_ends, self.consuming_ends = threading.Event(), threading.Event()
        self.patience = PATIENCE

    def break_off(self) -> None:
        """Ends producers and consumers now: no account is wanted any more."""
        self.patience = 0.0
        self.producing_ends.set()
        self.consuming_ends.set()

    def orders(self, producer: int) -> int | None:
        """The number of the next order, once there is room for it; None when it is enough."""
        while self.ledger.waiting > BACKLOG:
            self.producing_ends.wait(0.01)
            if self.producing_ends.is_set():
                break
        return None if self.producing_ends.is_set() else self.ledger.attempt(producer)


def produce(traffic: Traffic, producer: int) -> None:
    """Publishes with confirms, as fast as the window allows, through whatever happens."""
    settle = traffic.ledger.settle

    def note(number: int, answer: Future[Confirmed]) -> None:
        error = answer.exception()
        if error is None:
            settle(producer, number, Fate.CONFIRMED)
        elif not isinstance(error, OutcomeUnknown):
            settle(producer, number, Fate.REFUSED)

    publisher = Publisher(traffic.settings, f"producer-{producer}", patience=0.5)
    try:
        while (number := traffic.orders(producer)) is not None:
            try:
                sent = publisher.publish("", traffic.queue, b"%d:%d" % (producer, number))
            except WindowFull:
                settle(producer, number, Fate.REFUSED)
            else:
                sent.add_done_callback(partial(note, number))
        publisher.flush(traffic.patience)
    finally:
        publisher.close(0.0)  # what has no answer by now is unknown


def produce_carelessly(traffic: Traffic, producer: int) -> None:
    """Publishes without confirms: what is written to the socket counts as arrived."""

    def publish(channel: Channel) -> None:
        while (number := traffic.orders(producer)) is not None:
            channel.basic_publish("", traffic.queue, b"%d:%d" % (producer, number), persistent())
            traffic.ledger.settle(producer, number, Fate.CONFIRMED)

    _again_and_again(traffic, f"careless-producer-{producer}", traffic.producing_ends, publish)


def consume(traffic: Traffic, consumer: int) -> None:
    """Acknowledges each order after it is noted."""

    def handler(delivery: Delivery) -> Outcome:
        traffic.ledger.receive(delivery.body)
        return Outcome.ACK

    service = Consumer(
        traffic.settings, traffic.queue, handler, prefetch=200, ack_batch=20, name=f"consumer-{consumer}"
    )

    def end() -> None:
        traffic.consuming_ends.wait()
        service.stop()

    ender = threading.Thread(target=end)
    ender.start()
    try:
        service.run()
    finally:
        traffic.consuming_ends.set()
        ender.join()


def consume_carelessly(traffic: Traffic, consumer: int) -> None:
    """Takes orders with automatic acknowledgement: what the broker has written to the socket counts as done."""
    came = threading.Event()

    def note(*order: Any) -> None:
        traffic.ledger.receive(order[3])
        came.set()

    def take(channel: Channel) -> None:
        channel.basic_consume(traffic.queue, note, auto_ack=True)
        # A cancel would not do for a good end: pika drops what comes between it and its answer, as if nobody had it.
        while came.is_set() or not traffic.consuming_ends.is_set():
            came.clear()
            channel.connection.process_data_events(time_limit=QUIET)

    _again_and_again(traffic, f"careless-consumer-{consumer}", traffic.consuming_ends, take)


def _again_and_again(traffic: Traffic, name: str, end: threading.Event, work: Callable[[Channel], None]) -> None:
    while not end.is_set():
        try:
            connection = connect(traffic.settings, name)
        except (Unreachable, ConnectionLost):
            end.wait(0.1)
            continue
        with suppress(AMQPError):  # the connection is lost: on with the next
            work(connection.channel())
        with suppress(AMQPError):
            connection.close()


def errors_of(work: Callable[[], None], errors: list[BaseException]) -> None:
    """Runs a part of the traffic in its thread; what ends it before its time is kept."""
    try:
        work()
    except Exception as error:  # also a defect of ours: an account without it would look sound
        errors.append(error)
