"""Time to live: what nobody takes in time is gone.

A queue may limit how long its messages wait, and a message may carry an expiration of its own; the shorter of the two
counts. The clock runs only while the message waits: what a consumer holds does not expire. The broker looks at the
head of the queue alone, so a message that is past its time behind one that is not still takes up room, although it is
never delivered. A queue too may have a time to live: it goes when nobody has used it for so long, messages and all.

Spec: https://www.rabbitmq.com/docs/ttl
Code: rmqspec/orders/topology.py, rmqspec/client/topology.py
"""

import pytest
from pika import BasicProperties, exceptions

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

LONG = 600_000  # milliseconds: longer than any test

REFUSED = {
    "negative_ttl": ("x-message-ttl", -1),
    "ttl_as_text": ("x-message-ttl", "1000"),
    "ttl_over_a_century": ("x-message-ttl", 100 * 365 * 24 * 3600 * 1000 + 1),
    "lease_of_zero": ("x-expires", 0),
    "negative_lease": ("x-expires", -1),
}


@pytest.fixture
def queue(channel):
    """Makes a queue whose dead letters go to `dead`: `queue("work", ttl=1)`."""

    def declare(name, ttl=None):
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        arguments |= {} if ttl is None else {"x-message-ttl": ttl}
        channel.queue_declare("dead", durable=True)
        channel.queue_declare(name, durable=True, arguments=arguments)
        return name

    return declare


@pytest.fixture
def publish(channel):
    """Publishes to a queue; the expiration is in milliseconds: `publish("work", b"for today", expiration=1)`."""

    def one(name, body, expiration=None):
        channel.basic_publish("", name, body, BasicProperties(expiration=expiration and str(expiration)))

    return one


@pytest.fixture
def busy(connection, queue, subscribe_without_ack):
    """A consumer of `work` that takes one message and holds it: what comes after has to wait."""
    channel = connection.channel()
    channel.basic_qos(prefetch_count=1)
    return subscribe_without_ack(channel, queue("work"))


