"""Consumer timeout: the delivery acknowledgement timeout as it was before RabbitMQ 4.3, and what 4.3 left out.

A message may be unacked for `consumer_timeout`, 30 minutes by default. Before 4.3 the broker closes the channel of a
consumer that exceeds it; the chapter on consumer cancellation shows this, and what 4.3 does instead. The broker looks
for such consumers once a minute, and here ten times a second.

Spec: https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout
Reference: ACKTIMEOUT-01…08
"""

import pytest

from rmqspec.tools.broker import Configuration

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq
pytestmark = pytest.mark.timeout(180)  # a broker of its own is started

QUARTER_SECOND = Configuration(lines=("consumer_timeout = 250",))
AN_HOUR = 3_600_000  # milliseconds


@pytest.fixture(scope="module")
def disposable_broker(another_broker):
    """A broker with a consumer timeout of 250 ms that checks it every 100 ms."""
    broker = another_broker(QUARTER_SECOND)
    broker.control("eval", "application:set_env(rabbit, channel_tick_interval, 100).")
    return broker


@pytest.fixture
def url(disposable_url):
    return disposable_url


@pytest.fixture(params=["classic", "quorum"])
def queue(request, channel):
    """A queue with one message."""
    name = f"work {request.param}"
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": request.param})
    channel.basic_publish("", name, b"first")
    return name


class TestConsumerTimeout:
    """RabbitMQ before 4.3: a message that is unacked for longer than the consumer timeout."""

    @behaviour("ACKTIMEOUT-08")
    @rabbitmq(before="4.3")
    @lie("code-406-changed")
    def test_applies_to_basic_get_too_before_4_3(self, connection, queue, get_without_ack, closed_channel):
        """A program that fetches a message and forgets to ack it loses its channel as well."""
        forgetful = connection.channel()
        get_without_ack(forgetful, queue)

        error = closed_channel(forgetful)

        assert error.reply_code == 406
        assert "timed out" in error.reply_text


class TestConsumerTimeoutOfOneQueue:
    """RabbitMQ before 4.3: the queue argument `x-consumer-timeout`, here an hour, where 250 ms are configured."""

    @behaviour("ACKTIMEOUT-06")
    @rabbitmq(before="3.12")
    @lie("code-406-changed")
    @pytest.mark.parametrize("queue_type", ["classic", "quorum"])
    def test_is_ignored_before_3_12(self, connection, patient_queue, subscribe_without_ack, closed_channel, queue_type):
        """The queue is declared without an error, and its slow consumers lose their channels all the same."""
        hanging = connection.channel()
        subscribe_without_ack(hanging, patient_queue(queue_type)).wait_for(1)

        error = closed_channel(hanging)

        assert error.reply_code == 406
        assert "timed out" in error.reply_text

    @behaviour("ACKTIMEOUT-06")
    @rabbitmq(since="3.12", before="4.3")
    @lie("arguments-lost")
    @pytest.mark.parametrize("queue_type", ["classic", "quorum"])
    def test_replaces_the_configured_one_from_3_12_to_4_2(
        self, connection, patient_queue, channel, subscribe_without_ack, closed_channel, queue_type
    ):
        """Slow work gets its time, without more time for everybody else."""
        hasty = f"hasty {queue_type}"
        channel.queue_declare(hasty, durable=True)
        channel.basic_publish("", hasty, b"first")
        patient = connection.channel()
        hanging = connection.channel()
        subscribe_without_ack(patient, patient_queue(queue_type)).wait_for(1)
        subscribe_without_ack(hanging, hasty).wait_for(1)

        assert closed_channel(hanging).reply_code == 406
        assert patient.is_open


class TestEffectiveConsumerTimeout:
    """RabbitMQ since 3.12: a queue with the argument `x-consumer-timeout` and a policy with `consumer-timeout`."""

    @behaviour("ACKTIMEOUT-07")
    @rabbitmq(since="3.12")
    @lie("acks-not-awaited", cases="policy")
    @lie("arguments-lost", cases="argument")
    @pytest.mark.parametrize(("argument", "policy"), [(AN_HOUR, 50), (50, AN_HOUR)], ids=["policy", "argument"])
    def test_is_the_smaller_one_of_argument_and_policy_since_3_12(
        self, work_with, connection, subscribe_without_ack, message_count, eventually, argument, policy
    ):
        """An operator can shorten the time that a program allows itself, and cannot lengthen it."""
        hasty, patient = work_with(argument, policy), work_with(AN_HOUR, AN_HOUR)
        for queue in (hasty, patient):
            subscribe_without_ack(connection.channel(), queue).wait_for(1)

        eventually(lambda: message_count(hasty), 1)

        assert message_count(patient) == 0


@pytest.fixture
def work_with(channel, disposable_broker, disposable_vhost):
    """A quorum queue with one message and these consumer timeouts in milliseconds: `work_with(argument, policy)`."""

    def declare(argument, policy):
        name = f"work {argument} {policy}"
        management = disposable_broker.management
        management.set_policy(disposable_vhost, name, f"^{name}$", {"consumer-timeout": policy}, apply_to="queues")
        arguments = {"x-queue-type": "quorum", "x-consumer-timeout": argument}
        channel.queue_declare(name, durable=True, arguments=arguments)
        channel.basic_publish("", name, b"first")
        return name

    return declare


class TestConsumerTimeoutOfClassicQueues:
    """RabbitMQ since 4.3: a message that is unacked for longer than the configured consumer timeout."""

    @behaviour("ACKTIMEOUT-01", "ACKTIMEOUT-03")
    @rabbitmq(since="4.3")
    @lie("queue-type-lost")
    def test_does_not_apply_to_classic_queues_since_4_3(
        self, connection, channel, subscribe_without_ack, cancelled_consumers, message_count, eventually
    ):
        """A consumer that hangs keeps its message for ever, and nobody is told: watch unacked messages yourself."""
        tags = {}
        consuming = connection.channel()
        cancelled = cancelled_consumers(consuming)
        for queue_type in ("classic", "quorum"):
            channel.queue_declare(queue_type, durable=True, arguments={"x-queue-type": queue_type})
            channel.basic_publish("", queue_type, b"first")
            consumer = subscribe_without_ack(consuming, queue_type)
            consumer.wait_for(1)
            tags[queue_type] = consumer.consumer_tag

        eventually(cancelled, [tags["quorum"]])

        assert consuming.is_open
        assert message_count("classic") == 0
        assert message_count("quorum") == 1


@pytest.fixture
def patient_queue(channel):
    """A queue with one message, whose consumers may hold it for an hour: `patient_queue("quorum")`."""

    def declare(queue_type):
        arguments = {"x-queue-type": queue_type, "x-consumer-timeout": AN_HOUR}
        name = f"patient {queue_type}"
        channel.queue_declare(name, durable=True, arguments=arguments)
        channel.basic_publish("", name, b"first")
        return name

    return declare
