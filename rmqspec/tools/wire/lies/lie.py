"""What a lie is, and the few kinds that most of them are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pika import spec
from pika.amqp_object import AMQPObject

from rmqspec.tools.broker.configuration import Configuration
from rmqspec.tools.wire.said import Said

__all__ = [
    "ANSWERS",
    "Lie",
    "Talk",
    "Tell",
    "Told",
    "argument_lost",
    "by_broker",
    "by_client",
    "changed",
    "header_lost",
    "ignored",
    "property_lost",
    "swallowed",
]


class Talk:
    """One connection that is lied to: what a lie remembers of it, and a way to speak for the other side.

    Args:
        to_client: Takes what the client is told as if the broker had said it.
        to_broker: Takes what the broker is told as if the client had said it.

    Attributes:
        memory: The lie's own; empty at the connection's beginning.
    """

    def __init__(self, to_client: Callable[[Said], None], to_broker: Callable[[Said], None]) -> None:
        self.to_client, self.to_broker = to_client, to_broker
        self.memory: dict[Any, Any] = {}


Told = Said | Iterable[Said] | None
Tell = Callable[[Said, Talk], Told]
"""What is said instead: the very same object if the lie has nothing against it, None for nothing at all."""


@dataclass(frozen=True)
class Lie:
    """One promise that is broken.

    Attributes:
        name: In small letters with hyphens.
        sentence: What a broker does that tells it.
        methods: The methods that it wants to see.
        tell: What becomes of one of them.
        configure: What becomes of the configuration of a broker that a spec starts for itself; None where the lie is
            told on the wire. What is said over TLS can be falsified in this way alone.
    """

    name: str
    sentence: str
    methods: frozenset[str]
    tell: Tell = field(repr=False)
    configure: Callable[[Configuration], Configuration] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, name: str, sentence: str, methods: str, tell: Tell) -> Lie:
        """As a row of a table has it: the methods are one string."""
        return cls(name, sentence, frozenset(methods.split()), tell)

    @classmethod
    def of_configuration(cls, name: str, sentence: str, configure: Callable[[Configuration], Configuration]) -> Lie:
        """A lie that is told before the broker starts."""
        return cls(name, sentence, frozenset(), lambda said, _: said, configure)


# What a broker answers to a method that it has done.
ANSWERS: Mapping[str, Callable[[Any], AMQPObject]] = {
    "exchange.declare": lambda _: spec.Exchange.DeclareOk(),
    "exchange.delete": lambda _: spec.Exchange.DeleteOk(),
    "exchange.bind": lambda _: spec.Exchange.BindOk(),
    "exchange.unbind": lambda _: spec.Exchange.UnbindOk(),
    "queue.declare": lambda method: spec.Queue.DeclareOk(method.queue or "amq.gen-lie", 0, 0),
    "queue.bind": lambda _: spec.Queue.BindOk(),
    "queue.unbind": lambda _: spec.Queue.UnbindOk(),
    "queue.purge": lambda _: spec.Queue.PurgeOk(0),
    "queue.delete": lambda _: spec.Queue.DeleteOk(0),
    "basic.qos": lambda _: spec.Basic.QosOk(),
    "basic.consume": lambda method: spec.Basic.ConsumeOk(method.consumer_tag or "lie"),
    "basic.cancel": lambda method: spec.Basic.CancelOk(method.consumer_tag),
    "basic.get": lambda _: spec.Basic.GetEmpty(),
    "basic.recover": lambda _: spec.Basic.RecoverOk(),
    "confirm.select": lambda _: spec.Confirm.SelectOk(),
    "tx.select": lambda _: spec.Tx.SelectOk(),
    "tx.commit": lambda _: spec.Tx.CommitOk(),
    "tx.rollback": lambda _: spec.Tx.RollbackOk(),
}


def changed(**fields: Any) -> Tell:
    """Arguments of the method are others: ``changed(durable=False)``."""

    def tell(said: Said, _: Talk) -> Told:
        same = all(getattr(said.method, name) == value for name, value in fields.items())
        return said if same else said.but(**fields)

    return tell


def argument_lost(*keys: str) -> Tell:
    """Entries of the method's table of arguments are not seen."""

    def tell(said: Said, _: Talk) -> Told:
        arguments = said.method.arguments or {}
        if not set(keys) & set(arguments):
            return said
        return said.but(arguments={key: value for key, value in arguments.items() if key not in keys})

    return tell


def property_lost(name: str) -> Tell:
    """A property of the message is not there."""

    def tell(said: Said, _: Talk) -> Told:
        return said if getattr(said.properties, name) is None else said.having(**{name: None})

    return tell


def header_lost(*names: str) -> Tell:
    """Headers of the message are not there."""

    def tell(said: Said, _: Talk) -> Told:
        if not set(names) & set(said.headers):
            return said
        return said.having(headers={name: value for name, value in said.headers.items() if name not in names})

    return tell


def by_broker(tell: Tell) -> Tell:
    """The lie is told of what the broker says; what clients say under that name passes."""
    return lambda said, talk: tell(said, talk) if said.by_broker else said


def by_client(tell: Tell) -> Tell:
    """The lie is told of what clients say; what the broker says under that name passes."""
    return lambda said, talk: said if said.by_broker else tell(said, talk)


def swallowed(_: Said, __: Talk) -> Told:
    """Nothing is said."""
    return None


def ignored(said: Said, talk: Talk) -> Told:
    """The broker is not told, and the client hears that it is done."""
    if not getattr(said.method, "nowait", False):
        talk.to_client(Said(said.channel, ANSWERS[said.name](said.method)))
    return None
