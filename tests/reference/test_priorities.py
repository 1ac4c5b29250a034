"""Message priorities: limits of `x-max-priority`, quorum queues by version, requeue, expiry and overflow.

Spec: https://www.rabbitmq.com/docs/priority, https://www.rabbitmq.com/docs/quorum-queues#priorities
Reference: PRIO-01…10, QQ-01, QQ-02, QQPRIO-01…05
"""

import pytest
from pika import BasicProperties, exceptions

from rmqspec.tools.broker import ManagementError

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

WITH_PRIORITIES = {"classic": {"x-max-priority": 10}, "quorum": {"x-queue-type": "quorum"}}
TO_DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}


@pytest.fixture
def queue(channel):
    """Declares `work` with priorities, whose dead letters go to `dead`: `queue("quorum")` returns its name."""

    def declare(queue_type="classic", **arguments):
        channel.queue_declare("dead", durable=True)
        channel.queue_declare("work", durable=True, arguments=WITH_PRIORITIES[queue_type] | TO_DEAD | arguments)
        return "work"

    return declare


@pytest.fixture
def publish(channel):
    """Publishes messages to a queue in this order, each with its priority: `publish("work", low=0, high=9)`."""

    def each(queue, expiration=None, **priorities):
        for body, priority in priorities.items():
            properties = BasicProperties(priority=priority, expiration=expiration)
            channel.basic_publish("", queue, body.encode(), properties)

    return each


@pytest.fixture
def pass_the_expiration(channel, receive):
    """Returns when messages that were published before with an expiration of 1 ms have outlived it."""

    def wait():
        channel.queue_declare("later expired", durable=True)
        arguments = TO_DEAD | {"x-dead-letter-routing-key": "later expired"}
        channel.queue_declare("later", durable=True, arguments=arguments)
        channel.basic_publish("", "later", b"", BasicProperties(expiration="5"))
        receive("later expired")

    return wait


class TestMaxPriority:
    """RabbitMQ: the argument `x-max-priority` of a classic queue."""

    @behaviour("PRIO-02", "PRIO-03")
    @lie("excess-priority-lost")
    def test_caps_higher_message_priorities(self, queue, publish, drain):
        """A publisher gains nothing by a larger number, and gets no error for trying."""
        work = queue("classic")

        publish(work, nine=9, ten=10, beyond=255, ten_too=10)

        assert drain(work) == [b"ten", b"beyond", b"ten_too", b"nine"]

    @behaviour("PRIO-03")
    @rabbitmq(before="4.0")
    @lie("priorities-always")
    def test_of_0_means_no_priorities_before_4_0(self, queue, publish, drain):
        """This was a way to switch priorities off."""
        work = queue(**{"x-max-priority": 0})

        publish(work, zero=0, nine=9, five=5)

        assert drain(work) == [b"zero", b"nine", b"five"]

    @behaviour("PRIO-03")
    @rabbitmq(since="4.0")
    @lie("priority-levels-lost")
    def test_of_0_means_two_levels_since_4_0(self, queue, publish, drain):
        """A queue that was declared with 0 to switch priorities off has them after the upgrade."""
        work = queue(**{"x-max-priority": 0})

        publish(work, zero=0, one=1, nine=9)

        assert drain(work) == [b"one", b"nine", b"zero"]

    @behaviour("PRIO-03", "QDECL-20", "CHAN-03")
    @lie("precondition-hidden")
    @pytest.mark.parametrize("maximum", [-1, 256, "10", True], ids=["negative", "over_255", "text", "boolean"])
    def test_closes_the_channel_with_406_unless_an_integer_from_0_to_255(self, queue, refusal, lookup, maximum):
        """The property is one byte, and every level costs memory."""
        known = queue()

        said = refusal(lambda channel: channel.queue_declare("other", arguments={"x-max-priority": maximum}))

        assert said.code == 406
        assert said.closed == "channel"
        assert "invalid arg 'x-max-priority'" in said.text
        assert lookup("queue", known) == "exists"

    @behaviour("PRIO-07")
    @lie("priorities-always")
    def test_is_not_accepted_in_a_policy(self, broker, vhost, channel, publish, drain):
        """An operator cannot give priorities to a queue that exists, as they can a length limit."""
        channel.queue_declare("work", durable=True)
        broker.management.set_policy(vhost, "short", "^work$", {"max-length": 10})

        with pytest.raises(ManagementError, match=r"max-priority.*not recognised") as error:
            broker.management.set_policy(vhost, "urgent", "^work$", {"max-priority": 10})

        assert error.value.status == 400
        publish("work", low=0, high=9)
        assert drain("work") == [b"low", b"high"]


