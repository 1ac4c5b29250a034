"""Message TTL: messages and queues that expire.

A queue may limit how long its messages live (`x-message-ttl`), and a publisher may limit it for one message (the
property `expiration`); the lower limit applies. Both are in milliseconds. Each message gets a deadline when it enters
the queue, and the deadline does not move. A message that is unacked at that moment stays with its consumer; if it is
requeued later, it expires then.

Messages expire only at the head of a queue. An expired message behind one that is still valid is never delivered, but
it is counted, and its dead letter comes late. A queue may expire too (`x-expires`): it is deleted with all its messages
when it was not used for that long.

Spec: https://www.rabbitmq.com/docs/ttl
Code: rmqspec/client/retry.py, rmqspec/client/rpc.py
Reference: TTL-01…10, QAUTO-04, QAUTO-05, QAUTO-08…10, PUB-09
"""

import pytest
from pika import BasicProperties

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

LONG = 600_000  # milliseconds: longer than any test


@pytest.fixture
def queue(channel):
    """Declares a queue whose dead letters go to `dead`: `queue("work", ttl=1)` returns its name."""

    def declare(name, ttl=None):
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        if ttl is not None:
            arguments["x-message-ttl"] = ttl
        channel.queue_declare("dead", durable=True)
        channel.queue_declare(name, durable=True, arguments=arguments)
        return name

    return declare


@pytest.fixture
def publish(channel):
    """Publishes to a queue with an expiration in milliseconds: `publish("work", b"for today", expiration=1)`."""

    def one(name, body, expiration):
        channel.basic_publish("", name, body, BasicProperties(expiration=str(expiration)))

    return one


class TestMessageTtl:
    """RabbitMQ: how long a message may live in a queue."""

    @behaviour("TTL-01", "DLX-02")
    @lie("message-ttl-longer")
    def test_of_a_queue_dead_letters_older_messages_with_reason_expired(self, channel, receive, drain):
        """Old exchange rates are worse than none; the dead letters show how many expired."""
        to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        channel.queue_declare("dead", durable=True)
        channel.queue_declare("short", durable=True, arguments={"x-message-ttl": 1} | to_dead)
        channel.queue_declare("long", durable=True, arguments={"x-message-ttl": 600_000} | to_dead)

        channel.basic_publish("", "short", b"late")
        channel.basic_publish("", "long", b"in time")

        (dead,) = receive("dead")
        assert dead.body == b"late"
        assert dead.died_of == "expired"
        assert drain("short") == []
        assert drain("long") == [b"in time"]

    @behaviour("TTL-02", "TTL-09")
    @lie("expiration-lost")
    def test_in_the_expiration_property_applies_to_that_message_and_is_delivered_with_it(self, channel, queue, receive):
        """The publisher knows how long its message is useful; a consumer that gets it in time can read the limit."""
        work = queue("work")

        channel.basic_publish("", work, b"for now", BasicProperties(expiration="1"))
        channel.basic_publish("", work, b"for today", BasicProperties(expiration="600000"))

        (dead,) = receive("dead")
        (delivered,) = receive(work)
        assert dead.body == b"for now"
        assert delivered.body == b"for today"
        assert delivered.properties.expiration == "600000"

    @behaviour("TTL-02")
    @lie("message-ttl-longer", cases="queue_is_lower")
    @lie("expiration-lost", cases="message_is_lower")
    @pytest.mark.parametrize(("ttl", "expiration"), [(1, LONG), (LONG, 1)], ids=["queue_is_lower", "message_is_lower"])
    def test_is_the_lower_one_of_queue_and_message(self, queue, publish, receive, drain, ttl, expiration):
        """Neither side can extend the limit of the other: an operator's limit applies to every publisher."""
        work = queue("work", ttl=ttl)
        patient = queue("patient", ttl=LONG)

        publish(patient, b"in time", expiration=LONG)
        publish(work, b"late", expiration=expiration)

        (dead,) = receive("dead")
        assert dead.body == b"late"
        assert drain(work) == []
        assert drain(patient) == [b"in time"]

    @behaviour("TTL-04", "TTL-05")
    @lie("requeue-discards")
    def test_does_not_expire_unacked_messages_until_requeued(self, new_consumer, queue, publish, receive, drain):
        """Slow work is not interrupted. But the deadline has passed, so a requeue does not give a second attempt."""
        work = queue("work")
        busy = new_consumer(work, prefetch=1)
        publish(work, b"unacked", expiration=1)
        publish(work, b"waiting", expiration=1)
        busy.wait_for(1)
        (waiting,) = receive("dead")
        assert waiting.body == b"waiting"
        assert drain("dead") == []

        busy.channel.basic_nack(busy.tags[0], requeue=True)

        (requeued,) = receive("dead")
        assert requeued.body == b"unacked"
        assert requeued.died_of == "expired"
        assert busy.bodies == [b"unacked"]
        assert drain(work) == []

    @behaviour("TTL-06")
    @lie("message-count-wrong")
    def test_removes_expired_messages_at_the_head_of_the_queue_only(
        self, channel, queue, publish, receive, message_count, drain
    ):
        """A message with a short delay waits behind an earlier one with a longer delay: the trap of retry queues."""
        work = queue("work")
        other = queue("other")
        publish(work, b"head", expiration=LONG)
        publish(work, b"behind", expiration=1)
        publish(other, b"other", expiration=20)
        (dead,) = receive("dead")
        assert dead.body == b"other"
        assert message_count(work) == 2

        _, _, body = channel.basic_get(work)

        assert body == b"head"
        (dead,) = receive("dead")
        assert dead.body == b"behind"
        assert drain(work) == []


class TestQueueTtl:
    """RabbitMQ: how long a queue may be unused (`x-expires`, or a policy) before it is deleted."""

    @behaviour("QAUTO-05", "QAUTO-04")
    @lie("consumer-not-made")
    def test_by_x_expires_or_policy_deletes_an_unused_queue_and_a_used_one_only_after_its_last_consumer_is_gone(
        self, broker, vhost, channel, new_consumer, exists, eventually
    ):
        """For clients that come back soon: the time starts anew when the last consumer leaves."""
        channel.queue_declare("used", durable=True)
        channel.queue_declare("unused", durable=True)
        consumer = new_consumer("used")

        broker.management.set_policy(vhost, "expires", "used$", {"expires": 50})
        eventually(lambda: exists("unused"), False)
        channel.queue_declare("later", durable=True, arguments={"x-expires": 100})  # well after those of the policy
        eventually(lambda: exists("later"), False)
        assert exists("used") is True

        consumer.channel.close()
        eventually(lambda: exists("used"), False)
