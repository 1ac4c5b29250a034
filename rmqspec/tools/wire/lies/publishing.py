"""A broker that takes in something else than was published.

Source: https://www.rabbitmq.com/docs/publishers#message-properties
"""

from __future__ import annotations

from dataclasses import replace

from pika import DeliveryMode, spec

from rmqspec.tools.wire.lies.lie import Lie, Talk, Told, changed, header_lost, ignored, property_lost
from rmqspec.tools.wire.said import Said

__all__ = ["PUBLISHING", "flipped"]

PUBLISH = "basic.publish"
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


def _to_queue(said: Said, _: Talk) -> Told:
    return said.but(exchange="") if said.method.exchange else said


def _priority_reversed(said: Said, _: Talk) -> Told:
    priority = getattr(said.properties, "priority", None)
    return said if priority is None else said.having(priority=max(0, 10 - priority))


def _committed(said: Said, talk: Talk) -> Told:
    """The client hears that it was rolled back."""
    if said.name == "tx.rollback":
        talk.memory[said.channel] = True
        return replace(said, method=spec.Tx.Commit(), raw=None)
    if talk.memory.pop(said.channel, False):
        return replace(said, method=spec.Tx.RollbackOk(), raw=None)
    return said


PUBLISHING = (
    Lie.of("message-lost", "A message goes nowhere, and is confirmed.", PUBLISH, _sent_astray),
    Lie.of("second-message-lost", "Every second message goes nowhere, and is confirmed.", PUBLISH, _second_lost),
    Lie.of("exchange-ignored", "A message goes to the queue that has its key as name.", PUBLISH, _to_queue),
    Lie.of("key-lost", "The routing key of a message is empty.", PUBLISH, changed(routing_key="")),
    Lie.of("mandatory-lost", "What cannot be routed is dropped though it is mandatory.", PUBLISH,
           changed(mandatory=False)),
    Lie.of("mandatory-always", "What cannot be routed comes back though it is not mandatory.", PUBLISH,
           changed(mandatory=True)),
    Lie.of("persistence-lost", "A persistent message is transient.", PUBLISH, _transient),
    Lie.of("made-persistent", "A transient message is persistent.", PUBLISH, _persistent),
    Lie.of("priority-lost", "The priority of a message is not seen.", PUBLISH, property_lost("priority")),
    Lie.of("priority-reversed", "What is urgent comes last.", PUBLISH, _priority_reversed),
    Lie.of("expiration-lost", "A message does not expire.", PUBLISH, property_lost("expiration")),
    Lie.of("body-falsified", "A bit of the body is another.", PUBLISH, flipped),
    Lie.of("body-cut", "The last byte of the body is missing.", PUBLISH,
           lambda said, _: said.having(body=said.body[:-1]) if said.body else said),
    Lie.of("headers-lost", "The headers of a message are not there.", PUBLISH, property_lost("headers")),
    Lie.of("correlation-id-lost", "The correlation id is not there.", PUBLISH, property_lost("correlation_id")),
    Lie.of("reply-to-lost", "The return address is not there.", PUBLISH, property_lost("reply_to")),
    Lie.of("message-id-lost", "The message id is not there.", PUBLISH, property_lost("message_id")),
    Lie.of("content-type-lost", "The content type is not there.", PUBLISH, property_lost("content_type")),
    Lie.of("type-lost", "The type of a message is not there.", PUBLISH, property_lost("type")),
    Lie.of("timestamp-lost", "The time of a message is not there.", PUBLISH, property_lost("timestamp")),
    Lie.of("user-id-unchecked", "Whose a message is, is not looked at.", PUBLISH, property_lost("user_id")),
    Lie.of("cc-lost", "CC is not seen.", PUBLISH, header_lost("CC")),
    Lie.of("bcc-lost", "BCC is not seen.", PUBLISH, header_lost("BCC")),
    Lie.of("bcc-told", "Whoever gets a message sees BCC.", PUBLISH, _bcc_as_cc),
    Lie.of("transaction-ignored", "What is in a transaction is done at once.", "tx.select tx.commit tx.rollback",
           ignored),
    Lie.of("commit-lost", "A commit does nothing.", "tx.commit", ignored),
    Lie.of("rollback-commits", "A rollback commits.", "tx.rollback tx.commit-ok", _committed),
)  # fmt: skip
