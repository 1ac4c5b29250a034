"""A broker that does not note what was declared.

Source: https://www.rabbitmq.com/docs/queues#optional-arguments, https://www.rabbitmq.com/docs/exchanges
"""

from __future__ import annotations

from pika import spec

from rmqspec.tools.wire.lies.lie import Lie, Talk, Tell, Told, argument_lost, changed, ignored
from rmqspec.tools.wire.said import Said

__all__ = ["DECLARATIONS"]


NO_VERSION = 3  # of the storage of classic queues


def _type(old: str, new: str) -> Tell:
    def tell(said: Said, _: Talk) -> Told:
        declares = said.method.type == old and not said.method.passive
        return said.but(type=new) if declares else said

    return tell


def _not_passive(said: Said, _: Talk) -> Told:
    return said.but(passive=False) if said.method.passive else said


def _exchange_anew(said: Said, talk: Talk) -> Told:
    method = said.method
    if method.passive or str(method.exchange).startswith("amq."):
        return said
    talk.to_broker(Said(said.channel, spec.Exchange.Delete(exchange=method.exchange, nowait=True)))
    return [said]


def _queue_anew(said: Said, talk: Talk) -> Told:
    method = said.method
    if method.passive or not method.queue:
        return said
    talk.to_broker(Said(said.channel, spec.Queue.Delete(queue=method.queue, nowait=True)))
    return [said]


def _missing_refused(said: Said, talk: Talk) -> Told:
    """Known are the exchanges that this connection has declared."""
    name = said.method.exchange
    known = talk.memory.setdefault("known", set())
    if said.name == "exchange.declare":
        known.add(name)
        return said
    if name in known:
        known.discard(name)
        return said
    return said.but(exchange="amq.direct")  # which no client may delete: 403


def _exchange_missing(said: Said, _: Talk) -> Told:
    return said.but(exchange=f"no {said.method.exchange}"[:255]) if said.method.passive else said


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


def _ttl_one(said: Said, _: Talk) -> Told:
    arguments = said.method.arguments or {}
    ttl = arguments.get("x-message-ttl")
    return said.but(arguments=arguments | {"x-message-ttl": 1}) if isinstance(ttl, int) and ttl > 1 else said


def _priorities_always(said: Said, _: Talk) -> Told:
    """A quorum queue becomes a classic one for it: before 4.0 no other has priorities."""
    arguments = said.method.arguments or {}
    if said.method.passive or arguments.get("x-max-priority") or arguments.get("x-queue-type") == "stream":
        return said
    kept = {key: value for key, value in arguments.items() if key != "x-queue-type"}
    return said.but(arguments=kept | {"x-max-priority": 10})


def _stream_as_queue(said: Said, talk: Talk) -> Told:
    """No reader may then say where it begins."""
    if said.name == "basic.consume":
        return argument_lost("x-stream-offset")(said, talk)
    is_stream = (said.method.arguments or {}).get("x-queue-type") == "stream"
    return argument_lost("x-queue-type")(said, talk) if is_stream else said


def _single_active_always(said: Said, _: Talk) -> Told:
    arguments = said.method.arguments or {}
    if said.method.passive or "x-single-active-consumer" in arguments or arguments.get("x-queue-type") == "stream":
        return said
    return said.but(arguments=arguments | {"x-single-active-consumer": True})


def _delivery_limit_assumed(limit: int) -> Tell:
    """A quorum queue without a delivery limit has this one."""

    def tell(said: Said, _: Talk) -> Told:
        arguments = said.method.arguments or {}
        if arguments.get("x-queue-type") != "quorum" or "x-delivery-limit" in arguments:
            return said
        return said.but(arguments=arguments | {"x-delivery-limit": limit})

    return tell


def _compared(key: str, value: object) -> Tell:
    """With any argument beside the type another one is noted, which a later declaration then lacks."""

    def tell(said: Said, _: Talk) -> Told:
        arguments = said.method.arguments or {}
        return said.but(arguments=arguments | {key: value}) if set(arguments) - {"x-queue-type", key} else said

    return tell


