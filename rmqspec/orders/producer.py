"""The producer: publishes orders, sample ones or those of a file, and knows that each arrived."""

from __future__ import annotations

import codecs
import random
import string
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing

from rmqspec.client import Confirmed, Publisher, Settings, connect, persistent
from rmqspec.orders.messages import InvalidMessage, Item, Log, Order, money, parse
from rmqspec.orders.service import Say, harmless, silent
from rmqspec.orders.topology import LOGS_EXCHANGE, ORDER_KEY, ORDERS_EXCHANGE, order_system

__all__ = ["Producer", "new_run", "read_orders", "sample_orders"]

RUN_LETTERS = string.ascii_lowercase + string.digits
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

    def publish(self, order: Order, message_id: str = "") -> None:
        """Publishes one order and returns when the broker has it; a longer wait is told, with its cause.

        Args:
            order: The order.
            message_id: Of this publish of it; by default one that nobody else has.

        Raises:
            PublishFailed: It did not take it, or whether it did is unknown.
        """
        future = self.send(order, message_id)
        try:
            future.result(PATIENCE)
        except TimeoutError:
            self._say(f"waits for the broker to confirm order {order.order_id}: {self._hindrance()}")
            future.result()
        where = f"to {ORDERS_EXCHANGE}, key {ORDER_KEY}"
        self._say(f"published order {order.order_id} ({money(order.total_cents)}) {where}")

    def send(self, order: Order, message_id: str = "") -> Future[Confirmed]:
        """Publishes one order and does not wait: the future tells when the broker has it, or why not.

        That it was created is logged before it, on the same channel, so that no worker's log can come ahead of it.
        Where the log does not take that, the order is published all the same.
        """
        # Of this very publish: a worker knows by it what comes twice, while the same order may be placed again.
        message_id = message_id or uuid.uuid4().hex
        created = Log(event="order.created", order_id=order.order_id, worker="producer")
        properties = persistent(correlation_id=message_id)
        logged = self._publisher.publish(LOGS_EXCHANGE, created.event, created.to_json(), properties)
        logged.add_done_callback(lambda done: done.exception())  # looked at: nothing is to be logged about it
        return self._publisher.publish(ORDERS_EXCHANGE, ORDER_KEY, order.to_json(), persistent(message_id=message_id))

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


def sample_orders(count: int, seed: int = 0, run: str = "") -> Iterator[Order]:
    """Makes orders up; the same seed makes the same ones.

    Args:
        count: How many.
        seed: Another seed, other orders.
        run: Stands at the end of each id, so that the orders of two runs can be told apart: see ``new_run``.
    """
    chance = random.Random(seed)  # noqa: S311  (a sample)
    for number in range(1, count + 1):
        skus = chance.sample(sorted(PRICES_CENTS), k=chance.randint(1, 3))
        items = (Item(sku=sku, quantity=chance.randint(1, 4), unit_price_cents=PRICES_CENTS[sku]) for sku in skus)
        order_id = f"{seed:02}-{number:04}{run and '-'}{run}"
        yield Order(order_id=order_id, customer=chance.choice(CUSTOMERS), items=tuple(items))


def new_run() -> str:
    """What tells the sample orders of one run from those of another: four letters and digits."""
    return "".join(random.SystemRandom().choices(RUN_LETTERS, k=4))


def read_orders(lines: Iterable[bytes]) -> Iterator[Order | InvalidMessage]:
    """Reads orders from JSON Lines, one a line; blank lines are passed over.

    What some editors write at the beginning of a file in UTF-8, a byte order mark, is passed over.
    A line that is no order comes out as an ``InvalidMessage`` with its number, so that the others are not held up.
    """
    for number, raw in enumerate(lines, start=1):
        line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
        if line.strip():
            try:
                yield parse(Order, line)
            except InvalidMessage as error:
                yield InvalidMessage(f"line {number} is not an order: {error}")
