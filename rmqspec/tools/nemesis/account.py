"""The account of every order: what was attempted, what the broker said of it, and how often it arrived.

The names are those of Jepsen's total-queue check.

Source: https://jepsen.io/analyses/rabbitmq, https://github.com/jepsen-io/jepsen (checker/total-queue)
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["Account", "Fate", "Ledger"]

MOST = 255  # receipts of one order that are counted


class Fate(IntEnum):
    """What its producer knows of an order."""

    UNKNOWN = 0  # in flight, or the connection was lost before an answer
    CONFIRMED = 1
    REFUSED = 2  # nacked, returned, or never sent
    UNSAFE = 3  # confirmed, and when the broker was killed on its way through a dead-letter exchange


@dataclass(frozen=True, slots=True)
class Account:
    """What has become of all orders.

    Attributes:
        attempted: Orders that a producer has tried to publish.
        confirmed: Those of which the broker said that it has them.
        received: Those that arrived, each counted once.
        lost: Confirmed, and never arrived. A broker that keeps its word has none.
        unexpected: Arrived, and never attempted. There is no excuse for one either.
        duplicated: How many times an order arrived again.
        recovered: Arrived, though the producer had no confirm.
        unknown: Neither confirmed, nor refused, nor arrived: the broker had promised nothing.
        refused: Refused by the broker or by a full window, and not arrived.
        unsafe: Confirmed, not arrived, and when the broker was killed maybe on its way through a dead-letter exchange.
            Nothing is promised of such: the broker does not wait until a dead letter is on the disk. See
            https://www.rabbitmq.com/docs/dlx#safety.
    """

    attempted: int
    confirmed: int
    received: int
    lost: int
    unexpected: int
    duplicated: int
    recovered: int
    unknown: int
    refused: int
    unsafe: int

    @property
    def holds(self) -> bool:
        """Whether the broker has kept its promise."""
        return not (self.lost or self.unexpected)


class Ledger:
    """Two bytes for each order, so that millions can be followed. Any thread may write.

    Args:
        producers: How many there are; an order is known by its producer and its number there.
    """

    def __init__(self, producers: int) -> None:
        self._fates = [bytearray() for _ in range(producers)]
        self._receipts = [bytearray() for _ in range(producers)]
        self._guard = threading.Lock()
        self._confirmed, self._received = [0] * producers, [0] * producers
        self._unexpected = 0

    def attempt(self, producer: int) -> int:
        """One more order of this producer, which alone calls this; returns its number."""
        self._receipts[producer].append(0)
        self._fates[producer].append(Fate.UNKNOWN)
        return len(self._fates[producer]) - 1

    def settle(self, producer: int, number: int, fate: Fate) -> None:
        """What the producer has heard of an order."""
        self._fates[producer][number] = fate
        if fate is Fate.CONFIRMED:
            with self._guard:
                self._confirmed[producer] += 1

    def forget(self, producer: int, may_be: Callable[[int], bool]) -> None:
        """The broker was killed: what may be on its way through a dead-letter exchange is unsafe.

        Args:
            producer: Whose orders.
            may_be: Whether the order of this number may be.
        """
        for number in filter(may_be, self.lost(producer)):
            with self._guard:
                self._fates[producer][number] = Fate.UNSAFE
                self._confirmed[producer] -= 1

    def receive(self, body: bytes) -> None:
        """An order has arrived."""
        try:
            producer, number = map(int, body.split(b":"))
            receipts = self._receipts[producer]
            known = producer >= 0 and 0 <= number < len(receipts)
        except (ValueError, IndexError):
            known = False
        with self._guard:
            if not known:
                self._unexpected += 1
                return
            self._received[producer] += not receipts[number]
            receipts[number] = min(MOST, receipts[number] + 1)

    def waiting(self, producer: int) -> int:
        """About how many of a producer's confirmed orders have not arrived yet."""
        return self._confirmed[producer] - self._received[producer]

    @property
    def received(self) -> int:
        """How many orders have arrived."""
        return sum(self._received)

    def lost(self, producer: int) -> list[int]:
        """The numbers of a producer's orders that were confirmed and have not arrived."""
        pairs = zip(self._fates[producer], self._receipts[producer], strict=False)
        return [number for number, (fate, times) in enumerate(pairs) if fate == Fate.CONFIRMED and not times]

    def account(self) -> Account:
        """The balance, once nothing is in flight any more."""
        kinds = Counter[tuple[int, int]]()  # how many orders share a fate and a number of receipts
        for fates, receipts in zip(self._fates, self._receipts, strict=True):
            kinds.update(zip(fates, receipts, strict=False))  # an order may be half entered: it is not counted yet

        def count(holds: Callable[[int, int], int | bool]) -> int:
            return sum(orders * holds(fate, times) for (fate, times), orders in kinds.items())

        return Account(
            attempted=count(lambda _, __: True),
            confirmed=count(lambda fate, _: fate in (Fate.CONFIRMED, Fate.UNSAFE)),
            received=count(lambda _, times: times > 0),
            lost=count(lambda fate, times: fate == Fate.CONFIRMED and not times),
            unexpected=self._unexpected,
            duplicated=count(lambda _, times: max(0, times - 1)),
            recovered=count(lambda fate, times: fate in (Fate.UNKNOWN, Fate.REFUSED) and times > 0),
            unknown=count(lambda fate, times: fate == Fate.UNKNOWN and not times),
            refused=count(lambda fate, times: fate == Fate.REFUSED and not times),
            unsafe=count(lambda fate, times: fate == Fate.UNSAFE and not times),
        )
