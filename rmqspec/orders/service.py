"""What all services of the order system have in common: a name, a queue, a beginning and an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rmqspec.client import Connection, Consumer, Delivery, Outcome, Publisher
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


class Subscriber:
    """Consumes one queue of the order system. What it cannot read is parked with the reason, and it goes on.

    Args:
        connection: Its own: two services never share one.
        queue: What it consumes.
        name: Who it is, in the log and in the management UI.
        say: Where it tells what it does.
    """

    def __init__(self, connection: Connection, queue: str, name: str, say: Say = silent) -> None:
        self.name, self.say, self.connection = name, say, connection
        channel = connection.channel()
        order_system().declare(channel)
        channel.close()
        self.publisher = Publisher(connection)
        self.consumer = Consumer(connection, queue, self._handle, name=name)

    def run(self) -> None:
        """Consumes until ``stop``; raises what ``Consumer.run`` raises."""
        self.consumer.run()

    def stop(self) -> None:
        """Ends ``run`` after the message in hand."""
        self.consumer.stop()

    def handle(self, delivery: Delivery) -> Outcome:
        """Does the service's work.

        Raises:
            InvalidMessage: The body is not what the queue is for.
        """
        raise NotImplementedError

    def _handle(self, delivery: Delivery) -> Outcome:
        try:
            return self.handle(delivery)
        except InvalidMessage as error:
            park(self.publisher, delivery, str(error))
            self.say(f"parked a message that it cannot read: {error}")
            return Outcome.ACK
