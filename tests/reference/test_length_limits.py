"""Length limits of queues: bytes, a limit of zero, requeue to a full queue, policies, and invalid values.

Spec: https://www.rabbitmq.com/docs/maxlength
Reference: MAXLEN-02, MAXLEN-04…07, MAXLEN-11, MAXLEN-13, MAXLEN-09
"""

import pytest
from pika import BasicProperties, exceptions

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

TO_DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}


@pytest.fixture
def queue(channel):
    """Declares a queue whose dead letters go to `dead`: `queue(**{"x-max-length": 1})` returns its name."""

    def declare(name="work", **arguments):
        channel.queue_declare("dead", durable=True)
        channel.queue_declare(name, durable=True, arguments=TO_DEAD | arguments)
        return name

    return declare


@pytest.fixture
def publish(channel):
    """Publishes messages to a queue: `publish("work", b"1", b"2")`."""

    def each(queue, *bodies, properties=None):
        for body in bodies:
            channel.basic_publish("", queue, body, properties)

    return each


class TestMaxLength:
    """RabbitMQ: `x-max-length` with the default overflow, `drop-head`."""

    @behaviour("MAXLEN-04")
    @lie("length-limit-lost")
    def test_drops_a_requeued_message_first_because_it_is_at_the_head(
        self, channel, queue, publish, get_without_ack, receive, drain
    ):
        """A consumer that requeues to a full queue loses that very message, not another one."""
        work = queue(**{"x-max-length": 1})
        publish(work, b"requeued")
        tag, _ = get_without_ack(channel, work)
        publish(work, b"second")

        channel.basic_nack(tag, requeue=True)

        (dead,) = receive("dead")
        assert dead.body == b"requeued"
        assert dead.died_of == "maxlen"
        assert drain(work) == [b"second"]

    @behaviour("MAXLEN-02")
    @lie("delivery-lost")
    def test_of_0_drops_messages_unless_a_consumer_waits(self, queue, publish, new_consumer, receive, drain):
        """The queue stores nothing: only consumers that are ready at this moment get a message."""
        work = queue(**{"x-max-length": 0})
        publish(work, b"no consumer")
        (dead,) = receive("dead")
        assert dead.body == b"no consumer"
        consumer = new_consumer(work)

        publish(work, b"a consumer waits")

        assert consumer.wait_for(1) == [b"a consumer waits"]
        assert drain("dead") == []

    @behaviour("MAXLEN-13")
    @lie("message-count-wrong")
    def test_set_by_a_policy_deletes_the_oldest_messages_of_an_existing_queue(
        self, broker, vhost, queue, publish, eventually, message_count, drain
    ):
        """An operator can shorten a queue in an emergency; the messages are deleted at once."""
        for name in ("work", "other"):
            publish(queue(name), b"first", b"second", b"third")

        broker.management.set_policy(vhost, "limit", "^work$", {"max-length": 1})

        eventually(lambda: message_count("work"), 1)
        assert drain("work") == [b"third"]
        assert drain("other") == [b"first", b"second", b"third"]


class TestMaxLengthBytes:
    """RabbitMQ: `x-max-length-bytes` with the default overflow, `drop-head`."""

    @behaviour("MAXLEN-05")
    @lie("byte-limit-lost")
    def test_counts_message_bodies_but_not_headers(self, queue, publish, drain):
        """Such a limit says little about memory if the bodies are short and the headers long."""
        work = queue(**{"x-max-length-bytes": 10})
        long = BasicProperties(headers={"note": "n" * 1000})

        publish(work, b"12345", b"67890", properties=long)
        publish(work, b"", b"x")

        assert drain(work) == [b"67890", b"", b"x"]

    @behaviour("MAXLEN-05")
    @lie("byte-limit-lost")
    def test_drops_as_many_old_messages_as_the_new_one_needs(self, queue, publish, drain):
        """One large message may delete many small ones."""
        work = queue(**{"x-max-length-bytes": 10})

        publish(work, b"1234", b"5678", b"90", b"a big one")

        assert drain(work) == [b"a big one"]

    @behaviour("MAXLEN-05")
    @lie("byte-limit-lost")
    def test_drops_a_message_larger_than_the_limit_and_all_before_it(self, queue, publish, drain):
        """A single message that is too large empties the queue."""
        work = queue(**{"x-max-length-bytes": 10})

        publish(work, b"1234", b"larger than the limit")

        assert drain(work) == []


