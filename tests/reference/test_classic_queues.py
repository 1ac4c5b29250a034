"""Classic queues: the arguments and policies of their storage, and what is in memory.

Before 3.12 the mode lazy kept waiting messages on disk and out of memory. Since then every classic queue does so: mode
and version are accepted by some versions and refused by others, and compared when a queue is declared again.

Spec: https://www.rabbitmq.com/docs/classic-queues
Reference: QDECL-08, QDECL-11, QDECL-17, QDECL-18, QQDECL-02, POLICY-01, POLICY-03
"""

import pytest
from pika import BasicProperties, DeliveryMode

from rmqspec.tools.broker import ManagementError

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

# A broker of its own is started here: ten seconds on a busy machine, more on a slow one.
pytestmark = pytest.mark.timeout(180)

LAZY = {"x-queue-mode": "lazy"}


@pytest.fixture
def declare(refusal):
    """Declares the durable queue `work` with these arguments, and returns how the broker answered: `declare(LAZY)`."""

    def with_arguments(arguments):
        return refusal(lambda channel: channel.queue_declare("work", durable=True, arguments=arguments))

    return with_arguments


class TestQueueVersion:
    """RabbitMQ: the argument `x-queue-version` and the policy `queue-version` of a classic queue."""

    @behaviour("QDECL-17", "QDECL-11", "CHAN-03")
    @lie("queue-version-lost")
    @pytest.mark.parametrize(
        ("version", "reason"),
        [
            pytest.param(1, "unsupported queue version '1'", id="one", marks=rabbitmq(since="4.3")),
            pytest.param(3, "unsupported queue version '3'", id="three"),
            pytest.param("2", "expected integer", id="text"),
        ],
    )
    def test_that_is_unsupported_or_text_closes_the_channel_with_406(self, declare, version, reason):
        """Since 4.3 a program that declares version 1 does not start, although its queue exists."""
        said = declare({"x-queue-version": version})

        assert said.code == 406
        assert said.closed == "channel"
        assert reason in said.text

    @behaviour("QDECL-17")
    @rabbitmq(before="4.3")
    @lie("storage-arguments-refused")
    def test_1_is_accepted_before_4_3(self, declare, channel, drain):
        """Find and remove this argument before an upgrade to 4.3, which refuses it."""
        said = declare({"x-queue-version": 1})

        assert said.code == 0
        channel.basic_publish("", "work", b"letter")
        assert drain("work") == [b"letter"]

    @behaviour("QDECL-17")
    @lie("message-lost")
    @pytest.mark.parametrize("version", [1, 2], ids=["one", "two"])
    def test_1_and_2_are_accepted_in_a_policy(self, broker, vhost, channel, drain, version):
        """Even 4.3 accepts 1 in a policy, and refuses it as an argument. In 4.x version 2 is used in any case."""
        broker.management.set_policy(vhost, "version", "^work$", {"queue-version": version})
        channel.queue_declare("work", durable=True)

        channel.basic_publish("", "work", b"letter")

        assert drain("work") == [b"letter"]


class TestQueueMode:
    """RabbitMQ: the argument `x-queue-mode` and the policy `queue-mode`."""

    @behaviour("QDECL-18", "CHAN-03")
    @rabbitmq(before="4.3")
    @lie("queue-mode-lost")
    @pytest.mark.parametrize("mode", ["lasy", 1], ids=["misspelt", "number"])
    def test_that_is_unknown_closes_the_channel_with_406_before_4_3(self, declare, mode):
        """Treated as the default, a misspelt `lazy` would fill the memory that it was to save."""
        said = declare({"x-queue-mode": mode})

        assert said.code == 406
        assert said.closed == "channel"
        assert "x-queue-mode" in said.text

    @behaviour("QDECL-18")
    @rabbitmq(since="4.3")
    @lie("storage-arguments-refused")
    @pytest.mark.parametrize("mode", ["lazy", "lasy", 1], ids=["lazy", "misspelt", "number"])
    def test_is_not_checked_since_4_3(self, declare, channel, drain, mode):
        """The argument has no effect any more. The release notes of 4.3 announce a refusal, which does not come."""
        said = declare({"x-queue-mode": mode})

        assert said.code == 0
        channel.basic_publish("", "work", b"letter")
        assert drain("work") == [b"letter"]

    @behaviour("QQDECL-02", "CHAN-03")
    @lie("queue-mode-lost")
    @pytest.mark.parametrize("queue_type", ["quorum", "stream"])
    def test_lazy_of_a_quorum_queue_or_stream_closes_the_channel_with_406(self, declare, queue_type):
        """A declaration that is changed to another queue type has to lose this argument."""
        said = declare(LAZY | {"x-queue-type": queue_type})

        assert said.code == 406
        assert said.closed == "channel"
        assert f"of queue type rabbit_{queue_type}_queue" in said.text

    @behaviour("QDECL-18")
    @lie(None, because="a policy is set over HTTP, and lies are told on AMQP connections")
    def test_that_is_unknown_is_refused_with_400_in_a_policy(self, broker, vhost):
        """4.3 checks the policy although it does not check the argument, and neither has an effect."""
        broker.management.set_policy(vhost, "spare", "^work$", {"queue-mode": "lazy"})

        with pytest.raises(ManagementError, match="not a valid queue-mode") as error:
            broker.management.set_policy(vhost, "spare", "^work$", {"queue-mode": "lasy"})

        assert error.value.status == 400


