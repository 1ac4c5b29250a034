"""Exchanges, queues and bindings as data, and the few lines that declare them.

Source: https://www.rabbitmq.com/tutorials/amqp-concepts
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pika.channel import Channel as LoopChannel

from rmqspec.client.bounds import check_arguments, check_name
from rmqspec.client.connection import Channel, translated

__all__ = ["Binding", "Exchange", "ExchangeBinding", "Queue", "Topology"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange of type ``direct``, ``fanout``, ``topic`` or ``headers``, or of a plugin's.

    Attributes:
        name: Its name.
        type: Its type.
        arguments: As ``{"alternate-exchange": "unrouted"}``.
        durable: Whether it outlives a restart of the broker.
        auto_delete: Whether it goes with the last binding from it.
        internal: Whether only exchanges may publish to it.
    """

    name: str
    type: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue.

    Attributes:
        name: Its name.
        arguments: As ``{"x-max-priority": 10}``; see https://www.rabbitmq.com/docs/queues#optional-arguments.
        durable: Whether it outlives a restart of the broker.
        exclusive: Whether it belongs to the connection that declares it, and goes with it.
        auto_delete: Whether it goes with its last consumer.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False

    @classmethod
    def quorum(cls, name: str, arguments: Mapping[str, Any] | None = None) -> Queue:
        """A replicated queue; see https://www.rabbitmq.com/docs/quorum-queues."""
        return cls(name, {**(arguments or {}), "x-queue-type": "quorum"})


@dataclass(frozen=True, slots=True)
class Binding:
    """What an exchange sends to a queue: messages whose routing key, or whose headers, fit.

    Attributes:
        exchange: The exchange.
        queue: The queue.
        key: What the routing key is compared with.
        arguments: What headers are compared with, as ``{"x-match": "all", "format": "pdf"}``.
    """

    exchange: str
    queue: str
    key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExchangeBinding:
    """What an exchange sends to another one; see https://www.rabbitmq.com/docs/e2e.

    Attributes:
        source: Where messages come from.
        destination: The exchange that they go on to.
        key: What the routing key is compared with.
        arguments: What headers are compared with.
    """

    source: str
    destination: str
    key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Topology:
    """All that an application declares, in the order in which it must be declared.

    Raises:
        InvalidSetting: A name or an argument has no form in AMQP.
    """

    exchanges: tuple[Exchange, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()
    exchange_bindings: tuple[ExchangeBinding, ...] = ()

    def __post_init__(self) -> None:
        for exchange in self.exchanges:
            check_name("an exchange", exchange.name)
            check_name("an exchange's type", exchange.type)
            check_arguments(f"the exchange {exchange.name!r}", exchange.arguments)
        for queue in self.queues:
            check_name("a queue", queue.name)
            check_arguments(f"the queue {queue.name!r}", queue.arguments)
        for binding in self.bindings:
            for name in (binding.exchange, binding.queue, binding.key):
                check_name("a binding", name)
            check_arguments(f"the binding of {binding.queue!r}", binding.arguments)
        for link in self.exchange_bindings:
            for name in (link.source, link.destination, link.key):
                check_name("a binding", name)
            check_arguments(f"the binding of {link.destination!r}", link.arguments)

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
            channel.exchange_declare(
                exchange.name,
                exchange.type,
                durable=exchange.durable,
                auto_delete=exchange.auto_delete,
                internal=exchange.internal,
                arguments=dict(exchange.arguments),
            )
        for queue in self.queues:
            channel.queue_declare(
                queue.name,
                durable=queue.durable,
                exclusive=queue.exclusive,
                auto_delete=queue.auto_delete,
                arguments=dict(queue.arguments),
            )
        for link in self.exchange_bindings:
            channel.exchange_bind(link.destination, link.source, link.key, arguments=dict(link.arguments))
        for binding in self.bindings:
            channel.queue_bind(binding.queue, binding.exchange, binding.key, arguments=dict(binding.arguments))
