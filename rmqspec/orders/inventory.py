"""The inventory: answers how many of a thing there are, by a call over queues."""

from __future__ import annotations

from collections.abc import Mapping

from rmqspec.client import Delivery, Outcome, Publisher, RpcClient, RpcServer, Settings
from rmqspec.orders.dead_letters import park
from rmqspec.orders.messages import StockQuery, StockReply, parse
from rmqspec.orders.service import Say, silent
from rmqspec.orders.topology import INVENTORY, order_system

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
        self._stock, self._say = stock, say
        self._publisher = Publisher(source, f"{name} publisher")
        self._server = RpcServer(
            source, INVENTORY, self._answer, name, topology=order_system(), without_address=self._park
        )

    def run(self) -> None:
        """Answers until ``stop``; raises what ``Consumer.run`` raises."""
        try:
            self._server.run()
        finally:
            self._publisher.close()

    def stop(self) -> None:
        """Ends ``run`` after the request in hand."""
        self._server.stop()

    @property
    def answered(self) -> int:
        """How many requests it has answered."""
        return self._server.answered

    def _answer(self, request: bytes) -> bytes:
        sku = parse(StockQuery, request).sku
        if sku not in self._stock:
            self._say(f"was asked for {sku}, which it does not know")
            raise ValueError(f"unknown item {sku!r}")
        self._say(f"was asked for {sku}: {self._stock[sku]} in stock")
        return StockReply(sku=sku, available=self._stock[sku]).to_json()

    def _park(self, delivery: Delivery) -> Outcome:
        park(self._publisher, delivery, "a request without reply_to: nobody to answer")
        return Outcome.ACK


def stock_of(client: RpcClient, sku: str, timeout: float | None = None) -> int:
    """Asks the inventory.

    Args:
        client: Whose connection is used.
        sku: What is asked for.
        timeout: Seconds; by default the client's.

    Raises:
        CallTimedOut: No server answers.
        CallRefused: The inventory does not know the item.
    """
    return parse(StockReply, client.call(INVENTORY, StockQuery(sku=sku).to_json(), timeout)).available
