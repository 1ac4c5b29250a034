"""Length limits: what a full queue does with one more message.

A queue without a limit grows until its broker runs short of memory or disk, and then the broker blocks every
publisher. A queue may be limited in messages (`x-max-length`), in bytes (`x-max-length-bytes`), or both. By default
(`drop-head`) a full queue drops its oldest message and accepts the new one. With `x-overflow: reject-publish` it
rejects the new one, and a publisher with confirms gets a nack.

In the order system the queue `orders` drops its oldest order into `orders.failed`, where a person sees that the
workers cannot keep up.

Spec: https://www.rabbitmq.com/docs/maxlength
Code: rmqspec/orders/topology.py, rmqspec/client/publisher.py
Reference: MAXLEN-01…08, MAXLEN-10, MAXLEN-11, MAXLEN-13
"""

import pytest
from pika import exceptions

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

TO_DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}


@pytest.fixture
def queue(channel):
    """Declares `work`, whose dead letters go to `dead`: `queue(**{"x-max-length": 1})` returns its name."""

    def declare(**arguments):
        channel.queue_declare("dead", durable=True)
        channel.queue_declare("work", durable=True, arguments=TO_DEAD | arguments)
        return "work"

    return declare


@pytest.fixture
def publish(channel):
    """Publishes to a queue and waits for each confirm: `publish("work", b"1", b"2")` returns the nacked bodies."""

    def each(queue, *bodies):
        nacked = []
        for body in bodies:
            try:
                channel.basic_publish("", queue, body)
            except exceptions.NackError:
                nacked.append(body)
        return nacked

    return each


class TestMaxLength:
    """RabbitMQ: `x-max-length` with the default overflow, `drop-head`."""

    @behaviour("MAXLEN-01")
    @lie("length-limit-lost")
    def test_drops_the_oldest_message_of_a_full_queue_by_the_default_overflow_drop_head(self, channel, drain):
        """This is right where only the newest message counts, as with prices. Publishers get a confirm as usual."""
        channel.queue_declare("work", durable=True, arguments={"x-max-length": 2})

        channel.basic_publish("", "work", b"first")
        channel.basic_publish("", "work", b"second")
        channel.basic_publish("", "work", b"third")

        assert drain("work") == [b"second", b"third"]

    @behaviour("MAXLEN-10")
    @lie("x-death-reason-wrong")
    def test_dead_letters_the_dropped_message_with_reason_maxlen(self, queue, publish, receive, drain):
        """The reason distinguishes a lack of workers from orders that fail: different people have to act."""
        work = queue(**{"x-max-length": 2})

        nacked = publish(work, b"first", b"second", b"third")

        (dead,) = receive("dead")
        assert dead.body == b"first"
        assert dead.died_of == "maxlen"
        assert nacked == []
        assert drain(work) == [b"second", b"third"]

    @behaviour("MAXLEN-03")
    @lie("length-limit-halved")
    def test_does_not_count_unacked_messages(self, channel, queue, publish, receive, drain):
        """With a limit of one there are two messages: what consumers have prefetched comes on top of the limit."""
        work = queue(**{"x-max-length": 1})
        publish(work, b"unacked")
        channel.basic_get(work)

        publish(work, b"second")
        assert drain("dead") == []
        publish(work, b"third")

        (dead,) = receive("dead")
        assert dead.body == b"second"
        assert drain(work) == [b"third"]


class TestOverflowRejectPublish:
    """RabbitMQ: `x-max-length` with `x-overflow: reject-publish`."""

    @behaviour("MAXLEN-07")
    @lie("overflow-lost")
    def test_nacks_new_messages_when_the_queue_is_full(self, queue, publish, drain):
        """The publisher has to slow down, and accepted messages are safe."""
        work = queue(**{"x-max-length": 1, "x-overflow": "reject-publish"})

        nacked = publish(work, b"first", b"second")

        assert nacked == [b"second"]
        assert drain(work) == [b"first"]
        assert drain("dead") == []

    @behaviour("MAXLEN-07")
    @lie("confirm-nacked")
    def test_confirms_new_messages_again_when_there_is_room(self, queue, publish, drain):
        """The nack is about this moment only: a publisher that waits and tries again succeeds."""
        work = queue(**{"x-max-length": 1, "x-overflow": "reject-publish"})
        publish(work, b"first", b"second")
        drain(work)

        nacked = publish(work, b"second")

        assert nacked == []
        assert drain(work) == [b"second"]

    @behaviour("MAXLEN-07")
    @lie("overflow-lost")
    def test_loses_new_messages_silently_without_publisher_confirms(self, connection, queue):
        """Such a publisher loses messages in the busiest hour, and sees no error."""
        work = queue(**{"x-max-length": 1, "x-overflow": "reject-publish"})
        unconfirmed = connection.channel()

        unconfirmed.basic_publish("", work, b"first")
        unconfirmed.basic_publish("", work, b"second")

        # A get waits behind the publishes of its own channel; a passive declare, or another channel, overtakes them.
        _, _, body = unconfirmed.basic_get(work)
        assert body == b"first"
        _, _, body = unconfirmed.basic_get(work)
        assert body is None
        assert unconfirmed.is_open


class TestOverflowRejectPublishDlx:
    """RabbitMQ: `x-max-length` with `x-overflow: reject-publish-dlx`."""

    @behaviour("MAXLEN-08")
    @lie("overflow-lost")
    def test_nacks_the_new_message_and_dead_letters_it_with_reason_maxlen(self, queue, publish, receive, drain):
        """A publisher that sends it again after the nack has it twice: once here, once among the dead letters."""
        work = queue(**{"x-max-length": 1, "x-overflow": "reject-publish-dlx"})

        nacked = publish(work, b"first", b"second")

        (dead,) = receive("dead")
        assert nacked == [b"second"]
        assert dead.body == b"second"
        assert dead.died_of == "maxlen"
        assert drain(work) == [b"first"]
