"""Delayed retry: edges of waiting queues, and the delayed retry of quorum queues since 4.3.

Spec: https://www.rabbitmq.com/docs/dlx, https://www.rabbitmq.com/docs/quorum-queues
Reference: DLX-06, DLX-09, XDEATH-16, DELAYRETRY-01…04
"""

import time

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

LONG = 60_000  # milliseconds: a message that waits so long does not return during a test


@pytest.fixture
def waiting_queue(channel):
    """Declares a queue whose messages go to another when they expire: `waiting_queue("20ms", to="work", ttl=20)`."""

    def declare(name, to, ttl=None):
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": to}
        if ttl is not None:
            arguments["x-message-ttl"] = ttl
        channel.queue_declare(name, durable=True, arguments=arguments)

    return declare


class TestWaitingQueue:
    """RabbitMQ: a queue without consumers, with a message TTL and a dead-letter exchange, which delays messages."""

    @behaviour("XDEATH-16")
    @lie("deliveries-swapped")
    def test_returns_messages_to_the_end_of_the_work_queue(self, channel, waiting_queue, get_without_ack, receive):
        """A delayed message loses its place: a retry ladder and ordered processing exclude each other."""
        channel.queue_declare("work", durable=True)
        waiting_queue("20ms", to="work", ttl=20)
        channel.basic_publish("", "work", b"first")
        channel.basic_publish("", "work", b"second")

        tag, body = get_without_ack(channel, "work")
        channel.basic_publish("", "20ms", body)
        channel.basic_ack(tag)

        assert [delivery.body for delivery in receive("work", 2)] == [b"second", b"first"]

    @behaviour("DLX-06")
    @lie("message-ttl-longer")
    def test_loses_messages_silently_if_the_queue_they_return_to_is_missing(
        self, channel, waiting_queue, message_count, eventually, receive, drain
    ):
        """A dead letter is never returned to a publisher: who deletes a queue also loses its delayed messages."""
        waiting_queue("20ms", to="missing", ttl=20)
        channel.basic_publish("", "20ms", b"lost")
        eventually(lambda: message_count("20ms"), 0)

        channel.queue_declare("missing", durable=True)
        channel.basic_publish("", "20ms", b"in time")

        (returned,) = receive("missing")
        assert returned.body == b"in time"
        assert drain("missing") == []


class TestDeadLetterRoutingKey:
    """RabbitMQ: the argument `x-dead-letter-routing-key` of a queue."""

    @behaviour("DLX-09", "CHAN-03")
    @lie("precondition-hidden")
    def test_without_a_dead_letter_exchange_closes_the_channel_with_406(self, refusal, waiting_queue):
        """Half a configuration would be a waiting queue that loses all its messages."""
        arguments = {"x-dead-letter-routing-key": "work"}

        said = refusal(lambda channel: channel.queue_declare("20ms", durable=True, arguments=arguments))

        assert said.code == 406
        assert said.closed == "channel"
        assert "routing_key_but_no_dlx" in said.text
        waiting_queue("20ms", to="work", ttl=20)


class TestDelayedRetry:
    """RabbitMQ: `x-delayed-retry-type`, `-min` and `-max` of a quorum queue, or the same keys of a policy."""

    @pytest.fixture
    def declare(self, channel):
        """Declares the quorum queue `delayed`: `declare("all")` delays each retry by 60 s."""

        def make(retry_type=None):
            arguments = {"x-queue-type": "quorum"}
            if retry_type is not None:
                arguments |= {"x-delayed-retry-type": retry_type, "x-delayed-retry-min": LONG}
            channel.queue_declare("delayed", durable=True, arguments=arguments)

        return make

    @pytest.fixture
    def requeue(self, channel, get_without_ack):
        """Publishes a message, gets it, and requeues it by this method: `requeue("nack")`."""

        def publish_and_requeue(method):
            channel.basic_publish("", "delayed", method.encode())
            tag, _ = get_without_ack(channel, "delayed")
            getattr(channel, f"basic_{method}")(tag, requeue=True)

        return publish_and_requeue

    @behaviour("DELAYRETRY-01")
    @rabbitmq(before="4.3")
    @lie("nack-swallowed")
    def test_arguments_are_accepted_and_ignored_before_4_3(self, declare, requeue, receive):
        """An old broker accepts the arguments, and redelivers at once."""
        declare("all")

        requeue("reject")

        (again,) = receive("delayed")
        assert again.body == b"reject"

    @behaviour("DELAYRETRY-01", "DELAYRETRY-03")
    @rabbitmq(since="4.3")
    @lie("nack-as-reject")
    @pytest.mark.parametrize(
        ("retry_type", "delayed", "at_once"),
        [("failed", "reject", "nack"), ("returned", "nack", "reject")],
        ids=["failed", "returned"],
    )
    def test_delays_rejects_by_type_failed_and_nacks_by_type_returned_since_4_3(
        self, channel, declare, requeue, receive, retry_type, delayed, at_once
    ):
        """A reject is a failure and a nack is not: a consumer that uses the other method gets no delay."""
        declare(retry_type)

        requeue(delayed)
        requeue(at_once)
        channel.basic_publish("", "delayed", b"later")

        assert [delivery.body for delivery in receive("delayed", 2)] == [at_once.encode(), b"later"]

    @behaviour("DELAYRETRY-02", "DELAYRETRY-04")
    @rabbitmq(since="4.3")
    @lie("queue-type-lost")
    def test_multiplies_its_minimum_by_the_number_of_failures_since_4_3(
        self, broker, vhost, channel, declare, subscribe_without_ack
    ):
        """A ladder without further queues, which an operator can set by a policy."""
        policy = {"delayed-retry-type": "all", "delayed-retry-min": 30, "delayed-retry-max": LONG}
        broker.management.set_policy(vhost, "retry", "^delayed$", policy)
        declare()
        channel.basic_publish("", "delayed", b"poison")
        consumer = subscribe_without_ack(channel, "delayed")
        delivered = []

        for attempt in (1, 2, 3):
            consumer.wait_for(attempt)
            delivered.append(time.monotonic())
            channel.basic_reject(consumer.tags[-1], requeue=True)

        assert delivered[1] - delivered[0] > 0.025
        assert delivered[2] - delivered[1] > 0.055
