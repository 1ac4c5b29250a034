"""Exchanges, queues and bindings as data, and the few lines that declare them.

Source: https://www.rabbitmq.com/tutorials/amqp-concepts
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pika.channel import Channel as LoopChannel

from rmqspec.client.connection import Channel, translated

__all__ = ["Binding", "Exchange", "Queue", "Topology"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange of type ``direct``, ``fanout``, ``topic`` or ``headers``."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue; ``arguments`` are the ``x-…`` that the broker knows."""

    name: str
    arguments: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """What an exchange sends to a queue: messages whose routing key fits ``key``."""

    exchange: str
    queue: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Topology:
    """All that an application declares, in the order in which it must be declared."""

    exchanges: tuple[Exchange, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()

    def declare(self, channel: Channel) -> None:
        """Declares everything; what is there already stays as it is.

        Every service does this when it starts, so that none depends on who starts first.

        Raises:
            ChannelClosed: Something of the same name exists with other properties (406).
        """
        with translated("declaring the topology"):
            self.send(channel)

    def send(self, channel: Channel | LoopChannel) -> None:
        """Declares everything on a channel; on one of an event loop without waiting for the answers."""
        for exchange in self.exchanges:
            channel.exchange_declare(exchange.name, exchange.type, durable=True)
        for queue in self.queues:
            channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
        for binding in self.bindings:
            channel.queue_bind(binding.queue, binding.exchange, binding.key)
