"""The order system as it is: its producer, workers with inbox and retries, and all who listen to them.

Each order must come out at one of two ends: as an event that it is completed, or as a dead letter.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Protocol

from pika import BasicProperties

from rmqspec.client import (
    Binding,
    Channel,
    Consumer,
    Delivery,
    Outcome,
    Publisher,
    Queue,
    Settings,
    Topology,
    persistent,
)
from rmqspec.orders import Failures, Inbox, Item, Order, Producer, Worker, order_system
from rmqspec.orders.service import Say
from rmqspec.orders.topology import EVENTS_EXCHANGE, FAILED, ORDER_KEY, ORDERS, ORDERS_EXCHANGE
from rmqspec.tools.nemesis.invariants import OF_A_DEAD_LETTER, multiplied
from rmqspec.tools.nemesis.odd import KINDS, REJECTED, odd_properties
from rmqspec.tools.nemesis.participants import Participant, Service
from rmqspec.tools.nemesis.shared import CALLS, COPIES, EVENTS, LADDER, RAW, Shared
from rmqspec.tools.nemesis.traffic import Publishing

__all__ = [
    "ENDS",
    "NOTING_PREFETCH",
    "copies",
    "dead_letters",
    "declare",
    "events",
    "may_be_dead_lettered",
    "named",
    "odd_producer",
    "order_producer",
    "subscriber",
    "unreadable_producer",
    "worker",
]

ORDERS_WAITING, ODD_WAITING = 100, 20  # of one producer
NOTING_PREFETCH = 4
ODD_PAUSE = 0.05  # seconds between two odd messages
UNREADABLE = b"no order"
FAILURES = Failures(rate=0.3)

# Where orders may still be when a run ends.
ENDS = (RAW, ORDERS, *(queue.name for queue in LADDER.topology().queues), FAILED, EVENTS)


class _Says(Protocol):
    def __call__(self, source: Settings, name: str, say: Say) -> Service: ...


class _OrderProducer(Publishing):
    """The real producer."""

    def run(self) -> None:
        producer = Producer(self.shared.settings, name=self.who.name)
        try:
            while (number := self.orders()) is not None:
                self.note(number, partial(producer.send, _order(f"{self.account}:{number}")))
        finally:
            producer.close()


class _UnreadableProducer(Publishing):
    """Sends messages into the queue of orders that are none, and have nothing odd besides."""

    def run(self) -> None:
        publisher = Publisher(self.shared.settings, self.who.name, patience=0.5)
        try:
            while (number := self.orders()) is not None:
                body, properties = self.message(number, f"{self.account}:{number}")
                self.note(number, partial(publisher.publish, ORDERS_EXCHANGE, ORDER_KEY, body, properties))
                self.ending.wait(ODD_PAUSE)
        finally:
            publisher.close()

    def message(self, _: int, order_id: str) -> tuple[bytes, BasicProperties]:
        """What is published."""
        return UNREADABLE, persistent(message_id=order_id)


class _OddProducer(_UnreadableProducer):
    """Sends odd messages into the queue of orders, half of them no orders at all."""

    def run(self) -> None:
        while self.shared.findings.now() < self.shared.odd_from and not self.ending.wait(ODD_PAUSE):
            self.who.step()  # it is early
        super().run()

    def message(self, number: int, order_id: str) -> tuple[bytes, BasicProperties]:
        _, properties = odd_properties(number, self.shared.user, order_id)
        return UNREADABLE if number // len(KINDS) % 2 else _order(order_id).to_json(), properties


def order_producer(shared: Shared, who: Participant) -> Service:
    """Publishes orders."""
    return _OrderProducer(shared, who, ORDERS_WAITING)


def unreadable_producer(shared: Shared, who: Participant) -> Service:
    """Publishes what is no order: without it there were too few dead letters to tell a stall by."""
    return _UnreadableProducer(shared, who, ODD_WAITING)


def odd_producer(shared: Shared, who: Participant) -> Service:
    """Publishes odd messages."""
    return _OddProducer(shared, who, ODD_WAITING)


def worker(shared: Shared, who: Participant) -> Service:
    """Works on orders; all workers share the file of their inboxes."""
    inbox = Inbox(str(shared.directory / "inbox.sqlite"))
    work_time = shared.chance.uniform(0.0, shared.work)
    return Worker(
        shared.worker_settings, who.name, FAILURES, work_time, inbox=inbox, say=lambda _: who.step(), retry=LADDER
    )


def subscriber(make: _Says) -> Callable[[Shared, Participant], Service]:
    """One of the services that listen to workers."""
    return lambda shared, who: make(shared.worker_settings, who.name, lambda _: who.step())


def events(shared: Shared, who: Participant) -> Service:
    """Notes completed orders."""
    return _noting(shared, who, EVENTS, lambda delivery: shared.ledger.receive(named(None, delivery.body)))


def dead_letters(shared: Shared, who: Participant) -> Service:
    """Notes orders that nobody could handle, and looks at the odd ones."""
    odd = {str(account) for name, account in shared.accounts.items() if name.startswith("odd-")}

    def note(delivery: Delivery) -> None:
        order_id = named(delivery.properties.message_id, delivery.body)
        shared.ledger.receive(order_id)
        account, _, number = order_id.decode().partition(":")
        if account in odd and number.isdigit():
            kind, published = odd_properties(int(number), shared.user, "")
            for name, check in OF_A_DEAD_LETTER.items():
                shared.findings.add(name, *check(kind, published, delivery))

    return _noting(shared, who, FAILED, note)


def copies(shared: Shared, who: Participant) -> Service:
    """Notes copies that went where no copy should."""

    def note(delivery: Delivery) -> None:
        shared.findings.add("multiplied", *multiplied(delivery))

    return _noting(shared, who, COPIES, note)


def declare(channel: Channel, queue_type: str) -> None:
    """Declares all queues of a run."""
    order_system(retry=LADDER).declare(channel)
    raw = Queue(RAW, {"x-queue-type": queue_type})
    bindings = (Binding(EVENTS_EXCHANGE, EVENTS),)
    Topology(queues=(raw, Queue(CALLS), Queue(EVENTS), Queue(COPIES)), bindings=bindings).declare(channel)


def may_be_dead_lettered(name: str, account: int, number: int) -> bool:
    """Whether the way of a participant's order may lead through a dead-letter exchange of the broker's: by a retry."""
    if name.startswith("odd-") and KINDS[number % len(KINDS)] in REJECTED:
        return True
    return name.startswith(("order-", "odd-")) and FAILURES.hits(f"{account}:{number}")


def named(message_id: str | None, body: bytes) -> bytes:
    """The account and number of an order, wherever they stand: in the body of an order or event, else as message id."""
    try:
        return str(json.loads(body)["order_id"]).encode()
    except (ValueError, TypeError, KeyError):
        return message_id.encode() if message_id else body


def _noting(shared: Shared, who: Participant, queue: str, note: Callable[[Delivery], None]) -> Service:
    def handler(delivery: Delivery) -> Outcome:
        note(delivery)
        who.step()
        return Outcome.ACK

    return Consumer(shared.settings, queue, handler, prefetch=NOTING_PREFETCH, name=who.name)


def _order(order_id: str) -> Order:
    return Order(order_id=order_id, customer="Ada", items=(Item(sku="mouse", quantity=1, unit_price_cents=2_450),))
