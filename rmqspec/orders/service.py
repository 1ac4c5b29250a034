"""What all services of the order system have in common: a name, a queue, a beginning and an end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from rmqspec.client import Consumer, Delivery, Outcome, Publisher, Settings, Topology
from rmqspec.orders.dead_letters import park
from rmqspec.orders.messages import InvalidMessage
from rmqspec.orders.topology import order_system

__all__ = ["Say", "Service", "Subscriber", "silent"]

Say = Callable[[str], None]  # where a service tells a person what it does


def silent(_: str) -> None:
    """Says nothing."""


class Service(Protocol):
    """Whatever runs until it is stopped."""

    def run(self) -> None:
        """Serves until ``stop``; returns after the message in hand is settled."""

    def stop(self) -> None:
        """Ends ``run`` soon; any thread and any signal handler may call it."""


class Subscriber(ABC):
    """Consumes one queue of the order system. What it cannot read is parked with the reason, and it goes on.

    Args:
        source: The broker's URL, or settings. A service has two connections: one to consume on, and one to publish on,
            because a broker in trouble stops those who publish and not those who consume.
        queue: What it consumes.
        name: Who it is, in the log and in the management UI.
        say: Where it tells what it does.
        topology: Declared at each connection; by default the order system's.
        retry: What is done with a delivery whose outcome is ``RETRY``, before it is acknowledged.
    """

    def __init__(
        self,
        source: str | Settings,
        queue: str,
        name: str,
        say: Say = silent,
        *,
        topology: Topology | None = None,
        retry: Callable[[Delivery], object] | None = None,
    ) -> None:
        self.name, self.say = name, say
        self._source = source
        self.publisher = Publisher(source, f"{name} publisher")
        self.consumer = Consumer(
            source, queue, self._handle, topology=topology or order_system(), retry=retry, name=name
        )

    def run(self) -> None:
        """Consumes until ``stop``; raises what ``Consumer.run`` raises."""
        try:
            self.consumer.run()
        finally:
            self.publisher.close()

    def stop(self) -> None:
        """Ends ``run`` after the message in hand."""
        self.consumer.stop()

    @abstractmethod
    def handle(self, delivery: Delivery) -> Outcome:
        """Does the service's work.

        Raises:
            InvalidMessage: The body is not what the queue is for.
        """

    def _handle(self, delivery: Delivery) -> Outcome:
        try:
            return self.handle(delivery)
        except InvalidMessage as error:
            park(self.publisher, delivery, str(error))
            self.say(f"parked a message that it cannot read: {error}")
            return Outcome.ACK
