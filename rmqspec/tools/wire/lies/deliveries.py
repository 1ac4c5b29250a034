"""A broker that hands out something else than it took in.

Source: https://www.rabbitmq.com/docs/queues#message-ordering, https://www.rabbitmq.com/docs/dlx#effects
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pika import BasicProperties, spec

from rmqspec.tools.wire.lies.lie import Lie, Talk, Tell, Told, changed, header_lost, property_lost
from rmqspec.tools.wire.lies.publishing import flipped
from rmqspec.tools.wire.said import Said

__all__ = ["DELIVERIES"]

DELIVER = "basic.deliver basic.get-ok"


def _deaths(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Tell:
    """An entry of x-death says something else."""

    def tell(said: Said, _: Talk) -> Told:
        deaths = said.headers.get("x-death")
        if not isinstance(deaths, list) or not all(isinstance(death, dict) for death in deaths):
            return said
        wrong = [death | change(death) for death in deaths]
        return said if wrong == deaths else said.having(headers=said.headers | {"x-death": wrong})

    return tell


def _number(change: Callable[[int], int], *names: str) -> Tell:
    """A header that is a number is another."""

    def tell(said: Said, _: Talk) -> Told:
        wrong = {name: change(said.headers[name]) for name in names if isinstance(said.headers.get(name), int)}
        return said.having(headers=said.headers | wrong) if wrong else said

    return tell


def _property(name: str, change: Callable[[Any], Any]) -> Tell:
    def tell(said: Said, _: Talk) -> Told:
        value = getattr(said.properties, name)
        return said if value is None else said.having(**{name: change(value)})

    return tell


def _reversed(said: Said, _: Talk) -> Told:
    return said.having(headers=dict(reversed(said.headers.items()))) if len(said.headers) > 1 else said


def _last_death_invented(said: Said, _: Talk) -> Told:
    """The first death is also called the last one."""
    names = ("reason", "queue", "exchange")
    first = {name: said.headers[f"x-first-death-{name}"] for name in names if f"x-first-death-{name}" in said.headers}
    last = {f"x-last-death-{name}": value for name, value in first.items()}
    wrong = said.headers | last
    return said if wrong == said.headers else said.having(headers=wrong)


def _cc_kept(said: Said, _: Talk) -> Told:
    """A dead letter has its copies in CC again; ``x-death`` knows them."""
    deaths = said.headers.get("x-death")
    first = deaths[0] if isinstance(deaths, list) and deaths else None
    keys = first.get("routing-keys") if isinstance(first, dict) else None
    if not isinstance(keys, list) or "CC" in said.headers:
        return said
    return said.having(headers=said.headers | {"CC": keys[1:]})


def _swapped(said: Said, talk: Talk) -> Told:
    """Two that follow each other change places; an odd one waits for the next."""
    place = said.channel, said.method.consumer_tag
    kept = talk.memory.pop(place, None)
    if kept is None:
        talk.memory[place] = said
        return None
    # The client sees the tags in order, and each message under the other's.
    return [said.but(delivery_tag=kept.method.delivery_tag), kept.but(delivery_tag=said.method.delivery_tag)]


def _to_the_first(said: Said, talk: Talk) -> Told:
    """The consumer that got the first message gets all the others too."""
    channel, tag = talk.memory.setdefault("first", (said.channel, said.method.consumer_tag))
    if said.channel == channel:
        return said
    return replace(said.but(consumer_tag=tag), channel=channel)


def _first_consumer_alone(said: Said, talk: Talk) -> Told:
    tag = said.method.consumer_tag
    return said if talk.memory.setdefault("first", tag) == tag else None


def _one_more(said: Said, _: Talk) -> Told:
    return said.but(message_count=said.method.message_count + 1)


def _body_of_last(said: Said, talk: Talk) -> Told:
    """Everybody gets the first message again."""
    first = talk.memory.setdefault("body", said.body)
    return said if first == said.body else said.having(body=first)


def _replies_swapped(said: Said, talk: Talk) -> Told:
    """Of two replies on a connection each has the body of the other."""
    if said.properties is None or said.properties.correlation_id is None or said.properties.reply_to:
        return said
    first = talk.memory.pop("first", None)
    if first is None:
        talk.memory["first"] = said
        return None
    return [first.having(body=said.body), said.having(body=first.body)]


def _claimed(said: Said, talk: Talk) -> Told:
    """Whatever reply comes, it says that it answers the last request of this connection."""
    if said.properties is None:
        return said
    if said.properties.reply_to:
        if said.name == "basic.publish":
            talk.memory["request"] = said.properties.correlation_id
        return said
    last = talk.memory.get("request")
    if said.name == "basic.publish" or last is None or said.properties.correlation_id in (None, last):
        return said
    return said.having(correlation_id=last)


def _reply_invented(said: Said, talk: Talk) -> Told:
    """Whoever asks is answered by the broker, with an empty reply."""
    if said.name == "basic.consume":
        talk.memory[said.method.queue] = said.method.consumer_tag
    elif tag := talk.memory.get(getattr(said.properties, "reply_to", None)):
        reply = BasicProperties(correlation_id=getattr(said.properties, "correlation_id", None))
        deliver = spec.Basic.Deliver(tag, 1, False, "", "reply")
        talk.to_client(Said(said.channel, deliver, reply, by_broker=True))
        return [said]
    return said


DELIVERIES = (
    Lie.of("redelivered-lost", "What was handed out before is not marked.", DELIVER, changed(redelivered=False)),
    Lie.of("redelivered-always", "What is handed out for the first time is marked.", DELIVER,
           changed(redelivered=True)),
    Lie.of("delivered-twice", "A message is handed out twice.", "basic.deliver", lambda said, _: [said, said]),
    Lie.of("deliveries-swapped", "Messages come in another order.", "basic.deliver", _swapped),
    Lie.of("delivery-lost", "A message does not reach its consumer.", "basic.deliver", lambda *_: None),
    Lie.of("one-consumer-gets-all", "One consumer gets the messages of all others.", "basic.deliver", _to_the_first),
    Lie.of("standby-never-served", "Only the first consumer of a connection that got a message gets any.",
           "basic.deliver", _first_consumer_alone),
    Lie.of("body-repeated", "Every message has the body of the first.", DELIVER, _body_of_last),
    Lie.of("delivered-body-falsified", "A bit of the body is another when it comes out.", DELIVER, flipped),
    Lie.of("delivered-key-lost", "A message comes without its routing key.", DELIVER, changed(routing_key="")),
    Lie.of("delivered-exchange-lost", "A message does not say which exchange it went through.", DELIVER,
           changed(exchange="")),
    Lie.of("delivery-tag-changed", "A message comes under the next tag.", DELIVER,
           lambda said, _: said.but(delivery_tag=said.method.delivery_tag + 1)),
    Lie.of("delivered-headers-lost", "A message comes without its headers.", DELIVER, property_lost("headers")),
    Lie.of("headers-reversed", "A message comes with its headers in the opposite order.", DELIVER, _reversed),
    Lie.of("x-death-count-wrong", "A dead letter has died once more than it has.", DELIVER,
           _deaths(lambda death: {"count": death.get("count", 0) + 1})),
    Lie.of("x-death-reason-wrong", "A dead letter died of something else.", DELIVER,
           _deaths(lambda death: {"reason": "rejected" if death.get("reason") == "expired" else "expired"})),
    Lie.of("x-death-queue-wrong", "A dead letter died in another queue.", DELIVER,
           _deaths(lambda _: {"queue": "other"})),
    Lie.of("x-death-exchange-wrong", "A dead letter came through another exchange.", DELIVER,
           _deaths(lambda _: {"exchange": "other"})),
    Lie.of("x-death-keys-wrong", "A dead letter had other keys.", DELIVER,
           _deaths(lambda _: {"routing-keys": ["other"]})),
    Lie.of("x-death-expiration-lost", "A dead letter does not say when it was to expire.", DELIVER,
           _deaths(lambda death: {"original-expiration": None} if "original-expiration" in death else {})),
    Lie.of("dead-letter-cc-kept", "A dead letter has its CC although the broker removes it.", DELIVER, _cc_kept),
    Lie.of("first-death-lost", "A dead letter does not say where it died first.", DELIVER,
           header_lost("x-first-death-queue", "x-first-death-reason", "x-first-death-exchange")),
    Lie.of("last-death-lost", "A dead letter does not say where it died last.", DELIVER,
           header_lost("x-last-death-queue", "x-last-death-reason", "x-last-death-exchange")),
    Lie.of("last-death-invented", "A dead letter names a last death though the broker has no such header.", DELIVER,
           _last_death_invented),
    Lie.of("delivery-count-lost", "A message does not say how often it came before.", DELIVER,
           header_lost("x-delivery-count", "x-acquired-count")),
    Lie.of("delivery-count-wrong", "A message says that it came once more than it has.", DELIVER,
           _number(lambda count: count + 1, "x-delivery-count", "x-acquired-count")),
    Lie.of("stream-offset-wrong", "A message says that it stands behind where it stands.", DELIVER,
           _number(lambda offset: offset + 1, "x-stream-offset")),
    Lie.of("correlation-id-changed", "A message has another correlation id.", DELIVER,
           _property("correlation_id", lambda name: name[::-1] + "?")),
    Lie.of("replies-swapped", "Two replies come with each other's body.", "basic.deliver", _replies_swapped),
    Lie.of("correlation-id-of-last-request", "Every reply has the correlation id of the caller's last request.",
           "basic.publish basic.deliver",
           _claimed),
    Lie.of("reply-invented", "A request is answered though nobody serves it.", "basic.consume basic.publish",
           _reply_invented),
    Lie.of("delivered-message-id-lost", "A message comes without its id.", DELIVER, property_lost("message_id")),
    Lie.of("delivered-expiration-wrong", "A message comes with an expiration that it did not have.", DELIVER,
           lambda said, _: said if said.properties and said.properties.expiration else said.having(expiration="60000")),
    Lie.of("delivery-mode-wrong", "A message comes with the other delivery mode.", DELIVER,
           _property("delivery_mode", lambda mode: 3 - mode)),
    Lie.of("left-count-wrong", "A queue says that it holds one message more.", "basic.get-ok", _one_more),
    Lie.of("message-count-wrong", "A queue says that it holds one message more than it does.", "queue.declare-ok",
           _one_more),
    Lie.of("consumer-count-wrong", "A queue says that it has one consumer more than it has.", "queue.declare-ok",
           lambda said, _: said.but(consumer_count=said.method.consumer_count + 1)),
    Lie.of("queue-name-changed", "A queue says that it has another name.", "queue.declare-ok",
           changed(queue="another")),
    Lie.of("purged-count-wrong", "A purge says that there was one message more.", "queue.purge-ok", _one_more),
    Lie.of("deleted-count-wrong", "A deletion says that there was one message more.", "queue.delete-ok", _one_more),
)  # fmt: skip
