"""Single active consumer: consumer priorities, `basic.get` beside it, and invalid declarations.

Spec: https://www.rabbitmq.com/docs/consumers#single-active-consumer
Reference: SAC-01…08
"""

import pytest

from rmqspec.tools.broker import ManagementError

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

SINGLE = {"x-single-active-consumer": True}
QUORUM_SINCE_40 = pytest.param("quorum", marks=rabbitmq(since="4.0"))
QUORUM_BEFORE_40 = pytest.param("quorum", marks=rabbitmq(before="4.0"))


@pytest.fixture
def declare(channel):
    """Declares the queue `work` with a single active consumer: `declare("quorum")`."""

    def make(queue_type):
        channel.queue_declare("work", durable=True, arguments=SINGLE | {"x-queue-type": queue_type})

    return make


class TestSingleActiveConsumer:
    """RabbitMQ: which consumer becomes the active one."""

    @pytest.fixture
    def ack_beside_a_higher_priority(self, declare, channel, new_consumer):
        """The active consumer acks `1` while one of higher priority has joined, and `2` waits."""

        def make(queue_type):
            declare(queue_type)
            active = new_consumer("work", prefetch=1, priority=1)
            channel.basic_publish("", "work", b"1")
            active.wait_for(1)
            higher = new_consumer("work", prefetch=1, priority=10)
            channel.basic_publish("", "work", b"2")
            active.channel.basic_ack(active.tags[0])
            return active, higher

        return make

    @behaviour("SAC-06")
    @lie("single-active-consumer-lost")
    @pytest.mark.parametrize("queue_type", ["classic", QUORUM_BEFORE_40])
    def test_stays_active_when_a_higher_priority_joins_a_classic_queue_or_before_4_0_a_quorum_queue(
        self, ack_beside_a_higher_priority, queue_type
    ):
        """Priority does not choose the active consumer here: the preferred one has to be started first."""
        active, higher = ack_beside_a_higher_priority(queue_type)

        assert active.wait_for(2) == [b"1", b"2"]
        assert higher.bodies == []

    @behaviour("SAC-06")
    @rabbitmq(since="4.0")
    @lie("consumer-priority-lost")
    def test_is_replaced_since_4_0_after_its_ack_when_a_higher_priority_joins_a_quorum_queue(
        self, ack_beside_a_higher_priority
    ):
        """The preferred consumer takes over when it is back, but not before the other has finished its messages."""
        active, higher = ack_beside_a_higher_priority("quorum")

        assert higher.wait_for(1) == [b"2"]
        assert active.bodies == [b"1"]

    @behaviour("SAC-06", "CPRIO-04")
    @lie("consumer-priority-lost")
    @pytest.mark.parametrize("queue_type", ["classic", QUORUM_SINCE_40])
    def test_is_replaced_by_the_highest_waiting_priority_when_its_channel_closes(
        self, declare, channel, new_consumer, queue_type
    ):
        """The order of subscription decides among equal priorities only."""
        declare(queue_type)
        active = new_consumer("work", priority=10)
        early = new_consumer("work", priority=1)
        higher = new_consumer("work", priority=5)

        active.channel.close()
        channel.basic_publish("", "work", b"1")

        assert higher.wait_for(1) == [b"1"]
        assert early.bodies == []
        assert active.bodies == []


class TestBasicGet:
    """RabbitMQ: `basic.get` on a queue with a single active consumer."""

    @behaviour("SAC-07", "GET-06", "CHAN-03")
    @lie("lock-hidden")
    def test_closes_the_channel_with_405_beside_the_single_active_consumer_of_a_quorum_queue(
        self, declare, channel, new_consumer, refusal
    ):
        """It would be a second consumer, which breaks the order that the queue was declared for."""
        declare("quorum")
        active = new_consumer("work", prefetch=1)
        channel.basic_publish("", "work", b"1")
        channel.basic_publish("", "work", b"2")
        active.wait_for(1)

        said = refusal(lambda careless: careless.basic_get("work"))

        assert said.code == 405
        assert said.closed == "channel"
        assert "with single active consumer" in said.text
        active.channel.basic_ack(active.tags[0])
        assert active.wait_for(2) == [b"1", b"2"]

    @behaviour("SAC-07", "GET-06", "CHAN-03")
    @lie("lock-hidden")
    def test_closes_the_channel_with_405_on_a_quorum_queue_even_without_a_consumer(self, declare, refusal):
        """A tool that looks at messages with `basic.get` cannot look at such a queue at all."""
        declare("quorum")

        said = refusal(lambda careless: careless.basic_get("work"))

        assert said.code == 405
        assert said.closed == "channel"
        assert "with single active consumer" in said.text

    @behaviour("SAC-07")
    @lie("look-at-empty")
    def test_returns_the_next_message_beside_the_single_active_consumer_of_a_classic_queue(
        self, declare, channel, new_consumer
    ):
        """Nothing protects the order here: a script that gets messages takes them from the active consumer."""
        declare("classic")
        active = new_consumer("work", prefetch=1)
        channel.basic_publish("", "work", b"1")
        channel.basic_publish("", "work", b"2")
        active.wait_for(1)

        _, _, body = channel.basic_get("work")

        assert body == b"2"
        assert active.bodies == [b"1"]


class TestSingleActiveConsumerArgument:
    """RabbitMQ: the argument `x-single-active-consumer` of a queue."""

    @behaviour("SAC-04", "SAC-08", "CHAN-03")
    @lie("precondition-hidden")
    @pytest.mark.parametrize(
        "arguments",
        [{"x-single-active-consumer": "true"}, {"x-single-active-consumer": 1}, SINGLE | {"x-queue-type": "stream"}],
        ids=["text", "number", "stream"],
    )
    def test_closes_the_channel_with_406_if_not_boolean_or_on_a_stream(self, refusal, declare, arguments):
        """Ignored, the mistake would show only when two consumers run."""
        said = refusal(lambda channel: channel.queue_declare("work", durable=True, arguments=arguments))

        assert said.code == 406
        assert said.closed == "channel"
        assert "x-single-active-consumer" in said.text
        declare("classic")

    @behaviour("SAC-05")
    @lie("single-active-consumer-always")
    def test_is_not_accepted_in_a_policy(self, broker, vhost, channel, new_consumer):
        """It can be set only when the queue is declared: an existing queue has to be deleted and declared anew."""
        channel.queue_declare("work", durable=True)
        broker.management.set_policy(vhost, "short", "^work$", {"max-length": 10})

        with pytest.raises(ManagementError, match=r"single-active-consumer.*not recognised") as error:
            broker.management.set_policy(vhost, "single", "^work$", {"single-active-consumer": True})

        assert error.value.status == 400
        one = new_consumer("work")
        other = new_consumer("work")
        channel.basic_publish("", "work", b"1")
        channel.basic_publish("", "work", b"2")
        assert one.wait_for(1) == [b"1"]
        assert other.wait_for(1) == [b"2"]
