"""Deleting: by a client, under a condition, and automatically.

Deletion does not ask for confirmation: a queue is deleted with its messages, an exchange with its bindings, and to
delete something that does not exist is no error. A client may set a condition: `if_unused`, `if_empty`. Auto-delete
queues and exchanges delete themselves, a queue when its last consumer is gone and an exchange when its last binding is
gone. To purge a queue is less: the queue stays, and so do the messages that are unacked.

Nothing in the order system is temporary. `rmqspec dead-letters purge` says how many messages it deleted.

Spec: https://www.rabbitmq.com/docs/queues#temporary-queues
Code: rmqspec/orders/dead_letters.py, rmqspec/orders/topology.py
Reference: QDEL-01…04, QDEL-06, XDECL-11…13, QAUTO-01…03, XAUTO-01, XAUTO-02
"""

import pytest

from rmqspec.orders.dead_letters import purge
from rmqspec.orders.topology import FAILED

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def queue(channel):
    """A queue with three messages."""
    channel.queue_declare("work", durable=True)
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", "work", body)
    return "work"


class TestQueueDelete:
    """RabbitMQ: `queue.delete`."""

    @behaviour("QDEL-01", "QDEL-02")
    @lie("deleted-count-wrong")
    def test_returns_the_count_of_deleted_ready_messages_and_0_if_the_queue_is_missing(self, channel, queue, lookup):
        """To delete a missing queue is no error, so two programs may clean up at the same time."""
        first = channel.queue_delete(queue).method
        second = channel.queue_delete(queue).method

        assert first.message_count == 3
        assert second.message_count == 0
        assert lookup("queue", queue) == "missing"

    @behaviour("QDEL-03", "CHAN-03")
    @lie("queue-deleted-full")
    def test_with_if_empty_closes_the_channel_with_406_while_messages_are_ready(self, queue, refusal, lookup):
        """A cleanup job sets the condition; without it the queue is deleted with all its messages."""
        said = refusal(lambda careful: careful.queue_delete(queue, if_empty=True))

        assert said.code == 406
        assert said.closed == "channel"
        assert "not empty" in said.text
        assert lookup("queue", queue) == "exists"

    @behaviour("QDEL-03", "CHAN-03")
    @lie("queue-deleted-in-use")
    def test_with_if_unused_closes_the_channel_with_406_while_the_queue_has_a_consumer(
        self, connection, queue, refusal, lookup
    ):
        """Otherwise the consumer would lose its subscription."""
        connection.channel().basic_consume(queue, lambda *_: None)

        said = refusal(lambda careful: careful.queue_delete(queue, if_unused=True))

        assert said.code == 406
        assert said.closed == "channel"
        assert "in use" in said.text
        assert lookup("queue", queue) == "exists"


class TestQueuePurge:
    """RabbitMQ: `queue.purge`."""

    @behaviour("QDEL-06")
    @lie("purge-takes-unacked")
    def test_deletes_ready_messages_and_leaves_unacked_ones(self, connection, channel, queue, receive):
        """A consumer may still requeue its unacked message, so a queue need not stay empty after a purge."""
        holder = connection.channel()
        method, _, _ = holder.basic_get(queue)

        purged = channel.queue_purge(queue).method

        assert purged.message_count == 2
        holder.basic_nack(method.delivery_tag, requeue=True)
        (delivery,) = receive(queue)
        assert delivery.body == b"1"


class TestExchangeDelete:
    """RabbitMQ: `exchange.delete`."""

    @behaviour("XDECL-13")
    @lie("exchange-delete-ignored")
    def test_deletes_the_bindings_too(self, channel, bound_queue, drain):
        """An exchange that is declared again under the same name has no bindings: its messages are dropped."""
        channel.exchange_declare("post", "direct", durable=True)
        queue = bound_queue("post", "order")
        channel.basic_publish("post", "order", b"before")

        channel.exchange_delete("post")
        channel.exchange_declare("post", "direct", durable=True)

        channel.basic_publish("post", "order", b"after")
        assert drain(queue) == [b"before"]

    @behaviour("XDECL-12", "CHAN-03")
    @lie("exchange-deleted-in-use")
    def test_with_if_unused_closes_the_channel_with_406_while_the_exchange_has_a_binding(
        self, channel, bound_queue, refusal, lookup
    ):
        """Without a binding the same call deletes it."""
        channel.exchange_declare("post", "direct", durable=True)
        queue = bound_queue("post", "order")

        said = refusal(lambda careful: careful.exchange_delete("post", if_unused=True))

        assert said.code == 406
        assert said.closed == "channel"
        assert "in use" in said.text
        channel.queue_unbind(queue, "post", "order")
        channel.exchange_delete("post", if_unused=True)
        assert lookup("exchange", "post") == "missing"


class TestAutoDeleteQueue:
    """RabbitMQ: a queue that was declared with `auto_delete`."""

    @behaviour("QAUTO-01", "QAUTO-02", "QAUTO-03")
    @lie("queue-auto-delete-lost")
    @pytest.mark.parametrize(
        "leave",
        [lambda reader: reader.basic_cancel("me"), lambda reader: reader.close()],
        ids=["consumer_cancelled", "channel_closed"],
    )
    def test_is_deleted_when_its_last_consumer_is_gone_and_not_before_its_first(
        self, connection, channel, lookup, leave
    ):
        """It waits for its first consumer, and a `basic.get` is none; then it lives as long as anybody consumes."""
        channel.queue_declare("passing", durable=True, auto_delete=True)
        channel.basic_get("passing")
        before_any_consumer = lookup("queue", "passing")
        first = connection.channel()
        last = connection.channel()
        first.basic_consume("passing", lambda *_: None, consumer_tag="me")
        last.basic_consume("passing", lambda *_: None, consumer_tag="me")

        leave(first)
        after_the_first = lookup("queue", "passing")
        leave(last)
        after_the_last = lookup("queue", "passing")

        assert before_any_consumer == "exists"
        assert after_the_first == "exists"
        assert after_the_last == "missing"


class TestDeadLettersPurge:
    """Our command `rmqspec dead-letters purge`."""

    @lie("purged-count-wrong")
    def test_returns_the_count_of_deleted_messages_and_leaves_unacked_ones(self, source, orders, connection, receive):
        """An operator purges while a colleague replays: the message that is being replayed stays."""
        for body in (b"unacked", b"ready", b"ready too"):
            orders.channel.basic_publish("", FAILED, body)
        colleague = connection.channel()
        colleague.basic_get(FAILED)

        purged = purge(source)

        assert purged == 2
        colleague.close()
        (delivery,) = receive(FAILED)
        assert delivery.body == b"unacked"

    @lie("purged-count-wrong")
    def test_returns_0_if_the_queue_does_not_exist_yet(self, source):
        """It declares the queue, as every part of the order system does, and is no error on a new broker."""
        assert purge(source) == 0
