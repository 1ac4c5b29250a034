"""A broker that takes in something else than was published.

Source: https://www.rabbitmq.com/docs/publishers#message-properties
"""

from __future__ import annotations

from pika import DeliveryMode, spec

from rmqspec.tools.wire.lies.lie import Lie, Talk, Tell, Told, changed, header_lost, ignored, property_lost
from rmqspec.tools.wire.said import Said

__all__ = ["PUBLISHING", "flipped"]

PUBLISH = "basic.publish"
OWN = 2000  # a channel that no client opens
REPLY_TO = "amq.rabbitmq.reply-to."
NOWHERE = "a queue that nobody has"


def flipped(said: Said, _: Talk) -> Told:
    """One bit of the body's last byte is another; an empty body has none."""
    return said.having(body=said.body[:-1] + bytes([said.body[-1] ^ 1])) if said.body else said


def _transient(said: Said, _: Talk) -> Told:
    persistent = getattr(said.properties, "delivery_mode", None) == DeliveryMode.Persistent.value
    return said.having(delivery_mode=DeliveryMode.Transient.value) if persistent else said


def _persistent(said: Said, _: Talk) -> Told:
    persistent = getattr(said.properties, "delivery_mode", None) == DeliveryMode.Persistent.value
    return said if persistent else said.having(delivery_mode=DeliveryMode.Persistent.value)


def _bcc_as_cc(said: Said, _: Talk) -> Told:
    headers = dict(said.headers)
    copies, hidden = headers.get("CC", []), headers.pop("BCC", None)
    if not isinstance(hidden, list) or not isinstance(copies, list):
        return said
    headers["CC"] = copies + hidden
    return said.having(headers=headers)


def _sent_astray(said: Said, _: Talk) -> Told:
    """The broker confirms it all the same."""
    return said.but(exchange="", routing_key=NOWHERE, mandatory=False)


def _second_lost(said: Said, talk: Talk) -> Told:
    """Every second one goes nowhere."""
    talk.memory["count"] = talk.memory.get("count", 0) + 1
    return said if talk.memory["count"] % 2 else _sent_astray(said, talk)


def _key_counts(said: Said, talk: Talk) -> Told:
    """In a headers exchange that this connection has declared only messages without a key find their queues."""
    if said.name == "exchange.declare":
        if said.method.type == "headers":
            talk.memory[said.method.exchange] = True
        return said
    return _sent_astray(said, talk) if said.method.routing_key and said.method.exchange in talk.memory else said


def _to_alternate(said: Said, talk: Talk) -> Told:
    """Of exchanges that this connection has declared with an alternate."""
    if said.name == "exchange.declare":
        if alternate := (said.method.arguments or {}).get("alternate-exchange"):
            talk.memory[said.method.exchange] = alternate
        return said
    alternate = talk.memory.get(said.method.exchange)
    return said.but(exchange=alternate) if alternate else said


