"""A broker whose word about what was published is not to be trusted.

Source: https://www.rabbitmq.com/docs/confirms#publisher-confirms
"""

from __future__ import annotations

from pika import BasicProperties, spec

from rmqspec.tools.wire.lies.lie import Lie, Talk, Told, by_broker, changed, swallowed
from rmqspec.tools.wire.said import Said

__all__ = ["CONFIRMS"]

ACK = "basic.ack"
NO_ROUTE, NO_CONSUMERS = 312, 313


def _nack(said: Said, _: Talk) -> Told:
    return Said(said.channel, spec.Basic.Nack(said.method.delivery_tag, said.method.multiple, requeue=False))


def _ack(said: Said, _: Talk) -> Told:
    return Said(said.channel, spec.Basic.Ack(said.method.delivery_tag, said.method.multiple))


def _before_enqueued(said: Said, talk: Talk) -> Told:
    """Confirms a message and keeps it until the channel's next one comes; the broker's own confirms are not told."""
    memory = talk.memory.setdefault(said.channel, {"count": None, "kept": []})
    if said.name == "channel.open":
        talk.memory.pop(said.channel)
    elif said.name == "confirm.select":
        memory["count"] = memory["count"] or 0
    elif said.by_broker:
        return None if memory["count"] is not None else said
    elif said.name == "basic.publish" and memory["count"] is not None:
        memory["count"] += 1
        talk.to_client(Said(said.channel, spec.Basic.Ack(memory["count"])))
        earlier: list[Said] = memory["kept"]
        memory["kept"] = [said]
        return earlier
    return said


def _counted_together(said: Said, talk: Talk) -> Told:
    """The number of a publish is that of the connection, as if its channels did not count for themselves."""
    others = sum(count for channel, count in talk.memory.items() if channel != said.channel)
    talk.memory[said.channel] = max(talk.memory.get(said.channel, 0), said.method.delivery_tag)
    return said.but(delivery_tag=said.method.delivery_tag + others) if others else said


def _first_swallowed(said: Said, talk: Talk) -> Told:
    if talk.memory.setdefault(said.channel, said) is said:
        return None
    return said.but(multiple=False) if said.method.multiple else said


def _returned(said: Said, talk: Talk) -> Told:
    """The client gets a return, and the broker the message."""
    method = said.method
    if not method.mandatory:
        return said
    returned = spec.Basic.Return(NO_ROUTE, "NO_ROUTE", method.exchange, method.routing_key)
    talk.to_client(Said(said.channel, returned, said.properties or BasicProperties(), said.body, by_broker=True))
    return [said]


def _return_late(said: Said, talk: Talk) -> Told:
    """What was returned is confirmed first."""
    kept = talk.memory.setdefault(said.channel, [])
    if said.name == "basic.return":
        kept.append(said)
        return None
    if not said.by_broker or not kept:
        return said
    late, kept[:] = list(kept), []
    return [said, *late]


CONFIRMS = (
    Lie.of("confirm-swallowed", "No message is confirmed.", "basic.ack basic.nack", by_broker(swallowed)),
    Lie.of("first-confirm-swallowed", "The first message of a channel is not confirmed.", ACK,
           by_broker(_first_swallowed)),
    Lie.of("confirm-nacked", "What is in its queues is refused.", ACK, by_broker(_nack)),
    Lie.of("nack-confirmed", "What was refused is confirmed.", "basic.nack", by_broker(_ack)),
    Lie.of("confirm-before-enqueued", "A message is confirmed before it is in its queues.",
           "channel.open confirm.select basic.publish basic.ack basic.nack", _before_enqueued),
    Lie.of("confirms-counted-together", "The channels of a connection number their publishes together.", ACK,
           by_broker(_counted_together)),
    Lie.of("confirm-multiple-lost", "A confirm is for one message, never for all before it.", ACK,
           by_broker(changed(multiple=False))),
    Lie.of("routed-returned", "A mandatory message is returned though a queue has it.", "basic.publish", _returned),
    Lie.of("return-swallowed", "What cannot be routed does not come back.", "basic.return", swallowed),
    Lie.of("return-late", "What cannot be routed comes back behind its confirm.",
           "basic.return basic.ack basic.nack",
           _return_late),
    Lie.of("return-code-changed", "What cannot be routed comes back with another code.", "basic.return",
           lambda said, _: said.but(reply_code=NO_CONSUMERS if said.method.reply_code == NO_ROUTE else NO_ROUTE)),
    Lie.of("return-address-lost", "What cannot be routed does not say where it was to go.", "basic.return",
           changed(exchange="", routing_key="")),
    Lie.of("returned-body-lost", "What cannot be routed comes back empty.", "basic.return",
           lambda said, _: said.having(body=b"") if said.body else said),
)  # fmt: skip
