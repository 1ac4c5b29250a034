"""Priority queues: what may overtake.

A queue is a line in which nobody jumps ahead, unless it was declared with levels: then an urgent message overtakes all
that wait below it. Only what still waits is overtaken; what a consumer has prefetched is out of reach, so a large
prefetch undoes every priority. Levels have their price: the lowest may wait for ever, an expired message lies hidden,
and a full queue gives up its most urgent message first. Quorum queues of 4.x order by priority without being asked,
and 4.3 in another way than 4.0. The order system knows no urgent orders, and stays without.

Spec: https://www.rabbitmq.com/docs/priority
Code: rmqspec/orders/topology.py, rmqspec/client/topology.py
"""

import pytest
from pika import BasicProperties, exceptions

from rmqspec.tools.broker import ManagementError

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
LEVELS = {"classic": {"x-max-priority": 10}, "quorum": {"x-queue-type": "quorum"}}
QUORUM_40 = pytest.param("quorum", marks=pytest.mark.rabbitmq(since="4.0"))
QUORUM_43 = pytest.param("quorum", marks=pytest.mark.rabbitmq(since="4.3"))  # before, there were but two levels
QUORUM_OLD = pytest.param({"x-queue-type": "quorum"}, marks=pytest.mark.rabbitmq(before="4.0"))
ZERO_OLD = pytest.param({"x-max-priority": 0}, marks=pytest.mark.rabbitmq(before="4.0"))


@pytest.fixture
def queue(channel):
    """Makes a queue whose dead letters go to `dead`: `queue("quorum", **{"x-max-length": 2})`."""

    def declare(queue_type="classic", **arguments):
        channel.queue_declare("dead", durable=True)
        channel.queue_declare("work", durable=True, arguments=LEVELS[queue_type] | DEAD | arguments)
        return "work"

    return declare


@pytest.fixture
def publish(channel):
    """Publishes messages to a queue, each with its priority, None for no property: `publish("work", low=0, high=9)`."""

    def each(queue, expiration=None, **priorities):
        for body, priority in priorities.items():
            channel.basic_publish("", queue, body.encode(), BasicProperties(priority=priority, expiration=expiration))

    return each