class TestQuorumQueuePriority:
    """RabbitMQ: priorities of a quorum queue, which changed with 4.0 and with 4.3."""

    @behaviour("QQPRIO-01")
    @rabbitmq(before="4.0")
    @lie("priorities-always")
    def test_is_ignored_before_4_0(self, queue, publish, drain):
        """All messages are delivered in publish order, whatever their priority."""
        work = queue("quorum")

        publish(work, low=0, high=9, middle=5)

        assert drain(work) == [b"low", b"high", b"middle"]

    @behaviour("QQPRIO-01", "QQPRIO-02", "QQPRIO-04")
    @rabbitmq(since="4.0", before="4.3")
    @lie("priority-lost")
    def test_delivers_two_messages_of_priority_5_or_more_for_each_lower_one_from_4_0_to_4_2(
        self, queue, publish, drain
    ):
        """There are two levels only, and the ratio of two to one keeps the lower one from starving."""
        work = queue("quorum")

        publish(work, none=None, zero=0, four=4, five=5, nine=9, six=6, most=255)

        assert drain(work) == [b"five", b"nine", b"none", b"six", b"most", b"zero", b"four"]

    @behaviour("QQPRIO-02")
    @rabbitmq(since="4.3")
    @lie("missing-priority-0")
    def test_treats_missing_priority_as_4_since_4_3(self, queue, publish, drain):
        """Moved here from a classic queue, messages of priority 1 to 3 fall behind those without one."""
        work = queue("quorum")

        publish(work, three=3, none=None, four=4, five=5)

        assert drain(work) == [b"five", b"none", b"four", b"three"]

    @behaviour("QQPRIO-03")
    @rabbitmq(since="4.3")
    @lie("excess-priority-lost")
    def test_is_capped_at_31_since_4_3(self, queue, publish, drain):
        """Larger numbers are accepted, and mean 31."""
        work = queue("quorum")

        publish(work, thirty=30, highest=31, beyond=255, highest_too=31)

        assert drain(work) == [b"highest", b"beyond", b"highest_too", b"thirty"]


class TestRequeuedMessage:
    """RabbitMQ: a message of a priority queue that was requeued, while one of higher priority waits."""

    @pytest.fixture
    def requeue_a_lower_one(self, channel, queue, publish, get_without_ack, eventually, message_count):
        """Gets `low`, publishes `high`, and requeues `low`; `low_too` was waiting all the time."""

        def requeue(queue_type):
            work = queue(queue_type)
            publish(work, low=0, low_too=0)
            tag, _ = get_without_ack(channel, work)
            publish(work, high=9)
            channel.basic_nack(tag, requeue=True)
            eventually(lambda: message_count(work), 3)
            return work

        return requeue

    @behaviour("PRIO-06")
    @lie("priority-lost")
    def test_is_delivered_by_its_priority_in_a_classic_queue(self, requeue_a_lower_one, drain):
        """A message that fails again and again does not delay urgent ones."""
        work = requeue_a_lower_one("classic")

        assert drain(work) == [b"high", b"low", b"low_too"]

    @behaviour("QQPRIO-05")
    @rabbitmq(since="4.0")
    @lie("priority-lost")
    def test_is_delivered_ahead_of_higher_priorities_in_a_quorum_queue_since_4_0(self, requeue_a_lower_one, drain):
        """A message that fails again and again delays the urgent ones."""
        work = requeue_a_lower_one("quorum")

        assert drain(work) == [b"low", b"high", b"low_too"]


