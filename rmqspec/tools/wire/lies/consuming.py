"""A broker that does not do what consumers tell it.

Source: https://www.rabbitmq.com/docs/confirms#acknowledgement-modes, https://www.rabbitmq.com/docs/consumers
"""

from __future__ import annotations

from pika import spec

from rmqspec.tools.wire.lies.lie import Lie, Talk, Told, argument_lost, by_client, changed, ignored, swallowed
from rmqspec.tools.wire.said import Said

__all__ = ["CONSUMING"]

NACKS = "basic.nack basic.reject"
CONSUME = "basic.consume"


def _nacked(said: Said, *, requeue: bool) -> Said:
    return Said(said.channel, spec.Basic.Nack(said.method.delivery_tag, _multiple(said), requeue))


def _requeued(said: Said, _: Talk) -> Told:
    return _nacked(said, requeue=True)


def _discarded(said: Said, _: Talk) -> Told:
    return _nacked(said, requeue=False)


def _acknowledged(said: Said, _: Talk) -> Told:
    return Said(said.channel, spec.Basic.Ack(said.method.delivery_tag, _multiple(said)))


def _multiple(said: Said) -> bool:
    return bool(getattr(said.method, "multiple", False))  # basic.reject has none


def _one_more(said: Said, _: Talk) -> Told:
    count = said.method.prefetch_count
    return said.but(prefetch_count=count + 1) if count else said


def _the_other_scope(said: Said, _: Talk) -> Told:
    return said.but(global_qos=not said.method.global_qos) if said.method.prefetch_count else said


CONSUMING = (
    Lie.of("prefetch-ignored", "A consumer is sent all there is.", "basic.qos", changed(prefetch_count=0)),
    Lie.of("prefetch-one-more", "A consumer is sent one more than it may hold.", "basic.qos", _one_more),
    Lie.of("prefetch-one", "A consumer is sent one message at a time.", "basic.qos", changed(prefetch_count=1)),
    Lie.of("prefetch-scope-changed", "A prefetch of a consumer is the channel's, and the other way round.",
           "basic.qos",
           _the_other_scope),
    Lie.of("acks-not-awaited", "What is sent counts as acknowledged.", "basic.consume basic.get",
           changed(no_ack=True)),
    Lie.of("acks-awaited", "What needs no ack is kept until one comes.", "basic.consume basic.get",
           changed(no_ack=False)),
    Lie.of("consumer-exclusivity-lost", "An exclusive consumer is not alone.", CONSUME, changed(exclusive=False)),
    Lie.of("consumer-priority-lost", "The priority of a consumer is not noted.", CONSUME,
           argument_lost("x-priority")),
    Lie.of("offset-lost", "Where a reader of a stream begins is not noted.", CONSUME,
           argument_lost("x-stream-offset")),
    Lie.of("consumer-tag-lost", "A consumer gets another tag than it asked for.", CONSUME,
           changed(consumer_tag="")),
    Lie.of("consumer-not-made", "A consumer gets nothing.", CONSUME, ignored),
    Lie.of("cancel-ignored", "A consumer that was cancelled gets messages.", "basic.cancel", by_client(ignored)),
    Lie.of("requeue-discards", "What is given back is gone.", NACKS,
           by_client(lambda said, talk: _discarded(said, talk) if said.method.requeue else said)),
    Lie.of("discard-requeues", "What is rejected comes again.", NACKS,
           by_client(lambda said, talk: said if said.method.requeue else _requeued(said, talk))),
    Lie.of("nack-acknowledges", "What is rejected is done.", NACKS, by_client(_acknowledged)),
    Lie.of("ack-swallowed", "What is acknowledged is kept.", "basic.ack", by_client(swallowed)),
    Lie.of("ack-requeues", "What is acknowledged comes again.", "basic.ack", by_client(_requeued)),
    Lie.of("ack-rejects", "What is acknowledged is rejected.", "basic.ack", by_client(_discarded)),
    Lie.of("ack-multiple-lost", "An ack is for one message, never for all before it.", "basic.ack",
           by_client(changed(multiple=False))),
    Lie.of("ack-multiple-always", "An ack is for all messages before it.", "basic.ack",
           by_client(changed(multiple=True))),
    Lie.of("nack-multiple-lost", "A nack is for one message, never for all before it.", "basic.nack",
           by_client(changed(multiple=False))),
    Lie.of("recover-ignored", "What a channel wants again does not come.", "basic.recover", ignored),
    Lie.of("look-at-empty", "A queue says that it is empty.", "basic.get", ignored),
)  # fmt: skip
