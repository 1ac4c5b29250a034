"""Persistence: what is still there after the broker was down.

Two promises must come together. A durable queue is there again when the broker comes back, and a persistent message
in it was written to disk; a transient message in the same queue is gone. What its consumer had acknowledged stays
gone, what it had not comes back. And when is a message on disk? When the broker has confirmed it: from then on it
survives even if the machine loses its power in the next moment.

In the order system everything is durable and every message persistent.

Spec: https://www.rabbitmq.com/docs/persistence-conf
Code: rmqspec/client/publisher.py, rmqspec/client/topology.py, rmqspec/orders/producer.py
"""

from contextlib import closing, contextmanager, suppress

import pytest
from pika import BasicProperties, DeliveryMode, exceptions

from rmqspec.client import connect
from rmqspec.orders import Completed, Failures, Producer, Worker, parse, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

# A broker of its own is started here, restarted and killed: ten seconds each on a busy machine, more on a slow one.
pytestmark = pytest.mark.timeout(180)

PERSISTENT = BasicProperties(delivery_mode=DeliveryMode.Persistent)
TRANSIENT = BasicProperties(delivery_mode=DeliveryMode.Transient)


def fill(channel, queue, *bodies, properties=PERSISTENT):
    channel.queue_declare(queue, durable=True)
    for body in bodies:
        channel.basic_publish("", queue, body, properties)


@contextmanager
def cut_off(source, name):
    """A channel whose connection is still open when the broker goes, as those of an application are."""
    connection = connect(source, name)
    channel = connection.channel()
    channel.confirm_delivery()
    yield channel
    with suppress(exceptions.AMQPConnectionError):  # pika notices only here that the broker has gone
        connection.close()


@pytest.fixture(scope="module")
def killed(disposable_broker, disposable_url, disposable_source):
    """Where to find the broker after `kill -9` and a start."""
    with cut_off(disposable_source, "before the kill") as channel:
        fill(channel, "ledger", *(b"%d" % number for number in range(300)))
        fill(channel, "in hand at the kill", b"begun")
        fill(channel, "not begun", b"to do")
        channel.basic_get("in hand at the kill")
        with closing(Producer(disposable_source)) as producer:
            for order in sample_orders(5):
                producer.publish(order)
        disposable_broker.kill()
        disposable_broker.start()
    return disposable_url


@pytest.fixture(scope="module")
def restarted(disposable_broker, killed, disposable_source):
    """And after an orderly restart; the kill comes first, for it marks all that waits as redelivered."""
    with cut_off(disposable_source, "before the restart") as channel:
        channel.exchange_declare("post", "direct", durable=True)
        channel.exchange_declare("fleeting", "direct", durable=False)
        channel.queue_declare("private", durable=True, exclusive=True)
        fill(channel, "never read", b"still new")
        fill(channel, "mixed", b"transient", properties=TRANSIENT)
        fill(channel, "mixed", b"persistent")
        fill(channel, "half done", b"done", b"to do")
        fill(channel, "in hand", b"begun")
        fill(channel, "routed")
        channel.queue_bind("routed", "post", "order")
        done, begun = (channel.basic_get(queue)[0] for queue in ("half done", "in hand"))
        assert None not in (done, begun), "a message is handed out that was confirmed"
        channel.basic_ack(done.delivery_tag)
        with suppress(exceptions.ChannelClosedByBroker):  # whatever is said of the ack: an answer shows that it arrived
            channel.queue_declare("half done", passive=True)
        disposable_broker.restart()
    return killed


