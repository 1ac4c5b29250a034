"""Who publishes and who consumes on one queue while things go wrong: with care, or, to test the check, without."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from pika.exceptions import AMQPError

from rmqspec.client import Channel, Confirmed, Consumer, Delivery, Outcome, Publisher, connect, persistent
from rmqspec.client.errors import ClientError, ConnectionLost, OutcomeUnknown, Unreachable, WindowFull
from rmqspec.tools.nemesis.account import Fate
from rmqspec.tools.nemesis.participants import Participant, Service
from rmqspec.tools.nemesis.shared import RAW, Shared

__all__ = ["CONCURRENCIES", "PREFETCH", "Publishing", "consumer", "producer"]

BACKLOG = 2_000  # orders of one producer that may wait: the end of a run need not take as long as the run
PREFETCH = 20
CONCURRENCIES = (1, 4, 8)  # of the first consumer, the second, the third, and so on from the beginning
QUIET = 1.0  # seconds without an order after which none is under way any more
PATIENCE = 20.0  # seconds for the last answers


class Publishing:
    """Publishes as long as it runs. A subclass says what.

    Args:
        shared: What all share.
        who: Whose steps these are.
        backlog: Orders that may wait, for their confirm or for somebody who handles them.
    """

    def __init__(self, shared: Shared, who: Participant, backlog: int = BACKLOG) -> None:
        self.shared, self.who, self._backlog = shared, who, backlog
        self.account, self.ending = shared.accounts[who.name], threading.Event()

    def stop(self) -> None:
        """Ends ``run`` after the last answers."""
        self.ending.set()

    def orders(self) -> int | None:
        """The number of the next order, once there is room for it; None when it is enough."""
        while self._waiting > self._backlog and not self.ending.wait(0.01):
            self.who.step()  # those who consume do not keep up; confirms that do not come are another matter
        return None if self.ending.is_set() else self.shared.ledger.attempt(self.account)

    @property
    def _waiting(self) -> int:
        return self.shared.ledger.waiting(self.account) + len(self.who.publishes)

    def note(self, number: int, publish: Callable[[], Future[Confirmed]]) -> None:
        """Publishes an order and has its outcome noted.

        Raises:
            ClientError: It was not sent, and none will be any more.
        """
        self.who.publishes[number] = time.monotonic()
        try:
            sent = publish()
        except ClientError as error:
            self.who.publishes.pop(number)
            self.settle(number, Fate.REFUSED)
            if not isinstance(error, WindowFull):
                raise
        else:
            sent.add_done_callback(partial(self._answered, number))

    def settle(self, number: int, fate: Fate) -> None:
        """The outcome of an order is known."""
        self.shared.ledger.settle(self.account, number, fate)

    def _answered(self, number: int, answer: Future[Confirmed]) -> None:
        self.who.publishes.pop(number, None)
        error = answer.exception()
        if error is None:
            self.settle(number, Fate.CONFIRMED)
            self.who.step()
        elif not isinstance(error, OutcomeUnknown):
            self.settle(number, Fate.REFUSED)


class _Careful(Publishing):
    """With confirms, as fast as the window allows, through whatever happens."""

    def run(self) -> None:
        publisher = Publisher(self.shared.settings, self.who.name, patience=0.5)
        try:
            while (number := self.orders()) is not None:
                body = b"%d:%d" % (self.account, number)
                self.note(number, partial(publisher.publish, "", RAW, body))
            publisher.flush(PATIENCE)
        finally:
            publisher.close(0.0)  # what has no answer by now is unknown


class _WithoutConfirms(Publishing):
    """What is written to the socket counts as arrived."""

    def run(self) -> None:
        _again_and_again(self.shared, self.who, self.ending, self._publish)

    def _publish(self, channel: Channel) -> None:
        while (number := self.orders()) is not None:
            channel.basic_publish("", RAW, b"%d:%d" % (self.account, number), persistent())
            self.settle(number, Fate.CONFIRMED)
            self.who.step()


class _WithAutoAck:
    """What the broker has written to the socket counts as done."""

    def __init__(self, shared: Shared, who: Participant) -> None:
        self._shared, self._who = shared, who
        self._ending, self._came = threading.Event(), threading.Event()

    def stop(self) -> None:
        self._ending.set()

    def run(self) -> None:
        _again_and_again(self._shared, self._who, self._ending, self._take)

    def _take(self, channel: Channel) -> None:
        channel.basic_consume(RAW, self._note, auto_ack=True)
        # A cancel would not do for a good end: pika drops what comes between it and its answer, as if nobody had it.
        while self._came.is_set() or not self._ending.is_set():
            self._came.clear()
            channel.connection.process_data_events(time_limit=QUIET)

    def _note(self, *order: Any) -> None:
        self._shared.ledger.receive(order[3])
        self._who.step()
        self._came.set()


def producer(shared: Shared, who: Participant) -> Service:
    """Publishes raw orders."""
    return _Careful(shared, who) if shared.confirms else _WithoutConfirms(shared, who)


def consumer(shared: Shared, who: Participant) -> Service:
    """Handles raw orders, each for some milliseconds, and acknowledges each after it is noted."""
    if shared.auto_ack:
        return _WithAutoAck(shared, who)

    def handler(delivery: Delivery) -> Outcome:
        shared.work_a_moment()
        shared.ledger.receive(delivery.body)
        who.step()
        return Outcome.ACK

    concurrency = CONCURRENCIES[(who.number - 1) % len(CONCURRENCIES)]
    return Consumer(shared.settings, RAW, handler, prefetch=PREFETCH, concurrency=concurrency, name=who.name)


def _again_and_again(
    shared: Shared, who: Participant, ending: threading.Event, work: Callable[[Channel], None]
) -> None:
    while not ending.is_set():
        try:
            connection = connect(shared.settings, who.name)
        except (Unreachable, ConnectionLost):
            ending.wait(0.1)
            continue
        with suppress(AMQPError):  # the connection is lost: on with the next
            work(connection.channel())
        with suppress(AMQPError):
            connection.close()
