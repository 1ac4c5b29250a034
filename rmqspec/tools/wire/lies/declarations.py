"""A broker that does not note what was declared.

Source: https://www.rabbitmq.com/docs/queues#optional-arguments, https://www.rabbitmq.com/docs/exchanges
"""

from __future__ import annotations

from rmqspec.tools.wire.lies.lie import Lie, Talk, Tell, Told, argument_lost, changed, ignored
from rmqspec.tools.wire.said import Said

__all__ = ["DECLARATIONS"]


def _type(old: str, new: str) -> Tell:
    def tell(said: Said, _: Talk) -> Told:
        declares = said.method.type == old and not said.method.passive
        return said.but(type=new) if declares else said

    return tell


def _not_passive(said: Said, _: Talk) -> Told:
    return said.but(passive=False) if said.method.passive else said


def _answers_swapped(said: Said, talk: Talk) -> Told:
    """Of two questions that were asked at once the second is answered first."""
    asked = talk.memory.setdefault(said.channel, [])
    if not said.by_broker:
        asked.append(None)
        return said
    if len(asked) > 1 and asked[0] is None:
        asked[0] = said  # it waits for the next answer
        return None
    first = asked.pop(0) if asked else None
    if first is not None:
        asked[:1] = []
        return [said, first]
    return said


def _limit_halved(said: Said, _: Talk) -> Told:
    arguments = said.method.arguments or {}
    limit = arguments.get("x-max-length")
    return said.but(arguments=arguments | {"x-max-length": limit // 2}) if isinstance(limit, int) else said


def _ttl_doubled(said: Said, _: Talk) -> Told:
    arguments = said.method.arguments or {}
    ttl = arguments.get("x-message-ttl")
    return said.but(arguments=arguments | {"x-message-ttl": ttl * 100 + 60_000}) if isinstance(ttl, int) else said


def _lost(name: str, what: str, *keys: str) -> Lie:
    return Lie.of(name, f"{what} is not noted.", "queue.declare", argument_lost(*keys))


DECLARATIONS = (
    _lost("dead-letter-exchange-lost", "The dead-letter exchange of a queue", "x-dead-letter-exchange"),
    _lost("dead-letter-key-lost", "The dead-letter routing key of a queue", "x-dead-letter-routing-key"),
    _lost("dead-letter-strategy-lost", "That dead letters go at least once", "x-dead-letter-strategy"),
    _lost("message-ttl-lost", "How long a queue keeps messages", "x-message-ttl"),
    Lie.of("message-ttl-longer", "A queue keeps messages longer than was declared.", "queue.declare", _ttl_doubled),
    _lost("queue-expiry-lost", "How long a queue lives unused", "x-expires"),
    _lost("length-limit-lost", "How many messages a queue may hold", "x-max-length"),
    Lie.of("length-limit-halved", "A queue holds half of the messages it may.", "queue.declare", _limit_halved),
    _lost("byte-limit-lost", "How many bytes a queue may hold", "x-max-length-bytes"),
    _lost("overflow-lost", "What a full queue does", "x-overflow"),
    _lost("priority-levels-lost", "That a queue has priorities", "x-max-priority"),
    _lost("queue-type-lost", "The type of a queue", "x-queue-type"),
    _lost("queue-mode-lost", "The mode of a queue", "x-queue-mode"),
    _lost("queue-version-lost", "The storage version of a queue", "x-queue-version"),
    _lost("single-active-consumer-lost", "That a queue has one active consumer", "x-single-active-consumer"),
    _lost("delivery-limit-lost", "How often a message may come back", "x-delivery-limit"),
    _lost("stream-age-lost", "How old what a stream holds may be", "x-max-age"),
    _lost("segment-size-lost", "How large a segment of a stream is", "x-stream-max-segment-size-bytes"),
    _lost("leader-locator-lost", "Where the leader of a queue is to be", "x-queue-leader-locator"),
    Lie.of("arguments-lost", "No argument of a queue is noted.", "queue.declare",
           lambda said, _: said.but(arguments={}) if said.method.arguments else said),
    Lie.of("queue-durability-lost", "A durable queue is transient.", "queue.declare", changed(durable=False)),
    Lie.of("queue-made-durable", "A transient queue is durable.", "queue.declare", changed(durable=True)),
    Lie.of("queue-exclusivity-lost", "An exclusive queue is everybody's.", "queue.declare",
           changed(exclusive=False)),
    Lie.of("queue-auto-delete-lost", "A queue outlives its last consumer.", "queue.declare",
           changed(auto_delete=False)),
    Lie.of("queue-look-declares", "Who looks for a queue makes one.", "queue.declare", _not_passive),
    Lie.of("queue-not-made", "A queue is not made.", "queue.declare",
           lambda said, talk: said if said.method.passive else ignored(said, talk)),
    Lie.of("answers-swapped", "Of two declarations the second is answered first.", "queue.declare queue.declare-ok",
           _answers_swapped),
    Lie.of("queue-delete-ignored", "A deleted queue is still there.", "queue.delete", ignored),
    Lie.of("queue-deleted-in-use", "A queue is deleted though it is in use.", "queue.delete",
           changed(if_unused=False)),
    Lie.of("queue-deleted-full", "A queue is deleted though it holds messages.", "queue.delete",
           changed(if_empty=False)),
    Lie.of("purge-ignored", "A purged queue is not empty.", "queue.purge", ignored),
    Lie.of("fanout-as-direct", "A fanout exchange looks at the key.", "exchange.declare", _type("fanout", "direct")),
    Lie.of("direct-as-fanout", "A direct exchange does not look at the key.", "exchange.declare",
           _type("direct", "fanout")),
    Lie.of("topic-as-direct", "A topic exchange knows no wildcards.", "exchange.declare", _type("topic", "direct")),
    Lie.of("topic-as-fanout", "A topic exchange does not look at the key.", "exchange.declare",
           _type("topic", "fanout")),
    Lie.of("headers-as-fanout", "A headers exchange does not look at the headers.", "exchange.declare",
           _type("headers", "fanout")),
    Lie.of("alternate-exchange-lost", "The alternate exchange of an exchange is not noted.", "exchange.declare",
           argument_lost("alternate-exchange")),
    Lie.of("transient-exchange-not-made", "A transient exchange is not made.", "exchange.declare",
           lambda said, talk: said if said.method.durable or said.method.passive else ignored(said, talk)),
    Lie.of("exchange-durability-lost", "A durable exchange is transient.", "exchange.declare",
           changed(durable=False)),
    Lie.of("exchange-made-durable", "A transient exchange is durable.", "exchange.declare", changed(durable=True)),
    Lie.of("exchange-auto-delete-lost", "An exchange outlives its last binding.", "exchange.declare",
           changed(auto_delete=False)),
    Lie.of("exchange-internal-lost", "An internal exchange takes what clients publish.", "exchange.declare",
           changed(internal=False)),
    Lie.of("exchange-look-declares", "Who looks for an exchange makes one.", "exchange.declare", _not_passive),
    Lie.of("exchange-delete-ignored", "A deleted exchange is still there.", "exchange.delete", ignored),
    Lie.of("exchange-deleted-in-use", "An exchange is deleted though it is bound.", "exchange.delete",
           changed(if_unused=False)),
)  # fmt: skip