class TestRedeclare:
    """RabbitMQ: `queue.declare` of a classic queue that exists, with other arguments for its storage."""

    @behaviour("QDECL-08", "QDECL-18", "CHAN-03")
    @lie("precondition-hidden")
    @pytest.mark.parametrize(
        ("before", "after"),
        [({}, LAZY), (LAZY, {}), ({}, {"x-queue-mode": "default"}), ({}, {"x-queue-version": 2})],
        ids=["lazy_added", "lazy_removed", "default_added", "version_added"],
    )
    def test_with_another_mode_or_version_closes_the_channel_with_406(self, channel, declare, before, after):
        """They are compared even where they have no effect: to remove `lazy`, the queue must be made anew."""
        channel.queue_declare("work", durable=True, arguments=before)

        said = declare(after)

        assert said.code == 406
        assert said.closed == "channel"
        assert "inequivalent arg 'x-queue-" in said.text


# Ten messages go into each of these queues; a policy makes those lazy whose names end in `policy`.
STORED = {
    "transient": {},
    "version_two": {"x-queue-version": 2},
    "lazy": LAZY,
    "lazy_transient": LAZY,
    "lazy_by_policy": {},
    "default_against_policy": {"x-queue-mode": "default"},
}


@pytest.fixture(scope="module")
def in_memory(disposable_broker, disposable_vhost, connect_to_disposable, list_queues):
    """How many of the ten messages of each queue are in memory: `in_memory["lazy"]`."""
    disposable_broker.control("set_policy", "-p", disposable_vhost, "lazy", "policy$", '{"queue-mode": "lazy"}')
    with connect_to_disposable() as channel:
        for queue, arguments in STORED.items():
            mode = DeliveryMode.Transient if "transient" in queue else DeliveryMode.Persistent
            channel.queue_declare(queue, durable=True, arguments=arguments)
            for _ in range(10):
                channel.basic_publish("", queue, b"letter", BasicProperties(delivery_mode=mode))
        rows = list_queues("messages", "messages_ram")
    return {queue: f"{row['messages_ram']} of {row['messages']}" for queue, row in rows.items()}


class TestClassicQueueMemory:
    """RabbitMQ: how many of ten waiting messages are in memory, as `rabbitmqctl list_queues` shows it."""

    @behaviour("QDECL-18")
    @rabbitmq(before="3.12")
    @lie("always-lazy")
    def test_keeps_all_messages_that_are_not_in_a_lazy_queue_before_3_12(self, in_memory):
        """Transient or persistent, version 1 or 2: while consumers are away, the memory fills."""
        assert in_memory["transient"] == "10 of 10"
        assert in_memory["version_two"] == "10 of 10"

    @behaviour("QDECL-18", "POLICY-01")
    @rabbitmq(before="3.12")
    @lie("queue-mode-lost")
    def test_keeps_no_message_of_a_queue_that_is_lazy_by_argument_or_policy_before_3_12(self, in_memory):
        """Transient messages go to disk too, and are lost at a restart all the same: slow and unsafe at once."""
        assert in_memory["lazy"] == "0 of 10"
        assert in_memory["lazy_transient"] == "0 of 10"
        assert in_memory["lazy_by_policy"] == "0 of 10"

    @behaviour("QDECL-18", "POLICY-03")
    @rabbitmq(before="3.12")
    @lie("arguments-lost")
    def test_keeps_all_messages_before_3_12_if_the_mode_is_default_by_argument_and_lazy_by_policy(self, in_memory):
        """An operator sees that the policy is applied to the queue, and it does not make the queue lazy."""
        assert in_memory["default_against_policy"] == "10 of 10"

    @behaviour("QDECL-18")
    @rabbitmq(since="4.0")
    @lie("second-message-lost")
    def test_keeps_one_of_ten_messages_since_4_0_whatever_argument_and_policy_say(self, in_memory):
        """Every classic queue behaves as lazy ones did; mode and version make no difference."""
        assert in_memory == {
            "transient": "1 of 10",
            "version_two": "1 of 10",
            "lazy": "1 of 10",
            "lazy_transient": "1 of 10",
            "lazy_by_policy": "1 of 10",
            "default_against_policy": "1 of 10",
        }