@pytest.fixture
def depth(channel):
    def ready(name):
        return channel.queue_declare(name, passive=True).method.message_count

    return ready


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("TTL-01", "DLX-02")
    @lie("message-ttl-longer")
    def test_expires_what_outlives_its_queue_limit(self, queue, publish, receive, drain):
        """Rates that are a minute old are worse than none; with a dead-letter exchange one sees how many went."""
        short, long = queue("short", ttl=1), queue("long", ttl=LONG)

        publish(short, b"late")
        publish(long, b"in time")

        (dead,) = receive("dead")
        assert (dead.body, dead.died_of) == (b"late", "expired")
        assert (drain(short), drain(long)) == ([], [b"in time"])

    @behaviour("TTL-01")
    @lie("message-ttl-longer")
    def test_deletes_what_expires_without_exchange(self, channel, publish, eventually, depth, drain):
        """Where nothing catches it, it vanishes without a trace, and its producer has long had its confirm."""
        channel.queue_declare("short", durable=True, arguments={"x-message-ttl": 1})
        channel.queue_declare("unlimited", durable=True)

        publish("short", b"late")
        publish("unlimited", b"patient")

        eventually(lambda: depth("short"), 0)
        assert (drain("short"), drain("unlimited")) == ([], [b"patient"])

    @behaviour("TTL-02", "TTL-09")
    @lie("expiration-lost")
    def test_expires_each_message_by_its_own_limit(self, queue, publish, receive):
        """The producer knows what its message is worth; who receives it in time can still read the limit."""
        work = queue("work")

        publish(work, b"for now", expiration=1)
        publish(work, b"for today", expiration=LONG)

        (dead,) = receive("dead")
        (taken,) = receive(work)
        assert (dead.body, taken.body, taken.properties.expiration) == (b"for now", b"for today", "600000")

    @behaviour("TTL-02")
    @pytest.mark.parametrize(("ttl", "expiration"), [(1, LONG), (LONG, 1)], ids=["of_the_queue", "of_the_message"])
    @lie("dead-letter-key-lost")
    def test_takes_the_smaller_of_both_limits(self, queue, publish, receive, drain, ttl, expiration):
        """Neither side can extend what the other grants: an operator's limit holds for every producer."""
        work, patient = queue("work", ttl=ttl), queue("patient", ttl=LONG)

        publish(patient, b"in time", expiration=LONG)
        publish(work, b"late", expiration=expiration)

        assert [dead.body for dead in receive("dead")] == [b"late"]
        assert (drain(work), drain(patient)) == ([], [b"in time"])

    @behaviour("TTL-03")
    @lie("message-ttl-longer")
    def test_expires_at_once_with_a_limit_of_zero(self, queue, publish, receive, drain):
        """Now or never: no other setting says that a message may not wait at all."""
        work = queue("work", ttl=0)

        publish(work, b"nobody is there")

        assert [dead.body for dead in receive("dead")] == [b"nobody is there"]
        assert drain(work) == []

    @behaviour("TTL-03")
    @lie("delivered-twice")
    def test_delivers_to_a_ready_consumer_at_zero(self, connection, queue, publish, subscribe_without_ack, drain):
        """What the protocol once had as `immediate`: a consumer that has capacity gets it all the same."""
        consumer = subscribe_without_ack(connection.channel(), queue("work", ttl=0))

        publish("work", b"somebody is there")

        assert consumer.wait_for(1) == [b"somebody is there"]
        assert drain("dead") == []

    @behaviour("TTL-04", "TTL-05")
    @lie("expiration-lost")
    def test_stops_the_clock_for_what_is_held(self, busy, publish, receive, drain):
        """Slow work is not cut short; but given back, the message has the deadline that it came with."""
        publish("work", b"held", expiration=1)
        publish("work", b"waits", expiration=1)
        (waited,), held = receive("dead"), busy.wait_for(1)
        before = drain("dead")

        busy.channel.basic_nack(busy.tags[0], requeue=True)

        assert (held, waited.body, before) == ([b"held"], b"waits", [])
        assert [dead.body for dead in receive("dead")] == [b"held"]
        assert (busy.bodies, drain("work")) == ([b"held"], [])

    @behaviour("TTL-06")
    @lie("expiration-lost")
    def test_keeps_what_expired_behind_the_head(self, channel, queue, publish, receive, depth, drain):
        """Delays of different lengths in one queue wait for the longest: the classic trap of retry queues."""
        work = queue("work")
        publish(work, b"head", expiration=LONG)
        publish(work, b"behind", expiration=1)
        publish(queue("beside"), b"beside", expiration=20)
        (beside,) = receive("dead")
        waiting = depth(work)

        _, _, body = channel.basic_get(work)

        assert (beside.body, waiting, body) == (b"beside", 2, b"head")
        assert [dead.body for dead in receive("dead")] == [b"behind"]
        assert drain(work) == []

    @behaviour("TTL-10")
    @lie("x-death-queue-wrong")
    def test_expires_each_copy_by_itself(self, channel, queue, publish, receive, drain):
        """One reader's short limit takes nothing from another who has more patience."""
        for name, ttl in (("short", 1), ("long", LONG)):
            channel.queue_bind(queue(name, ttl=ttl), "amq.fanout")

        channel.basic_publish("amq.fanout", "", b"news")

        (dead,) = receive("dead")
        assert [death["queue"] for death in dead.headers.get("x-death", [])] == ["short"]
        assert drain("long") == [b"news"]

    @behaviour("QAUTO-05", "QAUTO-04")
    @lie("queue-expiry-lost")
    def test_keeps_a_queue_while_it_is_consumed(
        self, broker, vhost, connection, channel, subscribe_without_ack, exists, eventually
    ):
        """A lease for clients that come back soon; it begins anew when the last consumer goes, not when it came."""
        for name in ("used", "unused"):
            channel.queue_declare(name, durable=True)
        subscribe_without_ack(reader := connection.channel(), "used")

        broker.management.set_policy(vhost, "lease", "used$", {"expires": 50})
        eventually(lambda: exists("unused"), False)
        channel.queue_declare("later", durable=True, arguments={"x-expires": 100})  # its end is well after the lease's
        eventually(lambda: exists("later"), False)
        assert exists("used")

        reader.close()
        eventually(lambda: exists("used"), False)

    @behaviour("QAUTO-09", "QAUTO-08")
    @lie("queue-expiry-lost")
    def test_deletes_the_messages_with_their_queue(self, queue, channel, publish, exists, eventually, receive, drain):
        """The trap of a short lease: publishing is no use in its sense, and no dead-letter exchange catches these."""
        work = queue("work")
        arguments = {"x-expires": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        channel.queue_declare("leased", durable=True, arguments=arguments)
        publish("leased", b"left behind")

        eventually(lambda: exists("leased"), False)
        publish(work, b"expired", expiration=1)

        assert [dead.body for dead in receive("dead")] == [b"expired"]
        assert drain("dead") == []

    @behaviour("TTL-08", "QAUTO-10", "CHAN-03")
    @pytest.mark.parametrize(("argument", "value"), REFUSED.values(), ids=REFUSED)
    @lie("precondition-hidden")
    def test_refuses_what_is_no_time(self, connection, channel, argument, value):
        """A number that was read from a file as text is told at once, before anything waits for ever."""
        channel.queue_declare("work", durable=True, arguments={"x-message-ttl": 0, "x-expires": LONG})
        careless = connection.channel()

        with pytest.raises(exceptions.ChannelClosedByBroker, match=f"invalid arg .*{argument}") as error:
            careless.queue_declare("other", durable=True, arguments={argument: value})

        assert (error.value.reply_code, careless.is_closed, connection.is_open) == (406, True, True)
        assert channel.queue_declare("work", passive=True).method.queue == "work"

    @behaviour("PUB-09", "CHAN-03")
    @pytest.mark.parametrize("expiration", ["soon", "1s", "1.5", "-1", ""], ids=lambda value: value or "empty")
    @lie("expiration-lost")
    def test_refuses_an_expiration_that_is_no_number(self, connection, channel, queue, publish, drain, expiration):
        """It is text in the protocol, so nothing else checks it: one bad message ends its producer's channel."""
        publish(queue("work"), b"for today", expiration=LONG)
        careless = connection.channel()
        careless.confirm_delivery()

        with pytest.raises(exceptions.ChannelClosedByBroker, match="invalid expiration") as error:
            careless.basic_publish("", "work", b"refused", BasicProperties(expiration=expiration))

        assert (error.value.reply_code, careless.is_closed, connection.is_open) == (406, True, True)
        assert drain("work") == [b"for today"]
