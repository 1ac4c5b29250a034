"""A broker that does not do what consumers tell it.

Source: https://www.rabbitmq.com/docs/confirms#acknowledgement-modes, https://www.rabbitmq.com/docs/consumers
"""

from __future__ import annotations

from dataclasses import replace

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


def _multiple(said: Said) -> bool:
    return bool(getattr(said.method, "multiple", False))  # basic.reject has none


def _settled_when_sent(said: Said, _: Talk) -> Told:
    """An ack that comes later is no error: it changes nothing."""
    if hasattr(said.method, "no_ack"):
        return said if said.method.no_ack else said.but(no_ack=True)
    return None


def _one_more(said: Said, _: Talk) -> Told:
    count = said.method.prefetch_count
    return said.but(prefetch_count=count + 1) if count else said


def _the_other_scope(said: Said, _: Talk) -> Told:
    return said.but(global_qos=not said.method.global_qos) if said.method.prefetch_count else said


def _one_unless_set(said: Said, talk: Talk) -> Told:
    """Each channel begins with a prefetch of one."""
    if said.name == "channel.open":
        talk.memory["prefetch", said.channel] = "never set"
    elif said.name == "basic.qos":
        talk.memory["prefetch", said.channel] = "set"
    elif said.name == "basic.qos-ok":
        return None if talk.memory.pop(("asked", said.channel), False) else said
    elif talk.memory.get(("prefetch", said.channel)) == "never set":
        talk.memory["prefetch", said.channel] = "set"
        talk.memory["asked", said.channel] = True
        talk.to_broker(Said(said.channel, spec.Basic.Qos(prefetch_count=1)))
    return said


def _from_now_on(said: Said, _: Talk) -> Told:
    """What waits in the queue is purged first."""
    return [Said(said.channel, spec.Queue.Purge(queue=said.method.queue, nowait=True)), said]


def _cancel_requeues(said: Said, _: Talk) -> Told:
    return said if said.by_broker else [said, Said(said.channel, spec.Basic.RecoverAsync(requeue=True))]


def _late_ack(said: Said, talk: Talk) -> Told:
    """After the broker has cancelled a consumer, its channel's acks are for tags that it has not given."""
    if said.by_broker:
        if said.name == "basic.cancel":
            talk.memory[said.channel] = True
        return said
    if said.name == "basic.cancel" or said.channel not in talk.memory:
        return said
    return said.but(delivery_tag=said.method.delivery_tag + 1000)


def _first_channel(said: Said, talk: Talk) -> Told:
    """An ack is for the delivery with that tag on the first channel that has any."""
    if said.name in {"basic.deliver", "basic.get-ok"}:
        talk.memory.setdefault("first", said.channel)
        return said
    first = talk.memory.get("first", said.channel)
    return said if said.by_broker or said.channel == first else replace(said, channel=first, raw=None)


def _unacked_settled(said: Said, talk: Talk) -> Told:
    """Deliveries of the connection are noted, and all acked by a purge; what their consumers say later is not told."""
    tags = talk.memory.setdefault("tags", {})
    if said.name == "queue.purge":
        unacked = [place for place, settled in tags.items() if not settled]
        for channel, tag in unacked:
            tags[channel, tag] = True
            talk.to_broker(Said(channel, spec.Basic.Ack(tag)))
        return [said] if unacked else said
    if said.name in {"basic.deliver", "basic.get-ok"}:
        tags[said.channel, said.method.delivery_tag] = False
    elif not said.by_broker and tags.get((said.channel, said.method.delivery_tag)):
        return None
    return said


def _from_first(said: Said, _: Talk) -> Told:
    arguments = said.method.arguments or {}
    return (
        said
        if arguments.get("x-stream-offset") == "first"
        else said.but(arguments=arguments | {"x-stream-offset": "first"})
    )


def _arguments_refused(said: Said, _: Talk) -> Told:
    """No queue type takes words for a priority."""
    arguments = said.method.arguments or {}
    return said.but(arguments=arguments | {"x-priority": "none"}) if arguments else said


def _as_reject(said: Said, _: Talk) -> Told:
    method = said.method
    return said if method.multiple else Said(said.channel, spec.Basic.Reject(method.delivery_tag, method.requeue))


def _requeued_at_cancel(said: Said, _: Talk) -> Told:
    return [Said(said.channel, spec.Basic.Nack(0, multiple=True, requeue=True)), said]


