"""Persistence: which messages survive a restart or a crash of the broker.

A message survives a restart if its queue is durable and the message is persistent: the queue exists again, and the
message was written to disk. A transient message in the same queue is lost. Messages that were acked do not return, and
unacked messages are delivered again. A publisher knows that a persistent message is safe when it is confirmed. A
transient message is confirmed too, as soon as it is in its queue, and that says nothing about a restart.

How safe is it? These specs end the broker process by `kill -9`. What it has written to its files survives that, because
the operating system goes on. A loss of power may destroy more: a classic queue of 3.10 forces its files to the disk
before it confirms (fsync), one of 4.0 and later does not, and it is on one node only. Against a loss of power, use a
quorum queue.

Memory use also depends on the version. Before 3.12 a classic queue kept its waiting messages in memory as well, unless
it was lazy; since then every classic queue keeps them on disk. In the order system all queues are durable, all messages
persistent.

Spec: https://www.rabbitmq.com/docs/persistence-conf
Code: rmqspec/client/publisher.py, rmqspec/client/topology.py, rmqspec/orders/producer.py
Reference: QDUR-01, QDUR-02, QDUR-04, QDUR-06…08, XDECL-16, XDECL-17, BIND-06, QDECL-07, QDECL-17, QDECL-18, QDEL-06
"""

from contextlib import closing

import pytest
from pika import BasicProperties, DeliveryMode

from rmqspec.orders import Completed, Failures, Producer, Worker, parse, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

# A broker of its own is started here, killed and restarted: ten seconds each on a busy machine, more on a slow one.
pytestmark = pytest.mark.timeout(180)

PERSISTENT = BasicProperties(delivery_mode=DeliveryMode.Persistent)
TRANSIENT = BasicProperties(delivery_mode=DeliveryMode.Transient)


@pytest.fixture(scope="module")
def killed(disposable_broker, disposable_url, disposable_source, connect_to_disposable):
    """The URL of a broker that was killed by `kill -9` and started again."""
    with connect_to_disposable() as channel:
        channel.queue_declare("ledger", durable=True)
        for number in range(300):
            channel.basic_publish("", "ledger", b"%d" % number, PERSISTENT)
        with closing(Producer(disposable_source)) as producer:
            for order in sample_orders(5):
                producer.publish(order)

        disposable_broker.kill()
        disposable_broker.start()
    return disposable_url


@pytest.fixture(scope="module")
def restarted(disposable_broker, killed, connect_to_disposable):
    """The URL of a broker that was stopped and started again; before, it was killed: a kill sets `redelivered`."""
    with connect_to_disposable() as channel:
        channel.exchange_declare("post", "direct", durable=True)
        for queue in ("never delivered", "mixed", "acked", "unacked", "routed"):
            channel.queue_declare(queue, durable=True)
        channel.queue_bind("routed", "post", "order")
        channel.basic_publish("", "never delivered", b"still new", PERSISTENT)
        channel.basic_publish("", "mixed", b"transient", TRANSIENT)
        channel.basic_publish("", "mixed", b"persistent", PERSISTENT)
        channel.basic_publish("", "acked", b"done", PERSISTENT)
        channel.basic_publish("", "acked", b"to do", PERSISTENT)
        channel.basic_publish("", "unacked", b"begun", PERSISTENT)

        method, _, _ = channel.basic_get("acked")
        channel.basic_ack(method.delivery_tag)
        channel.basic_get("unacked")  # its reply comes after the ack was processed

        disposable_broker.restart()
    return killed


class TestRestartedBroker:
    """RabbitMQ: after it was stopped and started again."""

    @pytest.fixture
    def url(self, restarted):
        return restarted

    @behaviour("QDUR-01")
    @lie("redelivered-always")
    def test_keeps_persistent_messages_of_durable_queues_as_not_redelivered(self, receive):
        """A consumer cannot tell that the broker was restarted: the message was never delivered before."""
        (delivery,) = receive("never delivered")

        assert delivery.body == b"still new"
        assert delivery.redelivered is False

    @behaviour("QDUR-02")
    @lie("made-persistent")
    def test_loses_transient_messages_although_they_were_confirmed(self, drain):
        """A durable queue does not make its messages persistent, and by default a client publishes transient ones."""
        assert drain("mixed") == [b"persistent"]

    @behaviour("XDECL-16", "BIND-06")
    @lie("exchange-durability-lost")
    def test_keeps_durable_exchanges_and_their_bindings(self, lookup, channel, drain):
        """Producers can go on, even if no consumer has declared the topology again."""
        assert lookup("exchange", "post") == "exists"

        channel.basic_publish("post", "order", b"after the restart")

        assert drain("routed") == [b"after the restart"]

    @behaviour("QDUR-06")
    @lie("ack-swallowed")
    def test_does_not_deliver_acked_messages_again(self, drain):
        """The ack was written to disk too: an update of the broker makes nobody process an order twice."""
        assert drain("acked") == [b"to do"]

    @behaviour("QDUR-07")
    @lie("acks-not-awaited")
    def test_delivers_unacked_messages_again_with_redelivered_true(self, receive):
        """A restart ends all connections, so unacked messages are requeued as after the crash of a consumer."""
        (delivery,) = receive("unacked")

        assert delivery.body == b"begun"
        assert delivery.redelivered is True


