"""Single active consumer and consumer priority: one works while the others stand by, and who is asked first.

Several consumers of a queue share its messages, and so they lose their order. A queue with a single active consumer
gives all of them to the one that came first; the others are registered and wait, and the broker itself calls the next
one when the first has gone: a hot standby without elections. Consumer priority is the softer wish: who stands higher
is asked first, and the others get what is too much. Our worker shares orders, so it needs neither; a consumer of ours
that keeps an account, where the order of messages counts, would have the first.

Spec: https://www.rabbitmq.com/docs/consumers
Code: rmqspec/client/consumer.py
"""

import threading
from contextlib import ExitStack

import pytest
from pika import exceptions

from rmqspec.client import Consumer, Outcome
from rmqspec.tools.broker import ManagementError

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
types = pytest.mark.parametrize("queue_type", ["classic", "quorum"])

quorum_since_4 = pytest.param("quorum", marks=pytest.mark.rabbitmq(since="4.0"))
quorum_before_4 = pytest.param("quorum", marks=pytest.mark.rabbitmq(before="4.0"))

SINGLE = {"x-single-active-consumer": True}


@pytest.fixture
def declare(channel):
    """Declares `work` of this type, and returns what publishes to it: `publish = declare("quorum", **SINGLE)`."""

    def make(queue_type="classic", **arguments):
        channel.queue_declare("work", durable=True, arguments={"x-queue-type": queue_type, **arguments})
        return lambda *bodies: [channel.basic_publish("", "work", body) for body in bodies]

    return make