class TestBothLengthLimits:
    """RabbitMQ: a queue with `x-max-length` and `x-max-length-bytes`."""

    @behaviour("MAXLEN-06")
    @lie("length-limit-lost", cases="too_many")
    @lie("byte-limit-lost", cases="too_large")
    @lie("length-limit-halved", cases="neither")
    @pytest.mark.parametrize(
        ("bodies", "kept"),
        [
            ([b"1", b"2", b"3"], [b"2", b"3"]),
            ([b"123456", b"7890ab"], [b"7890ab"]),
            ([b"12345", b"67890"], [b"12345", b"67890"]),
        ],
        ids=["too_many", "too_large", "neither"],
    )
    def test_apply_whichever_is_exceeded_first(self, queue, publish, drain, bodies, kept):
        """One guards against many small messages, the other against a few large ones."""
        work = queue(**{"x-max-length": 2, "x-max-length-bytes": 10})

        publish(work, *bodies)

        assert drain(work) == kept


class TestOverflowRejectPublish:
    """RabbitMQ: `x-max-length` with `x-overflow: reject-publish`."""

    @behaviour("MAXLEN-04", "MAXLEN-07")
    @lie("overflow-lost")
    def test_keeps_a_requeued_message_beyond_the_limit(
        self, channel, queue, publish, get_without_ack, eventually, message_count, drain
    ):
        """It was confirmed once, so the queue exceeds its limit rather than lose it; new messages are nacked."""
        work = queue(**{"x-max-length": 1, "x-overflow": "reject-publish"})
        publish(work, b"requeued")
        tag, _ = get_without_ack(channel, work)
        publish(work, b"second")

        channel.basic_nack(tag, requeue=True)

        eventually(lambda: message_count(work), 2)
        with pytest.raises(exceptions.NackError):
            publish(work, b"third")
        assert drain(work) == [b"requeued", b"second"]


class TestLengthLimitArguments:
    """RabbitMQ: `x-max-length`, `x-max-length-bytes` and `x-overflow` with values that are not accepted."""

    @behaviour("MAXLEN-11", "CHAN-03")
    @lie("precondition-hidden")
    @pytest.mark.parametrize(
        ("argument", "value"),
        [("x-overflow", "drop-tail"), ("x-max-length", -1), ("x-max-length", "1"), ("x-max-length-bytes", -1)],
        ids=["unknown_overflow", "negative_length", "length_as_text", "negative_bytes"],
    )
    def test_close_the_channel_with_406_if_a_limit_is_negative_or_text_or_the_overflow_is_unknown(
        self, queue, refusal, lookup, argument, value
    ):
        """A misspelt overflow would otherwise mean the default, and drop the messages that it was to protect."""
        known = queue(**{"x-max-length": 0, "x-max-length-bytes": 0, "x-overflow": "drop-head"})

        said = refusal(lambda channel: channel.queue_declare("other", durable=True, arguments={argument: value}))

        assert said.code == 406
        assert said.closed == "channel"
        assert f"invalid arg '{argument}'" in said.text
        assert lookup("queue", known) == "exists"


class TestQuorumQueueLimit:
    """RabbitMQ: `x-max-length` of a quorum queue with `x-overflow: reject-publish`."""

    @behaviour("MAXLEN-09")
    @lie("nack-confirmed")
    def test_may_be_exceeded_before_a_publish_is_rejected(self, connection, channel, confirm_log, message_count):
        """The limit is a signal for publishers; a queue that may never hold one more needs another type."""
        arguments = {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"}
        channel.queue_declare("agreed", durable=True, arguments=arguments)
        log = confirm_log(connection)

        for number in range(1, 6):
            log.channel.basic_publish("", "agreed", b"order")
            log.wait_for(number)

        assert log.acked == [1, 2]
        assert log.nacked == [3, 4, 5]
