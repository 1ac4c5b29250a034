"""TTL of messages and queues: without dead-lettering, a TTL of zero, copies, and invalid values.

Spec: https://www.rabbitmq.com/docs/ttl
Reference: TTL-01…10, QAUTO-08…10, PUB-09, TTL-07
"""

import pytest
from pika import BasicProperties

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

LONG = 600_000  # milliseconds: longer than any test
TO_DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}


@pytest.fixture
def queue(channel):
    """Declares a queue whose dead letters go to `dead`: `queue("work", **{"x-message-ttl": 1})` returns its name."""

    def declare(name, **arguments):
        channel.queue_declare("dead", durable=True)
        channel.queue_declare(name, durable=True, arguments=TO_DEAD | arguments)
        return name

    return declare


class TestMessageTtl:
    """RabbitMQ: the argument `x-message-ttl` of a queue."""

    @behaviour("TTL-01")
    @lie("message-ttl-longer")
    def test_deletes_expired_messages_without_a_dead_letter_exchange(self, channel, eventually, message_count, drain):
        """They are gone without a trace, although the publisher got a confirm."""
        channel.queue_declare("short", durable=True, arguments={"x-message-ttl": 1})
        channel.queue_declare("unlimited", durable=True)

        channel.basic_publish("", "short", b"late")
        channel.basic_publish("", "unlimited", b"patient")

        eventually(lambda: message_count("short"), 0)
        assert drain("short") == []
        assert drain("unlimited") == [b"patient"]

    @behaviour("TTL-03")
    @lie("message-ttl-longer")
    def test_of_0_expires_messages_at_once_without_a_waiting_consumer(self, channel, queue, receive, drain):
        """No other setting says that a message may not wait at all."""
        work = queue("work", **{"x-message-ttl": 0})

        channel.basic_publish("", work, b"no consumer")

        (dead,) = receive("dead")
        assert dead.body == b"no consumer"
        assert drain(work) == []

    @behaviour("TTL-03")
    @lie("delivery-lost")
    def test_of_0_still_delivers_to_a_waiting_consumer(self, channel, queue, new_consumer, drain):
        """This is what the protocol once offered as `immediate`."""
        work = queue("work", **{"x-message-ttl": 0})
        consumer = new_consumer(work)

        channel.basic_publish("", work, b"a consumer waits")

        assert consumer.wait_for(1) == [b"a consumer waits"]
        assert drain("dead") == []

    @behaviour("TTL-10")
    @lie("message-ttl-shorter")
    def test_of_a_queue_applies_to_the_copy_in_that_queue_only(self, channel, queue, receive, drain):
        """A short limit of one subscriber does not delete the copy of another."""
        for name, ttl in (("short", 1), ("long", LONG)):
            channel.queue_bind(queue(name, **{"x-message-ttl": ttl}), "amq.fanout")

        channel.basic_publish("amq.fanout", "", b"news")

        (dead,) = receive("dead")
        assert [death["queue"] for death in dead.headers["x-death"]] == ["short"]
        assert drain("long") == [b"news"]


class TestQueueTtl:
    """RabbitMQ: the argument `x-expires` of a queue."""

    @behaviour("QAUTO-09", "QAUTO-08")
    @lie("queue-expiry-lost")
    def test_deletes_the_messages_with_the_queue_without_dead_lettering_them(
        self, channel, queue, exists, eventually, receive, drain
    ):
        """Publishing does not count as use, so a queue with messages but without consumers expires."""
        work = queue("work")
        expiring = queue("expiring", **{"x-expires": 50})
        channel.basic_publish("", expiring, b"left behind")

        eventually(lambda: exists(expiring), False)
        channel.basic_publish("", work, b"expired", BasicProperties(expiration="1"))

        (dead,) = receive("dead")
        assert dead.body == b"expired"
        assert drain("dead") == []


class TestTtlArguments:
    """RabbitMQ: `x-message-ttl` and `x-expires` with values that are not accepted."""

    @behaviour("TTL-08", "QAUTO-10", "CHAN-03")
    @lie("precondition-hidden")
    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("x-message-ttl", -1),
            ("x-message-ttl", "1000"),
            ("x-message-ttl", 100 * 365 * 24 * 3600 * 1000 + 1),
            ("x-expires", 0),
            ("x-expires", -1),
            ("x-expires", "1000"),
        ],
        ids=[
            "negative_ttl",
            "ttl_as_text",
            "ttl_over_100_years",
            "expires_of_0",
            "negative_expires",
            "expires_as_text",
        ],
    )
    def test_close_the_channel_with_406_if_x_message_ttl_or_x_expires_is_out_of_range_or_text(
        self, queue, refusal, lookup, argument, value
    ):
        """A number that a program read as text is an error at once, not a limit that is silently ignored."""
        known = queue("work", **{"x-message-ttl": 0, "x-expires": LONG})

        said = refusal(lambda channel: channel.queue_declare("other", durable=True, arguments={argument: value}))

        assert said.code == 406
        assert said.closed == "channel"
        assert f"invalid arg '{argument}'" in said.text
        assert lookup("queue", known) == "exists"


class TestExpirationProperty:
    """RabbitMQ: the property `expiration` of a message with values that are not accepted."""

    @behaviour("PUB-09", "CHAN-03")
    @lie("expiration-lost")
    @pytest.mark.parametrize("expiration", ["soon", "1s", "1.5", "-1", ""], ids=lambda value: value or "empty")
    def test_closes_the_channel_with_406_if_negative_or_not_a_whole_number_of_milliseconds(
        self, channel, queue, refusal, drain, expiration
    ):
        """It is text in the protocol, so nothing checks it before: one bad message closes its publisher's channel."""
        work = queue("work")
        channel.basic_publish("", work, b"for today", BasicProperties(expiration=str(LONG)))

        def publish(careless):
            careless.confirm_delivery()
            careless.basic_publish("", work, b"refused", BasicProperties(expiration=expiration))

        said = refusal(publish)

        assert said.code == 406
        assert said.closed == "channel"
        assert "invalid expiration" in said.text
        assert drain(work) == [b"for today"]


class TestTtlInATransaction:
    """RabbitMQ: a message with a TTL that is published in a transaction."""

    @behaviour("TTL-07")
    @lie("transaction-ignored")
    def test_begins_at_the_commit(self, connection, channel, queue, new_consumer, receive):
        """However long a transaction is open, its messages have their whole time before them."""
        queue("plain", **{"x-message-ttl": 50})
        queue("committed", **{"x-message-ttl": 50})
        tx = connection.channel()
        tx.tx_select()
        tx.basic_publish("", "committed", b"in a transaction")
        tx.queue_declare("committed", passive=True)  # the broker has seen the publish
        channel.basic_publish("", "plain", b"expired")
        (dead,) = receive("dead")
        assert dead.body == b"expired"

        consumer = new_consumer("committed")
        tx.tx_commit()

        assert consumer.wait_for(1) == [b"in a transaction"]