@pytest.fixture
def join(connection, subscribe_without_ack):
    """Subscribes to `work` on a channel of its own, with a priority if one is given: `join(10).wait_for(1)`."""

    def subscribe(priority=None, prefetch=0):
        channel = connection.channel()
        channel.basic_qos(prefetch_count=prefetch)
        return subscribe_without_ack(channel, "work", arguments=None if priority is None else {"x-priority": priority})

    return subscribe


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @types
    @behaviour("SAC-01")
    @lie("single-active-consumer-lost")
    def test_gives_all_to_the_first_consumer(self, declare, join, queue_type):
        """Two workers at once on the same account would make its sums a matter of luck."""
        publish = declare(queue_type, **SINGLE)
        active, standby = join(), join()

        publish(b"1", b"2", b"3")

        assert (active.wait_for(3), standby.bodies) == ([b"1", b"2", b"3"], [])

    @types
    @behaviour("SAC-02", "ORDER-04")
    @lie("single-active-consumer-lost")
    def test_hands_all_over_when_one_ends(self, declare, join, queue_type):
        """The next in line begins where the other had acknowledged: nothing is missing, and the order is kept."""
        publish = declare(queue_type, **SINGLE)
        active, second, third = join(), join(), join()
        publish(b"1", b"2", b"3")
        active.wait_for(3)
        active.channel.basic_ack(active.tags[0])

        active.channel.close()

        assert (second.wait_for(2), third.bodies) == ([b"2", b"3"], [])

    @types
    @behaviour("SAC-02", "SAC-03")
    @lie("cancel-ignored")
    def test_leaves_what_a_cancelled_one_has(self, declare, join, queue_type):
        """A trap: until it has acknowledged that, two are at work at once; close the channel to give all back."""
        publish = declare(queue_type, **SINGLE)
        active, standby = join(), join()
        publish(b"1")
        active.wait_for(1)

        active.channel.basic_cancel(active.consumer_tag)
        publish(b"2")
        standby.wait_for(1)
        active.channel.basic_ack(active.tags[0])
        active.channel.close()
        publish(b"3")

        assert (active.bodies, standby.wait_for(2)) == ([b"1"], [b"2", b"3"])

    @pytest.fixture
    def overtaken(self, declare, join):
        """One consumer has held a message and acknowledged it, while another came that stands higher."""

        def make(queue_type):
            publish = declare(queue_type, **SINGLE)
            active = join(priority=1, prefetch=1)
            publish(b"1")
            active.wait_for(1)
            higher = join(priority=10, prefetch=1)
            publish(b"2")
            active.channel.basic_ack(active.tags[0])
            return active, higher

        return make

    @behaviour("SAC-06")
    @pytest.mark.parametrize("queue_type", ["classic", quorum_before_4])
    @lie("single-active-consumer-lost")
    def test_keeps_the_active_whoever_comes(self, overtaken, queue_type):
        """A priority does not choose the active one here: the node that you prefer has to be started first."""
        active, higher = overtaken(queue_type)

        assert (active.wait_for(2), higher.bodies) == ([b"1", b"2"], [])

    @behaviour("SAC-06")
    @pytest.mark.rabbitmq(since="4.0")
    @lie("consumer-priority-lost")
    def test_yields_to_a_higher_after_an_ack(self, overtaken):
        """The preferred node takes over when it is back, and not in the middle of what the other has in hand."""
        active, higher = overtaken("quorum")

        assert (higher.wait_for(1), active.bodies) == ([b"2"], [b"1"])

    @behaviour("SAC-06", "CPRIO-04")
    @pytest.mark.parametrize("queue_type", ["classic", quorum_since_4])
    @lie("consumer-priority-lost")
    def test_calls_the_highest_that_waits(self, declare, join, queue_type):
        """Where the active one has gone, the line is one of priorities, and of arrival only among equals."""
        publish = declare(queue_type, **SINGLE)
        active, early, higher = join(priority=10), join(priority=1), join(priority=5)

        active.channel.close()
        publish(b"1")

        assert (higher.wait_for(1), early.bodies, active.bodies) == ([b"1"], [], [])

    @behaviour("SAC-04", "SAC-08", "CHAN-03")
    @pytest.mark.parametrize(
        "arguments",
        [{"x-single-active-consumer": "true"}, {"x-single-active-consumer": 1}, {"x-queue-type": "stream", **SINGLE}],
        ids=["word", "number", "stream"],
    )
    @lie("single-active-consumer-lost")
    def test_refuses_half_a_single_consumer(self, connection, declare, arguments):
        """Taken for a no, or ignored on a stream, it would be missed only when two consumers are at work."""
        careless = connection.channel()

        with pytest.raises(exceptions.ChannelClosedByBroker, match="x-single-active-consumer") as error:
            careless.queue_declare("work", durable=True, arguments=arguments)

        assert (error.value.reply_code, careless.is_closed, connection.is_open) == (406, True, True)
        declare(**SINGLE)

    @behaviour("SAC-05")
    def test_refuses_to_be_single_by_policy(self, broker, vhost):
        """Switched on while several are at work, it would have to stop all but one in the middle of that."""
        broker.management.set_policy(vhost, "short", "^work$", {"max-length": 10})

        with pytest.raises(ManagementError, match=r"single-active-consumer.*not recognised") as error:
            broker.management.set_policy(vhost, "single", "^work$", {"single-active-consumer": True})

        assert error.value.status == 400

    @behaviour("SAC-07", "CHAN-03")
    @lie("single-active-consumer-lost")
    def test_refuses_a_get_beside_the_active(self, connection, declare, join):
        """Who takes a message by hand would be a second consumer, of whom the queue knows nothing."""
        publish = declare("quorum", **SINGLE)
        publish(b"1")
        careless = connection.channel()

        with pytest.raises(exceptions.ChannelClosedByBroker, match="with single active consumer") as error:
            careless.basic_get("work")

        assert (error.value.reply_code, careless.is_closed, connection.is_open) == (405, True, True)
        assert join().wait_for(1) == [b"1"]

    @types
    @behaviour("CPRIO-01", "CPRIO-04")
    @lie("consumer-priority-lost")
    def test_asks_first_who_stands_higher(self, declare, join, queue_type):
        """The near one gets all that it has room for, the far one only what is too much, and all when it is alone."""
        publish = declare(queue_type)
        far, near = join(), join(priority=10, prefetch=2)
        publish(b"1", b"2", b"3")
        first = [*near.wait_for(2)], [*far.wait_for(1)]

        near.channel.basic_cancel(near.consumer_tag)
        publish(b"4")

        assert (first, far.wait_for(2)) == (([b"1", b"2"], [b"3"]), [b"3", b"4"])

    @behaviour("CPRIO-02")
    @lie("consumer-priority-lost")
    def test_takes_turns_among_equals(self, declare, join):
        """Nothing said means zero, and who wants to be asked last says less than that."""
        publish = declare()
        unsaid, zero, last = join(), join(priority=0), join(priority=-1)

        publish(b"1", b"2", b"3", b"4")

        assert (unsaid.wait_for(2), zero.wait_for(2), last.bodies) == ([b"1", b"3"], [b"2", b"4"], [])

    @behaviour("CPRIO-03", "CPRIO-05", "CHAN-03")
    @pytest.mark.parametrize(("queue_type", "priority"), [("classic", "high"), ("stream", 10)])
    @lie("consumer-priority-lost")
    def test_refuses_a_vain_priority(self, connection, declare, join, queue_type, priority):
        """A word is no number, and readers of a stream do not compete: nobody would be asked before another."""
        declare(queue_type)
        careless = connection.channel()
        careless.basic_qos(prefetch_count=1)

        with pytest.raises(exceptions.ChannelClosedByBroker, match="x-priority") as error:
            careless.basic_consume("work", print, arguments={"x-priority": priority})

        assert (error.value.reply_code, careless.is_closed, connection.is_open) == (406, True, True)
        assert join(prefetch=1).channel.is_open


class TestConsumer:
    """What our consumer adds."""

    @pytest.fixture
    def start(self, url):
        """Starts a consumer of `work` in a thread, and returns it and the list of what it takes."""
        with ExitStack() as ends:

            def run(**options):
                took = []
                consumer = Consumer(url, "work", lambda delivery: took.append(delivery.body) or Outcome.ACK, **options)
                thread = threading.Thread(target=consumer.run)
                thread.start()
                ends.callback(lambda: (consumer.stop(), thread.join()))
                return consumer, took

            yield run

    @behaviour("CPRIO-01")
    @lie("consumer-count-wrong")
    def test_is_asked_first_if_told_so(self, channel, declare, start, eventually):
        """The far one is a reserve: it has nothing to do as long as the near one keeps up."""
        publish = declare()
        (far, _), (_, near) = start(prefetch=10), start(prefetch=10, arguments={"x-priority": 10})
        eventually(lambda: channel.queue_declare("work", passive=True).method.consumer_count, 2)

        publish(b"1", b"2", b"3")

        eventually(lambda: (near, far.outcomes), ([b"1", b"2", b"3"], {}))
