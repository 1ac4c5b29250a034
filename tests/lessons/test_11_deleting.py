"""Deleting: by hand, on condition, and by itself.

Deletion asks no questions: a queue goes with its messages, an exchange with its bindings, and who deletes what is not
there hears that it is done. Whoever tidies up can set a condition. Some things delete themselves when the last who used
them has gone: an auto-delete queue after its last consumer, an auto-delete exchange after its last binding. To purge is
less than to delete: the queue stays, and so does what a consumer has in its hands.

Everything in the order system is there to stay; what an operator throws away, `rmqspec dead-letters purge` counts.

Spec: https://www.rabbitmq.com/docs/queues#temporary-queues
Code: rmqspec/orders/dead_letters.py, rmqspec/orders/topology.py
"""

import pytest

from rmqspec.orders.dead_letters import purge
from rmqspec.orders.topology import FAILED

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def queue(channel):
    channel.queue_declare("work", durable=True)
    return "work"


@pytest.fixture
def held(connection, channel, queue):
    """The channel of a consumer that holds the first of three messages."""
    for body in (b"held", b"first", b"second"):
        channel.basic_publish("", queue, body)
    holder = connection.channel()
    holder.basic_get(queue)
    return holder


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("QDEL-03", "CHAN-03")
    @pytest.mark.parametrize(("condition", "words"), [("if_unused", "in use"), ("if_empty", "not empty")])
    @lie("queue-look-declares")
    def test_deletes_no_queue_that_is_needed(self, queue, held, refusal, lookup, condition, words):
        """Who tidies up says so: without these conditions a queue goes with all that it holds."""
        if condition == "if_unused":
            held.basic_consume(queue, lambda *_: None)

        said = refusal(lambda careless: careless.queue_delete(queue, **{condition: True}))

        assert (said.code, said.closed, words in said.text) == (406, "channel", True)
        assert lookup("queue", queue) == "exists"

    @behaviour("QDEL-04", "CHAN-04")
    @pytest.mark.parametrize("condition", ["if_unused", "if_empty"])
    @lie("queue-delete-ignored")
    def test_knows_no_conditions_for_a_quorum_queue(self, channel, refusal, condition):
        """It is not refused but not implemented, and that costs the whole connection: tidy up in another way."""
        channel.queue_declare("agreed", durable=True, arguments={"x-queue-type": "quorum"})

        said = refusal(lambda careless: careless.queue_delete("agreed", **{condition: True}))

        assert (said.code, said.closed, said.text[:15]) == (540, "connection", "NOT_IMPLEMENTED")

    @behaviour("QDEL-01", "QDEL-02", "XDECL-11")
    @lie("deleted-count-wrong")
    def test_says_how_much_it_deleted(self, channel, queue, held, refusal):
        """Nothing is as good as gone: to delete what is not there is no error, so two may tidy up at once."""
        counts = [channel.queue_delete(queue).method.message_count for _ in range(2)]

        assert counts == [2, 0]
        assert refusal(lambda careless: careless.exchange_delete("nowhere")).closed == "nothing"

    @behaviour("QDEL-06")
    @lie("purged-count-wrong")
    def test_purges_what_waits_and_not_what_is_held(self, channel, queue, held, eventually, drain):
        """What a consumer has in hand is its own until it says what became of it, and may come back."""
        purged = channel.queue_purge(queue).method.message_count
        held.basic_nack(1)
        eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count, 1)

        assert (purged, drain(queue)) == (2, [b"held"])

    @behaviour("XDECL-12", "XDECL-13", "CHAN-03")
    @lie("exchange-deleted-in-use")
    def test_deletes_an_exchange_with_its_bindings(self, channel, bound_queue, refusal, lookup, drain):
        """A namesake begins anew: who deletes and declares has to bind again, or nothing arrives."""
        channel.exchange_declare("post", "direct", durable=True)
        queue = bound_queue("post", "order")

        said = refusal(lambda careless: careless.exchange_delete("post", if_unused=True))
        channel.exchange_delete("post")
        channel.exchange_declare("post", "direct", durable=True)
        channel.basic_publish("post", "order", b"lost")
        channel.exchange_delete("post", if_unused=True)

        assert (said.code, said.closed, "in use" in said.text) == (406, "channel", True)
        assert (drain(queue), lookup("exchange", "post")) == ([], "missing")

    @behaviour("QAUTO-01", "QAUTO-02", "QAUTO-03")
    @pytest.mark.parametrize(
        "leave",
        [lambda reader: reader.basic_cancel("me"), lambda reader: reader.close()],
        ids=["cancelled", "channel_closed"],
    )
    @lie("queue-auto-delete-lost")
    def test_deletes_a_queue_after_its_last_consumer(self, connection, channel, lookup, leave):
        """It is made for whoever reads it: it waits for the first, and goes with the last; a get is no reader."""
        channel.queue_declare("passing", durable=True, auto_delete=True)
        channel.basic_get("passing")
        seen, readers = [lookup("queue", "passing")], [connection.channel() for _ in range(2)]
        for reader in readers:
            reader.basic_consume("passing", lambda *_: None, consumer_tag="me")

        for reader in readers:
            leave(reader)
            seen.append(lookup("queue", "passing"))

        assert seen == ["exists", "exists", "missing"]

    @behaviour("XAUTO-01", "XAUTO-02")
    @lie("exchange-auto-delete-lost")
    def test_deletes_an_exchange_after_its_last_binding(self, channel, bound_queue, lookup):
        """Programs that come and go leave nothing behind where they met."""
        channel.exchange_declare("passing", "fanout", durable=True, auto_delete=True)
        seen = [lookup("exchange", "passing")]
        first, last = bound_queue("passing"), bound_queue("passing")

        for leave in (lambda: channel.queue_unbind(first, "passing", ""), lambda: channel.queue_delete(last)):
            leave()
            seen.append(lookup("exchange", "passing"))

        assert seen == ["exists", "exists", "missing"]


class TestDeadLetters:
    """What our code adds: what is thrown away is counted, and nothing goes by mistake."""

    @lie("purged-count-wrong")
    def test_purge_only_what_waits(self, source, orders, connection, receive):
        """An operator purges while a colleague replays: what he has in hand is not gone under his hands."""
        for body in (b"in hand", b"waits", b"waits too"):
            orders.channel.basic_publish("", FAILED, body)
        colleague = connection.channel()
        colleague.basic_get(FAILED)

        assert purge(source) == 2

        colleague.close()
        assert [kept.body for kept in receive(FAILED)] == [b"in hand"]

    @lie("purged-count-wrong")
    def test_purge_nothing_where_nothing_failed(self, source):
        """Not even the queue need be there: it is declared, as by every part of the order system."""
        assert purge(source) == 0
