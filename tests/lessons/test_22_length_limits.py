"""Length limits: a queue that is full.

A queue without a limit grows until the broker has no memory or disk left, and then every producer stands still. A
queue may be limited in messages, in bytes, or both. Full, it drops the oldest that waits and takes the new one; with
another `x-overflow` it refuses the new one, and a producer that asked for confirms hears a nack. In the order system
`orders` drops its oldest into `orders.failed`, where a person sees that the workers cannot keep up.

Spec: https://www.rabbitmq.com/docs/maxlength
Code: rmqspec/orders/topology.py, rmqspec/client/publisher.py
"""

import pytest
from pika import BasicProperties, exceptions

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def queue(channel):
    """Makes a queue whose dead letters go to `dead`: `queue(max_length=1, overflow="reject-publish")`."""

    def declare(name="work", **limits):
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        arguments |= {f"x-{limit.replace('_', '-')}": value for limit, value in limits.items()}
        channel.queue_declare("dead", durable=True)
        channel.queue_declare(name, durable=True, arguments=arguments)
        return name

    return declare


@pytest.fixture
def publish(channel):
    """Publishes to a queue; returns the bodies that were refused."""

    def each(queue, *bodies, properties=None):
        refused = []
        for body in bodies:
            try:
                channel.basic_publish("", queue, body, properties)
            except exceptions.NackError:
                refused.append(body)
        return refused

    return each


