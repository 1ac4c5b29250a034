"""Quorum queues: replicated queues that limit how often a message may fail.

A classic queue lives on one node. A quorum queue is replicated on several nodes, and a message is confirmed once a
majority of them has written it to disk. That is why a quorum queue is always durable and stores every message. The
specs here run on one node: they show what clients see, not that a message survives the loss of a machine.

A quorum queue also counts how often each message was delivered without success. A message that crashes its consumer,
a poison message, would otherwise be requeued and crash the next one, forever. At the delivery limit it is dead-lettered
instead. Since 4.0 the limit is 20 by default, and since 4.3 a nack does not count as a failure, but a reject does.

The order system uses classic queues, where an order that crashes its worker is redelivered without limit.

Spec: https://www.rabbitmq.com/docs/quorum-queues
Code: rmqspec/client/consumer.py, rmqspec/client/topology.py
Reference: QQDECL-01…03, POISON-01…09, QDUR-03, QDUR-07
"""

from contextlib import suppress

import pytest
from pika import BasicProperties, DeliveryMode, exceptions

from rmqspec.client import Consumer, connect

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq
pytestmark = pytest.mark.timeout(180)  # a broker of its own is started and restarted here

QUORUM = {"x-queue-type": "quorum"}
TO_DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
TRANSIENT = BasicProperties(delivery_mode=DeliveryMode.Transient)


@pytest.fixture
def queue(channel):
    """Declares a quorum queue with one message, whose dead letters go to `dead`: `queue(delivery_limit=2)`."""

    def declare(**arguments):
        named = {f"x-{argument.replace('_', '-')}": value for argument, value in arguments.items()}
        channel.queue_declare("dead", durable=True)
        channel.queue_declare("work", durable=True, arguments=QUORUM | TO_DEAD | named)
        channel.basic_publish("", "work", b"poison")
        return "work"

    return declare


@pytest.fixture(scope="module")
def restarted(disposable_broker, disposable_url, disposable_source):
    """The URL after the restart. A queue declared a moment before a `kill -9` instead might come back empty."""
    connection = connect(disposable_source, "before the restart")
    channel = connection.channel()
    channel.confirm_delivery()
    for name in ("transient", "unacked", "rejected"):
        channel.queue_declare(name, durable=True, arguments=QUORUM)
        channel.basic_publish("", name, b"first", TRANSIENT)
        channel.basic_publish("", name, b"second", TRANSIENT)
    unacked, _, _ = channel.basic_get("unacked")
    rejected, _, _ = channel.basic_get("rejected")
    assert unacked is not None, "a confirmed message is delivered"
    channel.basic_reject(rejected.delivery_tag, requeue=True)
    disposable_broker.restart()
    with suppress(exceptions.AMQPConnectionError):  # pika notices only here that the broker has gone
        connection.close()
    return disposable_url


class TestDeliveryLimit:
    """RabbitMQ: how often a message of a quorum queue may fail before it is dead-lettered."""

    @behaviour("POISON-01", "POISON-05")
    @lie("delivery-limit-lost")
    def test_of_2_dead_letters_a_poison_message_after_its_third_failed_delivery(self, channel, receive):
        """A limit of two allows two retries; the first delivery carries no `x-delivery-count`."""
        channel.queue_declare("dead", durable=True)
        channel.queue_declare(
            "work",
            durable=True,
            arguments={
                "x-queue-type": "quorum",
                "x-delivery-limit": 2,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": "dead",
            },
        )
        channel.basic_publish("", "work", b"poison")
        counts = []

        def fail(channel, method, properties, _body):
            headers = properties.headers or {}
            counts.append(headers.get("x-delivery-count"))
            channel.basic_reject(method.delivery_tag, requeue=True)

        channel.basic_consume("work", fail)

        (dead,) = receive("dead")  # meanwhile pika calls `fail` for each delivery
        assert dead.body == b"poison"
        assert dead.died_of == "delivery_limit"
        assert counts == [None, 1, 2]

    @behaviour("POISON-02")
    @rabbitmq(before="4.0")
    @lie("delivery-limit-always")
    def test_does_not_exist_by_default_before_4_0(self, queue, requeue_until_dead):
        """Without the argument a poison message is redelivered until a person ends it, as in a classic queue."""
        work = queue()

        counts, reason = requeue_until_dead(work)

        assert len(counts) == 22
        assert reason == "rejected"

    @behaviour("POISON-02")
    @rabbitmq(since="4.0")
    @lie("delivery-limit-never")
    def test_is_20_by_default_since_4_0(self, queue, requeue_until_dead):
        """The trap of the upgrade: without a dead-letter exchange, messages that were retried for ever are deleted."""
        work = queue()

        counts, reason = requeue_until_dead(work)

        assert len(counts) == 21
        assert reason == "delivery_limit"

    @behaviour("POISON-09", "POISON-04")
    @lie("delivery-count-lost")
    def test_counts_a_lost_connection_as_a_failure_of_all_its_unacked_messages(
        self, connect, channel, queue, subscribe_without_ack, cut, receive
    ):
        """One poison message also brings its neighbours in the prefetch nearer to the limit."""
        work = queue()
        channel.basic_publish("", work, b"neighbour")
        crashing = connect()
        subscribe_without_ack(crashing.channel(), work).wait_for(2)

        cut(crashing)

        counts = {delivery.body: delivery.headers.get("x-delivery-count") for delivery in receive(work, 2)}
        assert counts == {b"poison": 1, b"neighbour": 1}


