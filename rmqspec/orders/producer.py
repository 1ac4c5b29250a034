"""The producer: publishes orders, sample ones or those of a file, and knows that each arrived."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing

from rmqspec.client import Confirmed, Publisher, Settings, connect, persistent
from rmqspec.orders.messages import InvalidMessage, Item, Order, money, parse
from rmqspec.orders.service import Say, harmless, silent
from rmqspec.orders.topology import ORDER_KEY, ORDERS_EXCHANGE, order_system

__all__ = ["Producer", "read_orders", "sample_orders"]

PATIENCE = 1.0  # seconds after which a person is told what is waited for
CUSTOMERS = ("Ada", "Grace", "Linus", "Barbara", "Edsger", "Radia")
PRICES_CENTS = {"keyboard": 4_999, "mouse": 2_450, "monitor": 18_900, "webcam": 5_990, "headset": 7_995}


class Producer:
    """Publishes orders on a connection of its own.

    Args:
        source: The broker's URL, or settings.
        say: Where it tells what it does.
        name: The connection's.
    """

    def __init__(self, source: str | Settings, say: Say = silent, name: str = "producer") -> None:
        with closing(connect(source, f"{name} topology")) as connection:
            order_system().declare(connection.channel())
        self._publisher, self._say = Publisher(source, name), harmless(say)

    def publish(self, order: Order) -> None:
        """Publishes one order and returns when the broker has it; a longer wait is told, with its cause.

        Raises:
            PublishFailed: It did not take it, or whether it did is unknown.
        """
        future = self.send(order)
        try:
            future.result(PATIENCE)
        except TimeoutError:
            self._say(f"waits for the broker to confirm order {order.order_id}: {self._hindrance()}")
            future.result()
        self._say(f"published order {order.order_id} of {order.customer}, {money(order.total_cents)}")

    def send(self, order: Order) -> Future[Confirmed]:
        """Publishes one order and does not wait: the future tells when the broker has it, or why not."""
        # Of this very publish: a worker knows by it what comes twice, while the same order may be placed again.
        properties = persistent(message_id=uuid.uuid4().hex)
        return self._publisher.publish(ORDERS_EXCHANGE, ORDER_KEY, order.to_json(), properties)

    @property
    def published(self) -> int:
        """How many orders the broker has confirmed."""
        return self._publisher.confirmed[ORDERS_EXCHANGE]

    def close(self, timeout: float = 10.0) -> None:
        """Waits so many seconds for what is not confirmed yet, and hangs up."""
        self._publisher.close(timeout)

    def _hindrance(self) -> str:
        if not self._publisher.connected:
            return "there is no connection now"
        if self._publisher.blocked:
            return f"it blocks publishers ({self._publisher.blocked})"
        return "it has not answered yet"


def sample_orders(count: int, seed: int = 0) -> Iterator[Order]:
    """Makes orders up; the same seed makes the same ones.

    Args:
        count: How many.
        seed: Another seed, other orders.
    """
    chance = random.Random(seed)  # noqa: S311  (a sample)
    for number in range(1, count + 1):
        skus = chance.sample(sorted(PRICES_CENTS), k=chance.randint(1, 3))
        items = (Item(sku=sku, quantity=chance.randint(1, 4), unit_price_cents=PRICES_CENTS[sku]) for sku in skus)
        yield Order(order_id=f"{seed:02}-{number:04}", customer=chance.choice(CUSTOMERS), items=tuple(items))


def read_orders(lines: Iterable[bytes]) -> Iterator[Order | InvalidMessage]:
    """Reads orders from JSON Lines, one a line; blank lines are passed over.

    A line that is no order comes out as an ``InvalidMessage`` with its number, so that the others are not held up.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield parse(Order, line)
            except InvalidMessage as error:
                yield InvalidMessage(f"line {number} is not an order: {error}")