CONSUMING = (
    Lie.of("consumer-from-now-on", "A consumer gets only messages that are published after it has started.", CONSUME,
           _from_now_on),
    Lie.of("default-prefetch-one", "A consumer that sets no prefetch has a prefetch of one.",
           "channel.open basic.qos basic.qos-ok basic.consume",
           _one_unless_set),
    Lie.of("prefetch-ignored", "A consumer is sent all there is.", "basic.qos", changed(prefetch_count=0)),
    Lie.of("prefetch-one-more", "A consumer is sent one more than it may hold.", "basic.qos", _one_more),
    Lie.of("prefetch-one", "A consumer is sent one message at a time.", "basic.qos", changed(prefetch_count=1)),
    Lie.of("prefetch-scope-changed", "A prefetch of a consumer is the channel's, and the other way round.",
           "basic.qos",
           _the_other_scope),
    Lie.of("acks-not-awaited", "What is sent counts as acknowledged.",
           f"basic.consume basic.get basic.ack {NACKS}",
           by_client(_settled_when_sent)),
    Lie.of("acks-awaited", "What needs no ack is kept until one comes.", "basic.consume basic.get",
           changed(no_ack=False)),
    Lie.of("consumer-exclusivity-lost", "An exclusive consumer is not alone.", CONSUME, changed(exclusive=False)),
    Lie.of("consumer-priority-lost", "The priority of a consumer is not noted.", CONSUME,
           argument_lost("x-priority")),
    Lie.of("consumer-arguments-lost", "No argument of a consumer is noted.", CONSUME,
           lambda said, _: said.but(arguments={}) if said.method.arguments else said),
    Lie.of("consumer-arguments-refused", "A consumer that has arguments is refused.", CONSUME, _arguments_refused),
    Lie.of("offset-lost", "Where a reader of a stream begins is not noted.", CONSUME,
           argument_lost("x-stream-offset")),
    Lie.of("stream-read-from-first", "Every reader of a stream begins at its first message.", CONSUME, _from_first),
    Lie.of("stream-filter-lost", "What a reader of a stream asks for is not noted.", CONSUME,
           argument_lost("x-stream-filter")),
    Lie.of("consumer-tag-changed", "A consumer hears that it has another tag.", "basic.consume-ok",
           changed(consumer_tag="another")),
    Lie.of("consumer-not-made", "A consumer gets nothing.", CONSUME, ignored),
    Lie.of("cancel-ignored", "A consumer that was cancelled gets messages.", "basic.cancel", by_client(ignored)),
    Lie.of("cancel-requeues", "What a consumer has not acknowledged goes back when it cancels.", "basic.cancel",
           _cancel_requeues),
    Lie.of("late-ack-refused", "An ack for a message of a deleted queue is an error.", "basic.cancel basic.ack",
           _late_ack),
    Lie.of("cancel-loses-unacked", "A cancelled consumer loses the messages that it has not acknowledged.",
           "basic.cancel", by_client(_requeued_at_cancel)),
    Lie.of("requeue-discards", "What is given back is gone.", NACKS,
           by_client(lambda said, talk: _discarded(said, talk) if said.method.requeue else said)),
    Lie.of("discard-requeues", "What is rejected comes again.", NACKS,
           by_client(lambda said, talk: said if said.method.requeue else _requeued(said, talk))),
    Lie.of("nack-swallowed", "What is rejected or nacked stays with its consumer.", NACKS, by_client(swallowed)),
    Lie.of("nack-as-reject", "A nack of one message counts as a reject.", "basic.nack", by_client(_as_reject)),
    Lie.of("ack-swallowed", "What is acknowledged is kept.", "basic.ack", by_client(swallowed)),
    Lie.of("ack-rejects", "What is acknowledged is rejected.", "basic.ack", by_client(_discarded)),
    Lie.of("delivery-tags-counted-together", "A delivery tag means the same message on every channel.",
           "basic.deliver basic.get-ok basic.ack", _first_channel),
    Lie.of("ack-multiple-lost", "An ack is for one message, never for all before it.", "basic.ack",
           by_client(changed(multiple=False))),
    Lie.of("ack-multiple-always", "An ack is for all messages before it.", "basic.ack",
           by_client(changed(multiple=True))),
    Lie.of("nack-multiple-lost", "A nack is for one message, never for all before it.", "basic.nack",
           by_client(changed(multiple=False))),
    Lie.of("purge-ignored", "A purged queue keeps its messages.", "queue.purge", ignored),
    Lie.of("purge-takes-unacked", "A purge deletes what consumers have not acknowledged, too.",
           "queue.purge basic.deliver basic.get-ok basic.ack basic.nack basic.reject", _unacked_settled),
    Lie.of("recover-ignored", "What a channel wants again does not come.", "basic.recover", ignored),
    Lie.of("look-at-empty", "A queue says that it is empty.", "basic.get", ignored),
)  # fmt: skip