class TestKilledBroker:
    """RabbitMQ: after its process was ended by `kill -9` and started again."""

    @pytest.fixture
    def url(self, killed):
        return killed

    @behaviour("QDUR-04")
    @lie("persistence-lost")
    def test_keeps_every_confirmed_persistent_message(self, drain):
        """This is what a publisher may rely on after a confirm. Before it, the message may be lost."""
        assert drain("ledger") == [b"%d" % number for number in range(300)]


# Ten messages go into each of these queues.
STORED = {"plain": {}, "transient": {}, "lazy": {"x-queue-mode": "lazy"}, "unacked": {}, "purged": {}}


@pytest.fixture(scope="module")
def stored(connect_to_disposable, list_queues):
    """What `rabbitmqctl list_queues` says of the filled queues: `stored["plain"]["messages_ram"]`."""
    with connect_to_disposable() as channel:
        for queue, arguments in STORED.items():
            properties = TRANSIENT if queue == "transient" else PERSISTENT
            channel.queue_declare(queue, durable=True, arguments=arguments)
            for _ in range(10):
                channel.basic_publish("", queue, b"letter", properties)
        for queue in ("unacked", "purged") * 3:
            channel.basic_get(queue)
        channel.queue_purge("purged")
        return list_queues("messages", "messages_ram", "messages_unacknowledged_ram", "messages_persistent")


class TestClassicQueueStorage:
    """RabbitMQ: where a classic queue keeps ten messages, as `rabbitmqctl list_queues` shows it."""

    @behaviour("QDUR-02")
    @lie("made-persistent")
    def test_counts_persistent_but_no_transient_messages_in_messages_persistent(self, stored):
        """An operator can see which messages a restart would lose: those that are not counted here."""
        assert stored["plain"]["messages"] == 10
        assert stored["plain"]["messages_persistent"] == 10
        assert stored["transient"]["messages"] == 10
        assert stored["transient"]["messages_persistent"] == 0

    @behaviour("QDEL-06")
    @lie("acks-not-awaited")
    def test_keeps_unacked_messages_in_memory_even_if_the_queue_is_purged(self, stored):
        """Each stays there until its ack: consumers with a large prefetch fill the memory of the broker."""
        assert stored["unacked"]["messages"] == 10
        assert stored["unacked"]["messages_unacknowledged_ram"] == 3
        assert stored["purged"]["messages"] == 3
        assert stored["purged"]["messages_unacknowledged_ram"] == 3

    @behaviour("QDECL-18")
    @rabbitmq(before="3.12")
    @lie("always-lazy")
    def test_keeps_all_waiting_messages_in_memory_before_3_12(self, stored):
        """Persistent messages are on disk as well, which frees no memory: the memory fills while consumers are away."""
        assert stored["plain"]["messages"] == 10
        assert stored["plain"]["messages_ram"] == 10

    @behaviour("QDECL-18")
    @rabbitmq(before="3.12")
    @lie("queue-mode-lost")
    def test_keeps_no_waiting_message_of_a_lazy_queue_in_memory_before_3_12(self, stored):
        """With `x-queue-mode: lazy` a long queue cost disk and not memory."""
        assert stored["lazy"]["messages"] == 10
        assert stored["lazy"]["messages_ram"] == 0

    @behaviour("QDECL-18")
    @rabbitmq(since="4.0")
    @lie("second-message-lost")
    def test_keeps_one_of_ten_waiting_messages_in_memory_since_4_0(self, stored):
        """Every classic queue behaves as lazy ones did, and `x-queue-mode` has no effect any more."""
        assert stored["plain"]["messages"] == 10
        assert stored["plain"]["messages_ram"] == 1


class TestProducer:
    """Our producer: its orders are persistent, and it waits for their confirms."""

    @pytest.fixture
    def url(self, killed):
        return killed

    @lie("second-message-lost")
    def test_loses_no_confirmed_order_when_the_broker_is_killed(self, orders, receive):
        """Each order for which `publish` has returned is completed after the broker has started again."""
        orders.start(lambda source: Worker(source, failures=Failures(rate=0.0)))

        events = receive("notifications", 5)

        completed = [parse(Completed, event.body).order_id for event in events]
        assert completed == ["00-0001", "00-0002", "00-0003", "00-0004", "00-0005"]
