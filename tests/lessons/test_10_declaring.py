"""Declaring: a program states which queues and exchanges it needs, and the broker creates the missing ones.

A declaration creates what is missing and leaves what exists with the same properties unchanged. If it exists with other
properties, the declaration is an error. So every program can declare all that it uses at each start, and no program has
to start first. A passive declare only looks: it creates nothing, and is an error if the queue or exchange is missing.

Most of these errors close only the channel on which they were made. Some close the whole connection, for instance an
unknown exchange type before RabbitMQ 4.0 (503), or a declaration that uses a denied feature (541), such as a queue that
is neither durable nor exclusive. The official 4.3 denies such queues by default, according to its documentation.

The order system declares its topology from data, and each of its programs declares all of it.

Spec: https://www.rabbitmq.com/docs/queues#property-equivalence
Code: rmqspec/client/topology.py, rmqspec/orders/topology.py
Reference: QDECL-01, QDECL-03, QDECL-04, QDECL-11, QDECL-14…16, XDECL-01…09, EXCL-01…05, XAUTO-06, XAUTO-07, GET-01
"""

import pytest

from rmqspec.client.errors import ChannelClosed
from rmqspec.client.topology import Binding, Exchange, Queue, Topology

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


class TestQueueDeclare:
    """RabbitMQ: `queue.declare`."""

    @behaviour("QDECL-01")
    @lie("consumer-count-wrong")
    def test_returns_the_counts_of_ready_messages_and_consumers(self, connection, channel):
        """The cheapest look at a queue: it needs no management API, no other port, and no other password."""
        channel.queue_declare("work", durable=True)
        for body in (b"1", b"2", b"3"):
            channel.basic_publish("", "work", body)
        reader = connection.channel()
        reader.basic_qos(prefetch_count=1)
        reader.basic_consume("work", lambda *_: None)

        declared = channel.queue_declare("work", durable=True).method

        assert declared.queue == "work"
        assert declared.message_count == 2
        assert declared.consumer_count == 1

    @behaviour("QDECL-03")
    @lie("queue-name-changed")
    def test_generates_a_unique_name_if_the_name_is_empty(self, channel):
        """A program that needs a queue of its own need not invent a name that no other program uses."""
        first = channel.queue_declare("", exclusive=True).method.queue
        second = channel.queue_declare("", exclusive=True).method.queue

        assert first.startswith("amq.gen-")
        assert second.startswith("amq.gen-")
        assert first != second


class TestExclusiveQueue:
    """RabbitMQ: a queue that was declared with `exclusive`, which belongs to one connection."""

    @behaviour("EXCL-03")
    @lie("message-lost")
    def test_accepts_messages_published_by_other_connections(self, connect, channel):
        """Only its owner reads from it, and everybody may write into it: this is what a reply queue needs."""
        owner = connect().channel()
        owner.queue_declare("mine", exclusive=True)

        channel.basic_publish("", "mine", b"a reply", mandatory=True)

        _, _, body = owner.basic_get("mine", auto_ack=True)
        assert body == b"a reply"


class TestExchangeDeclare:
    """RabbitMQ: `exchange.declare`."""

    @behaviour("XDECL-01")
    @lie("exchange-declared-anew")
    def test_with_equal_properties_leaves_an_existing_exchange_and_its_bindings_unchanged(
        self, channel, bound_queue, drain
    ):
        """Each program declares everything at each start, and no message is lost by it."""
        channel.exchange_declare("post", "direct", durable=True)
        queue = bound_queue("post", "order")

        channel.exchange_declare("post", "direct", durable=True)

        channel.basic_publish("post", "order", b"letter")
        channel.basic_publish("post", "another", b"not bound")
        assert drain(queue) == [b"letter"]

    @behaviour("XDECL-02", "XDECL-04", "XAUTO-07", "CHAN-03")
    @lie("precondition-hidden")
    @pytest.mark.parametrize(
        "other",
        [
            {"exchange_type": "fanout"},
            {"durable": False},
            {"auto_delete": True},
            {"internal": True},
            {"arguments": {"alternate-exchange": "unrouted"}},
        ],
        ids=["type", "durable", "auto_delete", "internal", "alternate_exchange"],
    )
    def test_closes_the_channel_with_406_if_type_durable_auto_delete_internal_or_argument_differs(
        self, channel, refusal, other
    ):
        """Two programs that disagree are stopped when they start, and not when the first message is lost."""
        properties = {"exchange_type": "direct", "durable": True}
        channel.exchange_declare("post", **properties)

        said = refusal(lambda careless: careless.exchange_declare("post", **properties | other))

        assert said.code == 406
        assert said.closed == "channel"
        assert "inequivalent arg" in said.text


class TestPassiveDeclare:
    """RabbitMQ: a declaration with `passive`, which only looks."""

    @behaviour("QDECL-14", "QDECL-15", "CHAN-03")
    @lie("queue-look-declares")
    def test_of_a_missing_queue_closes_the_channel_with_404_and_creates_nothing(self, refusal):
        """A monitor that declared the queue it watches would hide that the queue is gone."""
        first = refusal(lambda channel: channel.queue_declare("post", passive=True))
        again = refusal(lambda channel: channel.queue_declare("post", passive=True))

        assert first.code == 404
        assert first.closed == "channel"
        assert first.text.startswith("NOT_FOUND - no queue 'post'")
        assert again.code == 404

    @behaviour("XDECL-05", "CHAN-03")
    @lie("exchange-look-declares")
    def test_of_a_missing_exchange_closes_the_channel_with_404_and_creates_nothing(self, refusal):
        """So probing wants a channel of its own: the one that asked is closed."""
        first = refusal(lambda channel: channel.exchange_declare("post", passive=True))
        again = refusal(lambda channel: channel.exchange_declare("post", passive=True))

        assert first.code == 404
        assert first.closed == "channel"
        assert first.text.startswith("NOT_FOUND - no exchange 'post'")
        assert again.code == 404


class TestTopology:
    """Our topology: the exchanges, queues and bindings of an application, as data."""

    NEEDS = Topology(
        exchanges=(Exchange("post", "direct"),),
        queues=(Queue("letters", {"x-max-length": 10}),),
        bindings=(Binding("post", "letters", "letter"),),
    )

    @lie("queue-declared-anew")
    def test_declares_all_parts_and_keeps_them_with_their_messages_when_declared_again(self, channel, drain):
        """Every service declares it at every start, in whatever order they start."""
        self.NEEDS.declare(channel)
        channel.basic_publish("post", "letter", b"kept")

        self.NEEDS.declare(channel)

        assert drain("letters") == [b"kept"]

    @lie("length-limit-lost")
    def test_raises_channel_closed_406_if_a_queue_exists_with_other_arguments(self, connection, channel):
        """A queue that was made by hand, a bit differently, is the usual reason why a service does not start."""
        channel.queue_declare("letters", durable=True)

        with pytest.raises(ChannelClosed, match=r"declaring the topology: .* inequivalent arg 'x-max-length'") as error:
            self.NEEDS.declare(connection.channel())

        assert error.value.reply_code == 406
