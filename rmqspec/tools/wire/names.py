"""Random names: a client says `orders`, its broker hears and says `r7c1b09fe.orders`, the client hears `orders`.

Tests that share a vhost would meet at their queues otherwise. All names of queues and exchanges, and all routing keys,
are given one more word in front. Since bindings and messages both have it, each message is routed as it would be
without: the default exchange finds queues by their names, a pattern of a topic exchange has one word more, which
matches itself (and an empty key, which has no words, has one), and what is dead-lettered through any exchange keeps the
key that it came with. What begins with ``amq.``, and queues that the broker has named, stay as they are. So do names
that would grow too long for the protocol, and the keys of bindings to exchanges of further types, to which they mean
something else: a weight, or nothing.

Source: https://www.rabbitmq.com/amqp-0-9-1-reference
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from pika import frame as amqp
from pika import spec
from pika.exceptions import AMQPError

from rmqspec.client.decoding import ours
from rmqspec.tools.wire.frames import Frames, Piece
from rmqspec.tools.wire.pump import Direction, Tap

__all__ = ["RandomNames"]

LONGEST = 255  # bytes of a name
NAMES = ("queue", "exchange", "destination", "source")  # arguments of methods
ARGUMENTS = ("x-dead-letter-exchange", "alternate-exchange", "x-dead-letter-routing-key")
COPIES = ("CC", "BCC")
# What a message carries that was dead-lettered, and is published again: the broker may read it.
DEATHS = ("queue", "exchange", "routing-keys")
DEATH = "x-death"
ENDS = tuple(f"x-{end}-death-{what}" for end in ("first", "last") for what in ("queue", "exchange"))


class RandomNames:
    """The names of one test.

    Attributes:
        prefix: What each has in front of it.
        declared: Queues and exchanges that were declared, as the broker knows them: ``("queue", "r7c1b09fe.orders")``,
            oldest first. A proxy's thread writes it; it is read when the connections are closed.
    """

    def __init__(self) -> None:
        self._word = f"r{secrets.token_hex(4)}"
        self.prefix = f"{self._word}."
        self.declared: dict[tuple[str, str], None] = {}
        self._by_broker: set[str] = set()
        self._other_types: set[str] = set()  # exchanges whose binding keys are no routing keys

    def tap(self, direction: Direction) -> Tap:
        """Changes one direction of one connection. What cannot be read passes as it is."""
        frames, change = Frames(), self._to_broker if direction is Direction.FROM_CLIENT else self._to_client
        return lambda data: b"".join(_changed(piece, change) for piece in frames.feed(data))

    def _to_broker(self, thing: Any) -> Any:
        """A method or properties, as the broker is to hear it."""
        if isinstance(thing, spec.BasicProperties):
            return _with(thing, headers=_each(thing.headers, self._header))
        changes: dict[str, Any] = {name: self._name(getattr(thing, name, None)) for name in NAMES}
        if not self._keeps_key(thing):
            changes["routing_key"] = self._key(getattr(thing, "routing_key", None))
        changes["arguments"] = _each(getattr(thing, "arguments", None), self._argument)
        said = _with(thing, **changes)
        if isinstance(said, (spec.Queue.Declare, spec.Exchange.Declare)) and not said.passive:
            kind = "queue" if isinstance(said, spec.Queue.Declare) else "exchange"
            name = getattr(said, kind)
            if name and not name.startswith("amq."):
                self.declared[kind, name] = None
        return said

    def _keeps_key(self, thing: Any) -> bool:
        if isinstance(thing, spec.Exchange.Declare) and _is_of_another_type(str(thing.type)):
            self._other_types.add(str(thing.exchange))
        if isinstance(thing, (spec.Exchange.Bind, spec.Exchange.Unbind)):
            return thing.source in self._other_types
        if not isinstance(thing, (spec.Queue.Bind, spec.Queue.Unbind)):
            return False
        # An empty key beside an empty queue stands for the queue that the channel has declared last.
        return thing.exchange in self._other_types or (not thing.queue and not thing.routing_key)

    def _to_client(self, thing: Any) -> Any:
        """A method or properties, as the client is to hear it."""
        if isinstance(thing, spec.Queue.DeclareOk) and not thing.queue.startswith(self.prefix):
            self._by_broker.add(thing.queue)
            self.declared["queue", thing.queue] = None
        return _with(thing, **{name: self._without(value) for name, value in vars(thing).items()})

    def _name(self, name: Any) -> Any:
        if not isinstance(name, str) or not name or name.startswith("amq.") or name in self._by_broker:
            return name
        longer = self.prefix + name
        return longer if len(longer.encode(errors="surrogateescape")) <= LONGEST else name

    def _key(self, key: Any) -> Any:
        return self._word if key == "" else self._name(key)

    def _argument(self, name: Any, value: Any) -> Any:
        if name not in ARGUMENTS:
            return value
        return self._key(value) if name.endswith("-key") else self._name(value)

    def _header(self, name: Any, value: Any) -> Any:
        if name in COPIES and isinstance(value, list):
            return [self._key(key) for key in value]
        if name in ENDS:
            return self._name(value)
        if name == DEATH and isinstance(value, list):
            return [_each(entry, self._death) for entry in value]
        return value

    def _death(self, name: Any, value: Any) -> Any:
        if name not in DEATHS:
            return value
        return [self._key(key) for key in value] if isinstance(value, list) else self._name(value)

    def _without(self, value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(self.prefix, "").replace(self._word, "")
        if isinstance(value, list):
            return [self._without(one) for one in value]
        return _each(value, lambda _, inner: self._without(inner))


def _is_of_another_type(name: str) -> bool:
    return name.startswith("x-") and name != "x-delayed-message"  # which is of one of the four types besides


def _each(table: Any, change: Callable[[Any, Any], Any]) -> Any:
    return {name: change(name, value) for name, value in table.items()} if isinstance(table, Mapping) else table


def _with(thing: Any, **values: Any) -> Any:
    """The thing itself if nothing is to be changed: then it goes on in the very bytes in which it came."""
    values = {name: value for name, value in values.items() if hasattr(thing, name) and getattr(thing, name) != value}
    if not values:
        return thing
    changed = copy(thing)
    vars(changed).update(values)
    return changed


def _changed(piece: Piece, change: Callable[[Any], Any]) -> bytes:
    frame = piece.frame
    try:
        if isinstance(frame, amqp.Method) and (method := change(frame.method)) is not frame.method:
            return amqp.Method(frame.channel_number, ours(method)).marshal()
        if isinstance(frame, amqp.Header) and (properties := change(frame.properties)) is not frame.properties:
            return amqp.Header(frame.channel_number, frame.body_size, ours(properties)).marshal()
    except (AMQPError, ValueError, TypeError):
        return piece.raw  # somebody sends on purpose what cannot be written, such as a name that is no UTF-8
    return piece.raw