def _twice(said: Said, _: Talk) -> Told:
    """The broker confirms both copies, and the client hears of one."""
    if said.name == "basic.publish":
        return [said, said]
    if not said.by_broker:
        return said
    tag = said.method.delivery_tag
    second = said.method.multiple or tag % 2 == 0
    return said.but(delivery_tag=tag // 2) if second and tag > 1 else None


def _address_guessed(said: Said, talk: Talk) -> Told:
    """A reply to any address goes to the last address that a server of this connection has seen."""
    if said.by_broker:
        address = getattr(said.properties, "reply_to", None)
        if address and address.startswith(REPLY_TO):
            talk.memory["address"] = address
        return said
    address = talk.memory.get("address")
    if not address or not said.method.routing_key.startswith(REPLY_TO):
        return said
    return said if said.method.routing_key == address else said.but(routing_key=address)


def _rekeyed(said: Said, talk: Talk) -> Told:
    """A message goes straight to the exchange that this connection has last bound, under the key of the binding."""
    if said.name == "exchange.bind":
        talk.memory[said.method.source] = said.method.destination, said.method.routing_key
        return said
    if said.method.exchange not in talk.memory:
        return said
    destination, key = talk.memory[said.method.exchange]
    return said.but(exchange=destination, routing_key=key)


def _priority_reversed(said: Said, _: Talk) -> Told:
    priority = getattr(said.properties, "priority", None)
    return said if priority is None else said.having(priority=max(0, 10 - priority))


def _priority_assumed(priority: int) -> Tell:
    """A message without a priority has this one."""

    def tell(said: Said, _: Talk) -> Told:
        missing = getattr(said.properties, "priority", None) is None
        return said.having(priority=priority) if missing else said

    return tell


def _excess_priority_lost(said: Said, _: Talk) -> Told:
    """More than the 32 levels that a quorum queue has."""
    priority = getattr(said.properties, "priority", None)
    return said.having(priority=None) if priority is not None and priority > 31 else said


def _expiration_short(said: Said, _: Talk) -> Told:
    expiration = getattr(said.properties, "expiration", None)
    return said if expiration in {None, "1"} else said.having(expiration="1")


def _no_empty_words(said: Said, _: Talk) -> Told:
    key = said.method.routing_key
    words = ".".join(word for word in key.split(".") if word)
    return said if words == key else said.but(routing_key=words)


def _history(said: Said, talk: Talk) -> Told:
    """Messages are remembered, and sent to each queue that is bound, on a channel that the client does not know."""
    if said.channel == OWN:
        return None  # what the broker says there
    if said.name == "basic.publish":
        talk.memory.setdefault(said.method.exchange, []).append(said)
        return said
    if said.name != "queue.bind" or not (past := talk.memory.get(said.method.exchange)):
        return said
    if not talk.memory.get(OWN):
        talk.memory[OWN] = True
        talk.to_broker(Said(OWN, spec.Channel.Open()))
    for message in past:
        publish = spec.Basic.Publish(exchange="", routing_key=said.method.queue)
        talk.to_broker(Said(OWN, publish, message.properties, message.body))
    return said


def _routed_at_commit(said: Said, talk: Talk) -> Told:
    """What is published in a transaction is kept here until its end."""
    kept = talk.memory
    if said.name == "tx.select":
        kept.setdefault(said.channel, [])
    elif said.name == "basic.publish" and said.channel in kept:
        kept[said.channel].append(said)
        return None
    elif said.name == "tx.commit" and kept.get(said.channel):
        return [*kept.pop(said.channel), said]
    elif said.name in {"tx.rollback", "channel.open"}:
        kept.pop(said.channel, None)
    return said


def _rollback_requeues(said: Said, _: Talk) -> Told:
    return [said, Said(said.channel, spec.Basic.RecoverAsync(requeue=True))]


PUBLISHING = (
    Lie.of("history-delivered", "A queue that is bound gets messages from before.",
           "basic.publish queue.bind channel.open-ok channel.close",
           _history),
    Lie.of("key-in-lower-case", "The case of a routing key does not count.", PUBLISH,
           lambda said, _: said if said.method.routing_key.islower() or not said.method.routing_key
           else said.but(routing_key=said.method.routing_key.lower())),
    Lie.of("message-lost", "A message goes nowhere, and is confirmed.", PUBLISH, _sent_astray),
    Lie.of("second-message-lost", "Every second message goes nowhere, and is confirmed.", PUBLISH, _second_lost),
    Lie.of("key-counts-in-headers", "A headers exchange routes only messages with an empty routing key.",
           "exchange.declare basic.publish", _key_counts),
    Lie.of("alternate-gets-all", "Every message goes to the alternate exchange, also if a binding matches.",
           "exchange.declare basic.publish", _to_alternate),
    Lie.of("published-twice", "A queue gets two copies of a message.", "basic.publish basic.ack basic.nack", _twice),
    Lie.of("exchange-binding-key-replaces", "A message takes the key of the binding between two exchanges.",
           "exchange.bind basic.publish", _rekeyed),
    Lie.of("reply-address-guessed", "A reply to an address that nobody has comes to the last caller.",
           "basic.publish basic.deliver basic.get-ok", _address_guessed),
    Lie.of("key-lost", "The routing key of a message is empty.", PUBLISH, changed(routing_key="")),
    Lie.of("empty-words-dropped", "An empty word of a routing key does not count.", PUBLISH, _no_empty_words),
    Lie.of("mandatory-lost", "What cannot be routed is dropped though it is mandatory.", PUBLISH,
           changed(mandatory=False)),
    Lie.of("mandatory-always", "What cannot be routed comes back though it is not mandatory.", PUBLISH,
           changed(mandatory=True)),
    Lie.of("persistence-lost", "A persistent message is transient.", PUBLISH, _transient),
    Lie.of("made-persistent", "A transient message is persistent.", PUBLISH, _persistent),
    Lie.of("priority-lost", "The priority of a message is not seen.", PUBLISH, property_lost("priority")),
    Lie.of("priority-reversed", "What is urgent comes last.", PUBLISH, _priority_reversed),
    Lie.of("missing-priority-0", "A message without a priority has 0.", PUBLISH, _priority_assumed(0)),
    Lie.of("missing-priority-4", "A message without a priority has 4.", PUBLISH, _priority_assumed(4)),
    Lie.of("excess-priority-lost", "A priority above the maximum counts as none.", PUBLISH, _excess_priority_lost),
    Lie.of("expiration-lost", "A message does not expire.", PUBLISH, property_lost("expiration")),
    Lie.of("expiration-shorter", "A message expires after a millisecond, whatever its expiration.", PUBLISH,
           _expiration_short),
    Lie.of("body-falsified", "A bit of the body is another.", PUBLISH, flipped),
    Lie.of("headers-lost", "The headers of a message are not there.", PUBLISH, property_lost("headers")),
    Lie.of("reply-to-lost", "The return address is not there.", PUBLISH, property_lost("reply_to")),
    Lie.of("message-id-lost", "The message id is not there.", PUBLISH, property_lost("message_id")),
    Lie.of("content-type-lost", "The content type is not there.", PUBLISH, property_lost("content_type")),
    Lie.of("user-id-unchecked", "Whose a message is, is not looked at.", PUBLISH, property_lost("user_id")),
    Lie.of("cc-lost", "CC is not seen.", PUBLISH, header_lost("CC")),
    Lie.of("bcc-lost", "BCC is not seen.", PUBLISH, header_lost("BCC")),
    Lie.of("bcc-told", "Whoever gets a message sees BCC.", PUBLISH, _bcc_as_cc),
    Lie.of("transaction-ignored", "What is in a transaction is done at once.", "tx.select tx.commit tx.rollback",
           ignored),
    Lie.of("commit-lost", "A commit does nothing.", "tx.commit", ignored),
    Lie.of("routed-at-commit", "What is published in a transaction is not routed before the commit.",
           "channel.open tx.select tx.commit tx.rollback basic.publish", _routed_at_commit),
    Lie.of("rollback-requeues", "A rollback gives unacked messages back to their queue.", "tx.rollback",
           _rollback_requeues),
)  # fmt: skip