@pytest.fixture
def clock(channel, receive):
    """Returns when what was published before with an expiration of 1 ms is past its time."""

    def ring():
        channel.queue_declare("rung", durable=True)
        channel.queue_declare("clock", durable=True, arguments=DEAD | {"x-dead-letter-routing-key": "rung"})
        channel.basic_publish("", "clock", b"", BasicProperties(expiration="5"))
        receive("rung")

    return ring


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("PRIO-01", "QQPRIO-01", "QQPRIO-04")
    @pytest.mark.parametrize("queue_type", ["classic", QUORUM_43])
    @lie("priority-lost")
    def test_serves_the_highest_level_first(self, queue, publish, drain, queue_type):
        """Within a level the oldest is next, so that urgent messages do not overtake each other."""
        work = queue(queue_type)

        publish(work, low=1, high=9, middle=5, high_too=9, low_too=1)

        assert drain(work) == [b"high", b"high_too", b"middle", b"low", b"low_too"]

    @behaviour("PRIO-04", "PRIO-03", "QQPRIO-01")
    @pytest.mark.parametrize("arguments", [{}, ZERO_OLD, QUORUM_OLD], ids=["no_levels", "zero_levels", "quorum"])
    @lie("body-repeated")
    def test_ignores_priorities_without_levels(self, channel, publish, drain, arguments):
        """A producer that sets the property is not told that its urgent messages wait in line with all others."""
        channel.queue_declare("plain", durable=True, arguments=arguments)

        publish("plain", low=0, high=9, middle=5)

        assert drain("plain") == [b"low", b"high", b"middle"]

    @behaviour("PRIO-02")
    @lie("priority-levels-lost")
    def test_takes_no_priority_for_the_lowest(self, queue, publish, drain):
        """Producers that know nothing of levels are overtaken by every one that does, even at level one."""
        work = queue()

        publish(work, none=None, zero=0, none_too=None, one=1)

        assert drain(work) == [b"one", b"none", b"zero", b"none_too"]

    @behaviour("QQPRIO-02")
    @pytest.mark.rabbitmq(since="4.3")
    @lie("priority-lost")
    def test_takes_no_priority_for_four_in_a_quorum(self, queue, publish, drain):
        """Moved from a classic queue, messages of levels one to three fall behind those that have none."""
        work = queue("quorum")

        publish(work, three=3, none=None, four=4, five=5)

        assert drain(work) == [b"five", b"none", b"four", b"three"]

    @behaviour("PRIO-02", "QQPRIO-03")
    @pytest.mark.parametrize("queue_type", ["classic", QUORUM_43])
    @lie("priority-lost")
    def test_lowers_to_the_highest_level(self, queue, publish, drain, queue_type):
        """A producer cannot buy its way past the others with a larger number, nor is it refused for trying."""
        work, highest = queue(queue_type), {"classic": 10, "quorum": 31}[queue_type]

        publish(work, below=highest - 1, highest=highest, beyond=255, highest_too=highest)

        assert drain(work) == [b"highest", b"beyond", b"highest_too", b"below"]

    @behaviour("QQPRIO-01", "QQPRIO-02", "QQPRIO-04")
    @pytest.mark.rabbitmq(since="4.0", before="4.3")
    def test_serves_two_high_for_each_normal(self, queue, publish, drain):
        """Five and more are high, all others normal; a share of one in three keeps the normal ones from starving."""
        work = queue("quorum")

        publish(work, none=None, zero=0, four=4, five=5, nine=9, six=6, most=255)

        assert drain(work) == [b"five", b"nine", b"none", b"six", b"most", b"zero", b"four"]

    @behaviour("PRIO-05")
    @pytest.mark.parametrize("queue_type", ["classic", QUORUM_43])
    @lie("priority-lost")
    def test_overtakes_nothing_that_was_prefetched(self, connection, queue, publish, subscribe_without_ack, queue_type):
        """An urgent message waits behind a consumer's whole prefetch: keep that small where priorities count."""
        work, channel = queue(queue_type), connection.channel()
        channel.basic_qos(prefetch_count=2)
        publish(work, low=0, low_too=0, low_as_well=0)
        consumer = subscribe_without_ack(channel, work)
        consumer.wait_for(2)

        publish(work, high=9)
        channel.basic_ack(consumer.tags[0])

        assert consumer.wait_for(3) == [b"low", b"low_too", b"high"]

    @behaviour("PRIO-05")
    @lie("priority-levels-lost")
    def test_orders_nothing_for_who_waits(self, connection, queue, publish, subscribe_without_ack, drain):
        """What never waits is never sorted: without a prefetch limit the levels cost memory and do nothing."""
        work = queue()
        publish(work, low=0, high=9)
        sorted_in = drain(work)
        consumer = subscribe_without_ack(connection.channel(), work)

        publish(work, low=0, high=9)

        assert sorted_in == [b"high", b"low"]
        assert consumer.wait_for(2) == [b"low", b"high"]

    @behaviour("PRIO-06", "QQPRIO-05")
    @pytest.mark.parametrize("queue_type", ["classic", QUORUM_40])
    @lie("priority-lost")
    def test_sorts_what_is_requeued_if_classic(
        self, channel, queue, publish, get_without_ack, eventually, drain, queue_type
    ):
        """In a quorum queue what was given back is next: one that fails again and again holds up the urgent ones."""
        work = queue(queue_type)
        publish(work, low=0, low_too=0)
        tag, _ = get_without_ack(channel, work)
        publish(work, high=9)

        channel.basic_nack(tag, requeue=True)

        eventually(lambda: channel.queue_declare(work, passive=True).method.message_count, 3)
        sorted_in, next_again = [b"high", b"low", b"low_too"], [b"low", b"high", b"low_too"]
        assert drain(work) == {"classic": sorted_in, "quorum": next_again}[queue_type]

    @behaviour("PRIO-08")
    @lie("priority-reversed")
    def test_hides_the_expired_below_a_live_message(self, queue, publish, clock, channel, drain, receive):
        """Not delivered, but counted and kept: the queue looks busy, and its dead letters come late."""
        work = queue()
        publish(work, live=9)
        publish(work, low=0, expiration="1")

        clock()

        assert channel.queue_declare(work, passive=True).method.message_count == 2
        assert drain(work) == [b"live"]
        assert [dead.body for dead in receive("dead")] == [b"low"]

    # rabbitmq-server issue 1449: what overtakes starts no timer, and expired messages are removed only after a get.
    @behaviour("PRIO-08")
    @lie("priority-levels-lost")
    def test_delivers_the_expired_that_overtook(self, queue, publish, clock, drain):
        """Against the promise of a TTL: who must never act on old messages compares a timestamp of his own."""
        work = queue()
        publish(work, live=0)
        publish(work, expired=9, expiration="1")

        clock()

        assert drain(work) == [b"expired", b"live"]

    @behaviour("PRIO-09")
    @pytest.mark.parametrize("queue_type", ["classic", QUORUM_40])
    @lie("length-limit-halved")
    def test_drops_the_most_urgent_of_a_full_queue(self, queue, publish, receive, drain, queue_type):
        """The head is what goes, and the head is the highest: a flood of trifles pushes out what matters most."""
        work = queue(queue_type, **{"x-max-length": 2})

        publish(work, low=0, high=9, low_too=0)

        assert [dead.body for dead in receive("dead")] == [b"high"]
        assert drain(work) == [b"low", b"low_too"]

    @behaviour("PRIO-10")
    @lie("nack-confirmed")
    def test_refuses_the_urgent_when_full(self, channel, queue, publish, drain):
        """A full queue makes no room for it: what was accepted before keeps its place, be it ever so trifling."""
        work = queue(**{"x-max-length": 1, "x-overflow": "reject-publish"})
        publish(work, low=0)

        with pytest.raises(exceptions.NackError):
            publish(work, high=9)

        assert (drain(work), channel.is_open) == ([b"low"], True)

    @behaviour("PRIO-03", "QDECL-20", "CHAN-03")
    @pytest.mark.parametrize("levels", [-1, 256, "10", True], ids=["negative", "over_255", "text", "boolean"])
    @lie("priority-levels-lost")
    def test_refuses_what_is_no_number_of_levels(self, connection, channel, queue, levels):
        """The property is one byte, and every level costs memory and a queue of its own inside."""
        known = queue()
        careless = connection.channel()

        with pytest.raises(exceptions.ChannelClosedByBroker, match=r"invalid arg .*x-max-priority") as error:
            careless.queue_declare("other", durable=True, arguments={"x-max-priority": levels})

        assert (error.value.reply_code, careless.is_closed, connection.is_open) == (406, True, True)
        assert channel.queue_declare(known, passive=True).method.queue == "work"

    @behaviour("PRIO-03")
    @pytest.mark.rabbitmq(since="4.0")
    @lie("priority-levels-lost")
    def test_gives_a_maximum_of_zero_two_levels(self, queue, publish, drain):
        """A queue that was declared with zero to switch priorities off has them after the upgrade."""
        work = queue(**{"x-max-priority": 0})

        publish(work, zero=0, one=1, nine=9)

        assert drain(work) == [b"one", b"nine", b"zero"]

    @behaviour("PRIO-07")
    def test_refuses_levels_in_a_policy(self, broker, vhost):
        """An operator cannot give a running queue priorities, as it can a length: levels are made with the queue."""
        broker.management.set_policy(vhost, "short", "^work$", {"max-length": 10})

        with pytest.raises(ManagementError, match=r"max-priority.*not recognised") as error:
            broker.management.set_policy(vhost, "urgent", "^work$", {"max-priority": 10})

        assert error.value.status == 400