@pytest.fixture
def depth(channel):
    def ready(name):
        return channel.queue_declare(name, passive=True).method.message_count

    return ready


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("MAXLEN-01")
    @lie("length-limit-halved")
    def test_drops_the_oldest_of_a_full_queue(self, channel, publish, drain):
        """The newest price counts and the oldest is stale; the producer hears nothing of what it pushed out."""
        channel.queue_declare("work", durable=True, arguments={"x-max-length": 2})

        refused = publish("work", b"first", b"second", b"third")

        assert refused == []
        assert drain("work") == [b"second", b"third"]

    @behaviour("MAXLEN-10")
    @lie("length-limit-halved")
    def test_dead_letters_the_oldest_as_maxlen(self, queue, publish, receive, drain):
        """The reason tells a lack of workers from orders that fail: other people are to be woken."""
        work = queue(max_length=2)

        publish(work, b"first", b"second", b"third")

        (dead,) = receive("dead")
        assert (dead.body, dead.died_of) == (b"first", "maxlen")
        assert drain(work) == [b"second", b"third"]

    @behaviour("MAXLEN-03")
    @lie("length-limit-halved")
    def test_does_not_count_what_is_unacked(self, channel, queue, publish, receive, drain):
        """A limit of one, and two messages in the house: consumers' prefetch comes on top of every limit."""
        work = queue(max_length=1)
        publish(work, b"held")
        channel.basic_get(work)

        publish(work, b"second")
        before = drain("dead")
        publish(work, b"third")

        assert (before, [dead.body for dead in receive("dead")]) == ([], [b"second"])
        assert drain(work) == [b"third"]

    @behaviour("MAXLEN-04")
    @lie("length-limit-halved")
    def test_drops_the_head_after_a_requeue(self, channel, queue, publish, get_without_ack, receive, drain):
        """A message that is given back to a full queue stands at its head, and is itself the one to go."""
        work = queue(max_length=1)
        publish(work, b"given back")
        tag, _ = get_without_ack(channel, work)
        publish(work, b"second")

        channel.basic_nack(tag, requeue=True)

        assert [dead.body for dead in receive("dead")] == [b"given back"]
        assert drain(work) == [b"second"]

    @behaviour("MAXLEN-04", "MAXLEN-07")
    @lie("nack-confirmed")
    def test_keeps_what_is_requeued_when_it_refuses(
        self, channel, queue, publish, get_without_ack, eventually, depth, drain
    ):
        """It was accepted once, and its producer has the confirm: the queue holds more than its limit instead."""
        work = queue(max_length=1, overflow="reject-publish")
        publish(work, b"given back")
        tag, _ = get_without_ack(channel, work)
        publish(work, b"second")

        channel.basic_nack(tag, requeue=True)

        eventually(lambda: depth(work), 2)
        assert publish(work, b"third") == [b"third"]
        assert drain(work) == [b"given back", b"second"]

    @behaviour("MAXLEN-05")
    @lie("byte-limit-lost")
    def test_counts_the_bytes_of_bodies_alone(self, queue, publish, drain):
        """Headers are free: a limit in bytes says little about memory where bodies are short and headers long."""
        work = queue(max_length_bytes=10)
        long = BasicProperties(headers={"note": "n" * 1000})

        publish(work, b"12345", b"67890", properties=long)
        publish(work, b"", b"x")

        assert drain(work) == [b"67890", b"", b"x"]

    @behaviour("MAXLEN-05")
    @lie("byte-limit-lost")
    def test_drops_as_many_as_the_bytes_take(self, queue, publish, drain):
        """One big message may push out many small ones, and one over the limit goes itself as well."""
        work, small = queue(max_length_bytes=10), queue("small", max_length_bytes=10)

        publish(work, b"1234", b"5678", b"90", b"a big one")
        publish(small, b"1234", b"larger than all")

        assert drain(work) == [b"a big one"]
        assert drain(small) == []

    @behaviour("MAXLEN-06")
    @pytest.mark.parametrize(
        ("bodies", "kept"),
        [([b"1", b"2", b"3"], [b"2", b"3"]), ([b"123456", b"7890ab"], [b"7890ab"]), ([b"12345", b"67890"],) * 2],
        ids=["too_many", "too_large", "neither"],
    )
    @lie("look-at-empty")
    def test_applies_whichever_limit_is_hit_first(self, queue, publish, drain, bodies, kept):
        """The count guards against a flood of small messages, the bytes against a few huge ones."""
        work = queue(max_length=2, max_length_bytes=10)

        publish(work, *bodies)

        assert drain(work) == kept

    @behaviour("MAXLEN-07")
    @lie("nack-confirmed")
    def test_refuses_the_new_by_reject_publish(self, queue, publish, drain):
        """Pressure goes back to where the messages come from; what was accepted before stays safe."""
        work = queue(max_length=1, overflow="reject-publish")

        refused = publish(work, b"first", b"second")

        assert refused == [b"second"]
        assert (drain(work), drain("dead")) == ([b"first"], [])

    @behaviour("MAXLEN-07")
    @lie("overflow-lost")
    def test_refuses_in_silence_without_confirms(self, connection, queue):
        """A producer that does not ask is not told: to it, this loses exactly the messages of the busiest hour."""
        work = queue(max_length=1, overflow="reject-publish")
        careless = connection.channel()

        for body in (b"first", b"second"):
            careless.basic_publish("", work, body)

        # A get waits behind the publishes of its own channel; a passive declare, or another channel, overtakes them.
        assert [careless.basic_get(work)[2] for _ in range(2)] == [b"first", None]
        assert careless.is_open

    @behaviour("MAXLEN-07")
    @lie("nack-confirmed")
    def test_accepts_again_when_there_is_room(self, queue, publish, drain):
        """The nack is about this moment: a producer that waits and tries again gets through."""
        work = queue(max_length=1, overflow="reject-publish")

        refused = publish(work, b"first", b"second")
        taken = drain(work)

        assert (refused, taken) == ([b"second"], [b"first"])
        assert publish(work, b"second") == []

    @behaviour("MAXLEN-08")
    @lie("nack-confirmed")
    def test_dead_letters_what_it_refuses(self, queue, publish, receive, drain):
        """Nacked and kept: a producer that sends it again has it twice, once here and once among the dead letters."""
        work = queue(max_length=1, overflow="reject-publish-dlx")

        refused = publish(work, b"first", b"second")

        (dead,) = receive("dead")
        assert refused == [b"second"]
        assert (dead.body, dead.died_of) == (b"second", "maxlen")
        assert drain(work) == [b"first"]

    @behaviour("MAXLEN-02")
    @lie("length-limit-lost")
    def test_delivers_at_length_zero_to_who_waits(
        self, connection, queue, publish, subscribe_without_ack, receive, drain
    ):
        """A queue that holds nothing still hands on: work for whoever is there now, and nobody later."""
        work = queue(max_length=0)
        publish(work, b"nobody is there")
        (dead,) = receive("dead")
        consumer = subscribe_without_ack(connection.channel(), work)

        publish(work, b"somebody is there")

        assert dead.body == b"nobody is there"
        assert (consumer.wait_for(1), drain("dead")) == ([b"somebody is there"], [])

    @behaviour("MAXLEN-13")
    @lie("message-count-wrong")
    def test_trims_a_queue_when_a_policy_limits_it(self, broker, vhost, queue, publish, eventually, depth, drain):
        """An emergency brake for a running system; it deletes at once, and the oldest first."""
        for name in ("work", "beside"):
            publish(queue(name), b"first", b"second", b"third")

        broker.management.set_policy(vhost, "brake", "^work$", {"max-length": 1})

        eventually(lambda: depth("work"), 1)
        assert drain("work") == [b"third"]
        assert drain("beside") == [b"first", b"second", b"third"]

    @behaviour("MAXLEN-11", "CHAN-03")
    @pytest.mark.parametrize(
        ("argument", "value"),
        [("x-overflow", "drop-tail"), ("x-max-length", -1), ("x-max-length", "1"), ("x-max-length-bytes", -1)],
        ids=["unknown_overflow", "negative_length", "length_as_text", "negative_bytes"],
    )
    @lie("precondition-hidden")
    def test_refuses_what_is_no_limit(self, connection, channel, queue, argument, value):
        """Taken for the default, a misspelt overflow would drop what it was meant to protect."""
        known = queue(max_length=0, max_length_bytes=0, overflow="drop-head")
        careless = connection.channel()

        with pytest.raises(exceptions.ChannelClosedByBroker, match=f"invalid arg .*{argument}") as error:
            careless.queue_declare("other", durable=True, arguments={argument: value})

        assert (error.value.reply_code, careless.is_closed, connection.is_open) == (406, True, True)
        assert channel.queue_declare(known, passive=True).method.queue == "work"