class TestRabbitMQ:
    """What the broker promises. Only pika is used here. The broker was restarted."""

    @pytest.fixture
    def url(self, restarted):
        return restarted

    @behaviour("QDUR-01")
    @lie("redelivered-always")
    def test_keeps_a_persistent_message(self, receive):
        """Nobody had it before, so it is as new: not marked as redelivered."""
        (delivery,) = receive("never read")

        assert (delivery.body, delivery.redelivered) == (b"still new", False)

    @behaviour("QDUR-02")
    @lie("made-persistent")
    def test_forgets_a_transient_message(self, drain):
        """A durable queue does not make its messages durable: transient is what a client sends by default."""
        assert drain("mixed") == [b"persistent"]

    @behaviour("XDECL-16", "BIND-06")
    @lie("exchange-ignored")
    def test_keeps_durable_exchanges_and_bindings(self, channel, drain):
        """Producers go on after a restart even if no consumer has declared the topology again."""
        channel.basic_publish("post", "order", b"after the restart")

        assert drain("routed") == [b"after the restart"]

    @behaviour("QDUR-06")
    @lie("persistence-lost")
    def test_does_not_bring_back_what_was_acknowledged(self, drain):
        """The ack went to disk as well: no customer gets an order twice because the broker was updated."""
        assert drain("half done") == [b"to do"]

    @behaviour("QDUR-07")
    @lie("persistence-lost")
    def test_brings_back_what_was_in_hand(self, receive):
        """A restart ends every connection: what a consumer had not acknowledged goes to the next one, marked."""
        (delivery,) = receive("in hand")

        assert (delivery.body, delivery.redelivered) == (b"begun", True)

    @behaviour("QDUR-08")
    @lie("queue-exclusivity-lost")
    def test_drops_an_exclusive_queue(self, connection, channel):
        """It belonged to a connection, and that has ended; `durable` in its declaration changes nothing."""
        probe = connection.channel()

        with pytest.raises(exceptions.ChannelClosedByBroker, match="no queue 'private'") as error:
            probe.queue_declare("private", passive=True)

        assert (error.value.reply_code, probe.is_closed, connection.is_open) == (404, True, True)
        assert channel.queue_declare("routed", passive=True).method.queue == "routed"

    # 4.2 keeps its definitions in one of two stores: Mnesia forgets a transient exchange, Khepri does not.
    @behaviour("XDECL-17")
    @pytest.mark.rabbitmq(before="4.2")
    @lie("exchange-made-durable")
    def test_drops_a_transient_exchange(self, connection, channel):
        """Who publishes to it after the restart finds it missing, and has to declare it again."""
        probe = connection.channel()

        with pytest.raises(exceptions.ChannelClosedByBroker, match="no exchange 'fleeting'") as error:
            probe.exchange_declare("fleeting", passive=True)

        assert (error.value.reply_code, probe.is_closed, connection.is_open) == (404, True, True)
        channel.exchange_declare("post", passive=True)

    @behaviour("XDECL-17")
    @pytest.mark.rabbitmq(since="4.3")
    @lie("transient-exchange-not-made")
    def test_keeps_even_a_transient_exchange(self, lookup):
        """Nothing is lost by it, but nothing is cleaned up either: who counts on that must delete it."""
        assert lookup("exchange", "fleeting") == "exists"


class TestPowerCut:
    """What the broker promises even when it is killed, without a word, by `kill -9`."""

    @pytest.fixture
    def url(self, killed):
        return killed

    @behaviour("QDUR-04")
    @lie("persistence-lost")
    def test_spares_every_confirmed_message(self, drain):
        """This is what a confirm means: before it, a publish is a hope."""
        assert drain("ledger") == [b"%d" % number for number in range(300)]

    @behaviour("QDUR-07")
    @lie("persistence-lost")
    def test_spares_what_was_in_hand(self, receive):
        """No consumer and no broker had the time to put it back; it had never left the disk."""
        assert [delivery.body for delivery in receive("in hand at the kill")] == [b"begun"]

    @behaviour("QDUR-01")
    @lie("persistence-lost")
    def test_marks_all_that_waited_as_redelivered(self, receive):
        """After a crash the broker no longer knows who had what: the mark is a hint, `perhaps once before`."""
        (delivery,) = receive("not begun")

        assert (delivery.body, delivery.redelivered) == (b"to do", True)


class TestProducer:
    """What our producer adds."""

    @pytest.fixture
    def url(self, killed):
        return killed

    @lie("queue-durability-lost")
    def test_loses_no_order_in_a_power_cut(self, orders, receive):
        """An order for which `publish` has returned is completed, whatever happens to the broker in between."""
        orders.start(lambda source: Worker(source, failures=Failures(rate=0.0)))

        told = [parse(Completed, delivery.body).order_id for delivery in receive("notifications", 5)]

        assert told == ["00-0001", "00-0002", "00-0003", "00-0004", "00-0005"]


class TestQueueDeclare:
    """Durability is decided once, when the queue is made."""

    @behaviour("QDECL-07", "CHAN-03")
    @lie("queue-durability-lost")
    def test_refuses_to_change_the_durability(self, connection, channel):
        """A queue that was made transient by mistake stays so, until it is deleted and made anew."""
        channel.queue_declare("letters", durable=True)
        hasty = connection.channel()

        with pytest.raises(exceptions.ChannelClosedByBroker, match="inequivalent arg 'durable'") as error:
            hasty.queue_declare("letters", durable=False)

        assert (error.value.reply_code, hasty.is_closed, connection.is_open) == (406, True, True)
        assert channel.queue_declare("letters", durable=True).method.queue == "letters"
