"""What somebody uses of a broker, as far as it was read: queues, exchanges, bindings, policies, clients.

A source (``sources``) reads a part of it. A part that is not among ``read`` is unknown, which is not the same as empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["PARTS", "Item", "Used", "arguments", "definition", "named", "odd_key", "queue_type", "short_type"]

Item = Mapping[str, Any]

# What the broker makes in each vhost; no export lists them.
PREDECLARED = {
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
    "amq.rabbitmq.trace": "topic",
    "amq.rabbitmq.log": "topic",
    "amq.rabbitmq.event": "topic",
}

# What names something, or says of what kind it is.
TEXTS = {
    "name",
    "vhost",
    "type",
    "source",
    "destination",
    "destination_type",
    "routing_key",
    "pattern",
    "apply-to",
    "user",
    "exchange",
}


@dataclass(frozen=True, slots=True)
class Used:
    """What was read. The rows have the keys of the management API; they hold no password and no hash of one.

    Attributes:
        read: The names of the parts below that were read.
        gaps: What a source should have read and could not, each a sentence.
        version: Of the broker, in its own words; empty if it is not told.
    """

    queues: tuple[Item, ...] = ()
    exchanges: tuple[Item, ...] = ()
    bindings: tuple[Item, ...] = ()
    policies: tuple[Item, ...] = ()
    operator_policies: tuple[Item, ...] = ()
    users: tuple[Item, ...] = ()
    topic_permissions: tuple[Item, ...] = ()
    connections: tuple[Item, ...] = ()
    channels: tuple[Item, ...] = ()
    consumers: tuple[Item, ...] = ()
    plugins: tuple[Item, ...] = ()
    flags: tuple[Item, ...] = ()
    deprecated: tuple[Item, ...] = ()
    read: frozenset[str] = field(default_factory=frozenset)
    gaps: tuple[str, ...] = ()
    version: str = ""

    @classmethod
    def of(cls, parts: Mapping[str, Iterable[Item]], gaps: Iterable[str] = (), version: object = "") -> Used:
        """Makes one of the parts that were read, by their names."""
        rows = {name: tuple(rows) for name, rows in parts.items()}
        told = version if isinstance(version, str) else ""
        return cls(**rows, read=frozenset(parts), gaps=tuple(gaps), version=told)

    def queues_of(self, *types: str) -> Iterator[Item]:
        """The queues of these types."""
        return (queue for queue in self.queues if queue_type(queue) in types)

    def bindings_at(self, exchange_type: str) -> Iterator[Item]:
        """The bindings whose source is an exchange of this type."""
        types = {(exchange.get("vhost"), exchange.get("name")): exchange.get("type") for exchange in self.exchanges}
        for binding in self.bindings:
            source = binding.get("source")
            if types.get((binding.get("vhost"), source), PREDECLARED.get(str(source))) == exchange_type:
                yield binding


PARTS = tuple(one.name for one in fields(Used) if one.name not in ("read", "gaps", "version"))


def queue_type(queue: Item) -> str:
    """``classic``, ``quorum`` or ``stream``: by its argument, else by what the broker says."""
    return short_type(arguments(queue).get("x-queue-type") or queue.get("type") or "classic")


def short_type(name: object) -> str:
    """``quorum`` of ``rabbit_quorum_queue``, the name of the broker's module."""
    return str(name).removeprefix("rabbit_").removesuffix("_queue")


def odd_key(row: Item) -> str | None:
    """A key of a row whose value is no text, and has to be one; None if all are well."""
    return next((key for key in sorted(TEXTS & row.keys()) if not isinstance(row[key], str | None)), None)


def arguments(row: Item) -> Mapping[str, Any]:
    """The arguments of a queue, exchange, binding or consumer; a row without any may hold an empty list."""
    found = row.get("arguments")
    return found if isinstance(found, Mapping) else {}


def definition(policy: Item) -> Mapping[str, Any]:
    """The settings of a policy."""
    found = policy.get("definition")
    return found if isinstance(found, Mapping) else {}


def named(kind: str, row: Item) -> str:
    """How a row is called in the report, such as ``queue 'orders' in vhost '/'``."""
    name = f"{kind} {row.get('name')!r}"
    return f"{name} in vhost {row['vhost']!r}" if "vhost" in row else name