def _lost(name: str, what: str, *keys: str) -> Lie:
    return Lie.of(name, f"{what} is not noted.", "queue.declare", argument_lost(*keys))


def _lazy(said: Said, _: Talk) -> Told:
    arguments = said.method.arguments or {}
    if said.method.passive or "x-queue-mode" in arguments or "x-queue-type" in arguments:
        return said
    return said.but(arguments=arguments | {"x-queue-mode": "lazy"})


def _refused(said: Said, _: Talk) -> Told:
    """The broker refuses a version that there is not."""
    arguments = said.method.arguments or {}
    storage = {"x-queue-mode", "x-queue-version"} & set(arguments)
    if not storage or arguments.get("x-queue-version") == NO_VERSION:
        return said
    return said.but(arguments=arguments | {"x-queue-version": NO_VERSION})


DECLARATIONS = (
    Lie.of("storage-arguments-refused", "A queue whose mode or version is declared is refused.", "queue.declare",
           _refused),
    Lie.of("always-lazy", "A classic queue whose mode was not declared is lazy.", "queue.declare", _lazy),
    _lost("dead-letter-exchange-lost", "The dead-letter exchange of a queue", "x-dead-letter-exchange"),
    Lie.of("message-ttl-longer", "A queue keeps messages longer than was declared.", "queue.declare", _ttl_doubled),
    Lie.of("message-ttl-shorter", "A queue keeps messages for a millisecond, whatever was declared.",
           "queue.declare", _ttl_one),
    _lost("queue-expiry-lost", "How long a queue lives unused", "x-expires"),
    _lost("length-limit-lost", "How many messages a queue may hold", "x-max-length"),
    Lie.of("length-limit-halved", "A queue holds half of the messages it may.", "queue.declare", _limit_halved),
    _lost("byte-limit-lost", "How many bytes a queue may hold", "x-max-length-bytes"),
    _lost("overflow-lost", "What a full queue does", "x-overflow"),
    _lost("priority-levels-lost", "That a queue has priorities", "x-max-priority"),
    Lie.of("priorities-always", "A queue that was declared without priorities has them.", "queue.declare",
           _priorities_always),
    _lost("queue-type-lost", "The type of a queue", "x-queue-type"),
    Lie.of("stream-as-queue", "A stream loses what was read and acknowledged, as a queue does.",
           "queue.declare basic.consume", _stream_as_queue),
    _lost("queue-mode-lost", "The mode of a queue", "x-queue-mode"),
    _lost("queue-version-lost", "The storage version of a queue", "x-queue-version"),
    _lost("single-active-consumer-lost", "That a queue has one active consumer", "x-single-active-consumer"),
    Lie.of("single-active-consumer-always", "A queue has one active consumer though nobody declared that.",
           "queue.declare", _single_active_always),
    _lost("delivery-limit-lost", "How often a message may come back", "x-delivery-limit"),
    Lie.of("delivery-limit-always", "A quorum queue has a delivery limit of 20 though nobody declared it.",
           "queue.declare", _delivery_limit_assumed(20)),
    Lie.of("delivery-limit-never", "A quorum queue has no delivery limit of its own.", "queue.declare",
           _delivery_limit_assumed(-1)),
    _lost("segment-size-lost", "How large a segment of a stream is", "x-stream-max-segment-size-bytes"),
    _lost("leader-locator-lost", "Where the leader of a queue is to be", "x-queue-leader-locator"),
    Lie.of("arguments-lost", "No argument of a queue is noted.", "queue.declare",
           lambda said, _: said.but(arguments={}) if said.method.arguments else said),
    Lie.of("every-argument-compared", "Declarations are compared in arguments that the broker does not know.",
           "queue.declare", _compared("x-max-length-bytes", 2**30)),
    Lie.of("every-exchange-argument-compared", "Declarations of exchanges are compared in unknown arguments.",
           "exchange.declare", _compared("alternate-exchange", "amq.fanout")),
    Lie.of("queue-delete-ignored", "A deleted queue is still there.", "queue.delete", ignored),
    Lie.of("passive-declare-ignored", "Who looks for a queue hears that it is there, and the broker hears nothing.",
           "queue.declare", lambda said, talk: ignored(said, talk) if said.method.passive else said),
    Lie.of("queue-exclusivity-lost", "An exclusive queue is everybody's.", "queue.declare",
           changed(exclusive=False)),
    Lie.of("queue-auto-delete-lost", "A queue outlives its last consumer.", "queue.declare",
           changed(auto_delete=False)),
    Lie.of("queue-declared-anew", "A declaration makes a queue anew, without its messages.", "queue.declare",
           _queue_anew),
    Lie.of("exclusive-queue-auto-deleted", "An exclusive queue is deleted with its last consumer.", "queue.declare",
           lambda said, _: said.but(auto_delete=True) if said.method.exclusive and not said.method.passive else said),
    Lie.of("queue-look-declares", "Who looks for a queue makes one.", "queue.declare", _not_passive),
    Lie.of("answers-swapped", "Of two declarations the second is answered first.", "queue.declare queue.declare-ok",
           _answers_swapped),
    Lie.of("queue-deleted-in-use", "A queue is deleted though it is in use.", "queue.delete",
           changed(if_unused=False)),
    Lie.of("queue-deleted-full", "A queue is deleted though it holds messages.", "queue.delete",
           changed(if_empty=False)),
    Lie.of("fanout-as-direct", "A fanout exchange looks at the key.", "exchange.declare", _type("fanout", "direct")),
    Lie.of("direct-as-fanout", "A direct exchange does not look at the key.", "exchange.declare",
           _type("direct", "fanout")),
    Lie.of("topic-as-fanout", "A topic exchange does not look at the key.", "exchange.declare",
           _type("topic", "fanout")),
    Lie.of("alternate-exchange-lost", "The alternate exchange of an exchange is not noted.", "exchange.declare",
           argument_lost("alternate-exchange")),
    Lie.of("queue-not-made", "A queue is not made.", "queue.declare",
           lambda said, talk: said if said.method.passive else ignored(said, talk)),
    Lie.of("transient-exchange-not-made", "A transient exchange is not made.", "exchange.declare",
           lambda said, talk: said if said.method.durable or said.method.passive else ignored(said, talk)),
    Lie.of("exchange-durability-lost", "A durable exchange is transient.", "exchange.declare",
           changed(durable=False)),
    Lie.of("exchange-made-durable", "A transient exchange is durable.", "exchange.declare", changed(durable=True)),
    Lie.of("exchange-auto-delete-lost", "An exchange outlives its last binding.", "exchange.declare",
           changed(auto_delete=False)),
    Lie.of("exchange-internal-lost", "An internal exchange takes what clients publish.", "exchange.declare",
           changed(internal=False)),
    Lie.of("exchange-declared-anew", "A declaration makes an exchange anew, without its bindings.",
           "exchange.declare", _exchange_anew),
    Lie.of("exchange-look-declares", "Who looks for an exchange makes one.", "exchange.declare", _not_passive),
    Lie.of("exchange-missing", "Who looks for an exchange finds none.", "exchange.declare", _exchange_missing),
    Lie.of("exchange-delete-ignored", "A deleted exchange is still there.", "exchange.delete", ignored),
    Lie.of("deleting-the-missing-refused", "To delete an exchange that is not there is an error.",
           "exchange.declare exchange.delete", _missing_refused),
    Lie.of("exchange-deleted-in-use", "An exchange is deleted though it is bound.", "exchange.delete",
           changed(if_unused=False)),
)  # fmt: skip
