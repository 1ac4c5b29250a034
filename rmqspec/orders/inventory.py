"""The inventory: answers how many of a thing there are, by a call over queues."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from rmqspec.client import Delivery, Outcome, Publisher, RpcClient, RpcServer, Settings
from rmqspec.client.content import Content
from rmqspec.client.errors import CallFailed, Unrepublishable
from rmqspec.client.rpc import DIRECT_REPLY_TO
from rmqspec.orders.dead_letters import park, park_without_room
from rmqspec.orders.messages import InvalidMessage, StockQuery, StockReply, parse, reason_of
from rmqspec.orders.service import PASSING, Say, goodbye_after, harmless, raise_if_permanent, silent
from rmqspec.orders.topology import INVENTORY, order_system
from rmqspec.orders.waits import Waits

__all__ = ["STOCK", "InventoryServer", "stock_of"]

STOCK: Mapping[str, int] = {"keyboard": 42, "mouse": 17, "monitor": 5, "webcam": 0, "headset": 8}


class InventoryServer:
    """Serves the stock levels.

    Args:
        source: The broker's URL, or settings.
        stock: How many there are of each thing.
        name: Who it is.
        say: Where it tells what it does.
    """

    def __init__(
        self, source: str | Settings, stock: Mapping[str, int] = STOCK, name: str = "inventory", say: Say = silent
    ) -> None:
        self._stock, self._say, self._waits = stock, harmless(say), Waits()
        self._publisher = Publisher(source, f"{name} publisher")
        self._server = RpcServer(
            source, INVENTORY, self._answer, name, topology=order_system(), without_address=self._park
        )

    def run(self) -> None:
        """Answers until ``stop``; raises what ``Consumer.run`` raises."""
        try:
            self._server.run()
        finally:
            self._publisher.close(0.0, goodbye=goodbye_after(self._server))

    def stop(self) -> None:
        """Ends ``run`` after the request that it works on."""
        self._server.stop()
        self._waits.stop()

    @property
    def at_work(self) -> str:
        """Nothing that anybody would have to wait for: an answer is a look into a table."""
        return ""

    def give_up(self) -> None:
        """Nothing: a request that is not answered goes back to its queue by itself."""

    @property
    def answered(self) -> int:
        """How many requests it has answered."""
        return self._server.answered

    def _answer(self, request: Content) -> bytes:
        sku = parse(StockQuery, request).sku
        where = f"reply_to {_shortened(request.reply_to)}"
        if sku not in self._stock:
            self._say(f"answers {sku}: unknown, {where}")
            raise ValueError(f"unknown item {sku!r}")
        self._say(f"answers {sku}: {self._stock[sku]} in stock, {where}")
        return StockReply(sku=sku, available=self._stock[sku]).to_json()

    def _park(self, delivery: Delivery) -> Outcome:
        reason, wait = "a request without reply_to: nobody to answer", self._waits.confirmed
        try:
            try:
                park(self._publisher, delivery, reason, wait=wait)
            except Unrepublishable:
                park_without_room(self._publisher, delivery, wait=wait)
        except PASSING as error:
            raise_if_permanent(error)
            self._say(f"gives a request back for now: {error}")
            return Outcome.REQUEUE_LATER
        return Outcome.ACK


def stock_of(client: RpcClient, sku: str, timeout: float | None = None, say: Say = silent) -> int:
    """Asks the inventory.

    Args:
        client: Whose connection is used.
        sku: What is asked for.
        timeout: Seconds; by default the client's.
        say: Where it tells what it asks, and what the reply is.

    Raises:
        CallTimedOut: No server answers.
        CallRefused: The inventory does not know the item.
        CallFailed: The reply is no stock level.
        InvalidMessage: The item's name is empty, or too long.
    """
    request = query(sku).to_json()
    say(f"asks {INVENTORY} for {sku}")
    call = client.send(INVENTORY, request, timeout)
    try:
        available = parse(StockReply, call.result()).available
    except InvalidMessage as error:
        raise CallFailed(f"the reply of {INVENTORY!r} is no stock level: {error}") from error
    say(f"{sku}: {available} in stock, correlation_id {call.correlation_id}")
    return available


def _shortened(reply_to: str) -> str:
    """An address of direct reply-to ends in a key of some 60 letters."""
    return f"{DIRECT_REPLY_TO}…" if reply_to.startswith(f"{DIRECT_REPLY_TO}.") else reply_to


def query(sku: str) -> StockQuery:
    """The question for one item.

    Raises:
        InvalidMessage: There can be no such item.
    """
    try:
        return StockQuery(sku=sku)
    except ValidationError as error:
        raise InvalidMessage(reason_of(error)) from error