class TestExpiredMessage:
    """RabbitMQ: a message of a classic priority queue that has outlived its TTL; only the head of a queue expires."""

    @behaviour("PRIO-08")
    @lie("priority-reversed")
    def test_is_kept_and_counted_behind_a_higher_priority(
        self, queue, publish, pass_the_expiration, message_count, drain, receive
    ):
        """It is not delivered, but the queue looks longer than it is, and the dead letter comes late."""
        work = queue()
        publish(work, live=9)
        publish(work, low=0, expiration="1")

        pass_the_expiration()

        assert message_count(work) == 2
        assert drain(work) == [b"live"]
        (dead,) = receive("dead")
        assert dead.body == b"low"

    # rabbitmq-server issue 1449: what overtakes starts no timer, and expired messages are removed only after a get.
    @behaviour("PRIO-08")
    @lie("priority-levels-lost")
    def test_is_still_delivered_if_its_higher_priority_put_it_ahead_of_an_earlier_live_message(
        self, queue, publish, pass_the_expiration, drain
    ):
        """The TTL is not kept here: a consumer that must never act on old messages compares a timestamp."""
        work = queue()
        publish(work, live=0)
        publish(work, expired=9, expiration="1")

        pass_the_expiration()

        assert drain(work) == [b"expired", b"live"]


class TestExpiredMessageOfQuorumQueue:
    """RabbitMQ: a message of a quorum queue that has outlived its TTL, while a message before it lives on."""

    @behaviour("QQ-01")
    @lie("expiration-lost")
    def test_waits_behind_a_live_message_until_it_is_the_head_of_its_queue(
        self, channel, queue, pass_the_expiration, message_count, drain, receive
    ):
        """One message with a long TTL delays the dead letters of all behind it; the queue looks longer than it is."""
        work = queue("quorum", **{"x-message-ttl": 600_000})
        channel.basic_publish("", work, b"live")
        for body in (b"expired", b"expired too"):
            channel.basic_publish("", work, body, BasicProperties(expiration="1"))

        pass_the_expiration()

        assert message_count(work) == 3
        assert drain("dead") == []
        assert drain(work) == [b"live"]
        assert [dead.body for dead in receive("dead", 2)] == [b"expired", b"expired too"]

    @behaviour("QQ-02")
    @rabbitmq(before="4.3")
    @lie("expiration-lost")
    def test_waits_behind_a_live_message_of_higher_priority_before_4_3(
        self, queue, publish, pass_the_expiration, message_count, drain, receive
    ):
        """Retries by TTL stand still as long as more urgent messages wait in the same queue."""
        work = queue("quorum")
        publish(work, live=9)
        publish(work, expired=1, expiration="1")

        pass_the_expiration()

        assert message_count(work) == 2
        assert drain("dead") == []
        assert drain(work) == [b"live"]
        assert [dead.body for dead in receive("dead")] == [b"expired"]

    @behaviour("QQ-02")
    @rabbitmq(since="4.3")
    @lie("priority-lost")
    def test_is_dead_lettered_from_the_head_of_each_priority_since_4_3(
        self, queue, publish, pass_the_expiration, message_count, drain, receive
    ):
        """Retries by TTL come on time, whatever waits with another priority in the same queue."""
        work = queue("quorum")
        publish(work, live=5)
        for priority in (9, 1):
            publish(work, expiration="1", **{f"expired {priority}": priority})

        pass_the_expiration()

        assert sorted(dead.body for dead in receive("dead", 2)) == [b"expired 1", b"expired 9"]
        assert message_count(work) == 1
        assert drain(work) == [b"live"]


class TestOverflow:
    """RabbitMQ: a full priority queue with `x-overflow: reject-publish`."""

    @behaviour("PRIO-10")
    @lie("nack-confirmed")
    def test_reject_publish_nacks_even_a_message_of_higher_priority(self, channel, queue, publish, drain):
        """The queue makes no room for an urgent message."""
        work = queue(**{"x-max-length": 1, "x-overflow": "reject-publish"})
        publish(work, low=0)

        with pytest.raises(exceptions.NackError):
            publish(work, high=9)

        assert channel.is_open
        assert drain(work) == [b"low"]