class TestQuorumQueueAfterARestart:
    """RabbitMQ: a quorum queue after an orderly restart of its broker."""

    @pytest.fixture
    def url(self, restarted):
        """The fixtures that connect, connect to this broker."""
        return restarted

    @behaviour("QDUR-03")
    @lie("queue-type-lost")
    def test_still_has_its_transient_messages(self, drain):
        """Every message is stored: to publish as transient, in order to save the disk, saves nothing here."""
        assert drain("transient") == [b"first", b"second"]

    @behaviour("QDUR-07", "POISON-04")
    @lie("delivery-count-lost")
    @pytest.mark.parametrize("name", ["unacked", "rejected"])
    def test_still_has_delivery_counts_and_has_counted_unacked_messages_as_failed(self, receive, name):
        """A poison message does not start anew with each restart; the restart itself is a failure of unacked ones."""
        counts = {delivery.body: delivery.headers.get("x-delivery-count") for delivery in receive(name, 2)}

        assert counts == {b"first": 1, b"second": None}


class TestQuorumQueueDeclaration:
    """RabbitMQ: properties that a quorum queue cannot have."""

    @behaviour("QQDECL-01", "CHAN-03")
    @lie("precondition-hidden")
    @pytest.mark.parametrize(
        ("properties", "reason"),
        [
            ({"durable": False}, "invalid property 'non-durable'"),
            ({"exclusive": True}, "invalid property 'exclusive-owner'"),
            ({"auto_delete": True}, "invalid property 'auto-delete'"),
            ({"queue": ""}, "server-named"),
        ],
        ids=["transient", "exclusive", "auto_delete", "server_named"],
    )
    def test_closes_the_channel_with_406_if_transient_exclusive_auto_delete_or_server_named(
        self, queue, refusal, lookup, properties, reason
    ):
        """It is replicated to keep data for long; a temporary queue of one client is a classic queue."""
        known = queue()
        declared = {"queue": "other", "durable": True, "arguments": QUORUM} | properties

        said = refusal(lambda channel: channel.queue_declare(**declared))

        assert said.code == 406
        assert said.closed == "channel"
        assert reason in said.text
        assert lookup("queue", known) == "exists"


class TestConsumer:
    """Our consumer: a handler that raises ends it."""

    @behaviour("POISON-04")
    @lie("delivery-limit-lost")
    def test_crashes_three_times_on_a_poison_message_before_a_delivery_limit_of_2_dead_letters_it(
        self, source, queue, receive, run_until_it_ends
    ):
        """A supervisor that restarts the consumer each time makes a loop that only the delivery limit ends."""
        work = queue(delivery_limit=2)
        handled = []

        def crash(delivery):
            handled.append(delivery.body)
            raise MemoryError

        for _ in range(3):
            with pytest.raises(MemoryError):
                run_until_it_ends(Consumer(source, work, crash))

        (dead,) = receive("dead")
        assert dead.body == b"poison"
        assert dead.died_of == "delivery_limit"
        assert handled == [b"poison", b"poison", b"poison"]
