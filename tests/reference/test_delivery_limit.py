"""Delivery limit of quorum queues: -1, nack and reject by version, policies, and the two counts.

Spec: https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling
Reference: POISON-01…09, QQ-04, QQ-05
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq


@pytest.fixture
def queue(channel):
    """Declares a quorum queue with one message, whose dead letters go to `dead`: `queue(delivery_limit=2)`."""

    def declare(name="work", delivery_limit=None):
        arguments = {"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        if delivery_limit is not None:
            arguments["x-delivery-limit"] = delivery_limit
        channel.queue_declare("dead", durable=True)
        channel.queue_declare(name, durable=True, arguments=arguments)
        channel.basic_publish("", name, b"poison")
        return name

    return declare


class TestDeliveryLimit:
    """RabbitMQ: the argument `x-delivery-limit` and the policy key `delivery-limit` of a quorum queue."""

    @behaviour("POISON-03")
    @rabbitmq(before="4.0")
    @lie("delivery-limit-lost")
    def test_of_minus_1_dead_letters_at_the_first_failure_before_4_0(self, queue, requeue_until_dead):
        """Here -1 does not mean unlimited: no failure at all is allowed."""
        counts, reason = requeue_until_dead(queue(delivery_limit=-1))

        assert counts == [None]
        assert reason == "delivery_limit"

    @behaviour("POISON-03")
    @rabbitmq(since="4.0")
    @lie("delivery-limit-lost")
    def test_of_minus_1_means_no_limit_since_4_0(self, queue, requeue_until_dead):
        """For consumers that requeue on purpose and count for themselves."""
        counts, reason = requeue_until_dead(queue(delivery_limit=-1))

        assert len(counts) == 22
        assert reason == "rejected"

    @behaviour("POISON-04", "NACK-06")
    @rabbitmq(before="4.3")
    @lie("delivery-limit-lost")
    def test_counts_a_nack_as_a_failure_before_4_3(self, queue, requeue_until_dead):
        """A consumer that nacks because it has no time now uses up the limit as one that fails."""
        counts, reason = requeue_until_dead(queue(delivery_limit=2), "basic_nack")

        assert counts == [None, 1, 2]
        assert reason == "delivery_limit"

    @behaviour("POISON-04", "NACK-06")
    @rabbitmq(since="4.3")
    @lie("nack-as-reject")
    def test_does_not_count_a_nack_as_a_failure_since_4_3(self, queue, requeue_until_dead):
        """Only reject counts: a consumer that nacks its failures is never protected from a poison message."""
        counts, reason = requeue_until_dead(queue(delivery_limit=2), "basic_nack")

        assert counts == [None] * 22
        assert reason == "rejected"

    @behaviour("POISON-07")
    @lie("delivery-limit-lost")
    def test_is_the_lower_one_of_policy_and_argument(self, broker, vhost, queue, requeue_until_dead):
        """An operator can lower a limit that stands in a program, but not raise it."""
        broker.management.set_policy(vhost, "limit", ".*", {"delivery-limit": 1})

        by_argument = requeue_until_dead(queue("lower", delivery_limit=0))
        by_policy = requeue_until_dead(queue("higher", delivery_limit=3))

        assert by_argument == ([None], "delivery_limit")
        assert by_policy == ([None, 1], "delivery_limit")

    @behaviour("QQ-04")
    @lie("x-death-reason-wrong")
    def test_by_policy_ends_a_message_that_has_failed_more_often_already(
        self, broker, vhost, channel, queue, get_without_ack, message_count, eventually, requeue_until_dead
    ):
        """An operator stops a poison message that is going round, without a restart and without a new queue."""
        work = queue(delivery_limit=100)
        for _ in range(5):
            tag, _ = get_without_ack(channel, work)
            channel.basic_reject(tag, requeue=True)
            eventually(lambda: message_count(work), 1)
        broker.management.set_policy(vhost, "limit", ".*", {"delivery-limit": 3})

        counts, reason = requeue_until_dead(work)

        assert counts[0] == 5
        assert reason == "delivery_limit"


class TestDeliveryHeaders:
    """RabbitMQ: the two counts that a delivery of a quorum queue carries since 4.3."""

    @behaviour("POISON-06")
    @rabbitmq(since="4.3")
    @lie("delivery-count-wrong")
    def test_count_all_earlier_deliveries_in_x_acquired_count_and_failures_in_x_delivery_count_since_4_3(
        self, channel, queue, get_without_ack, receive
    ):
        """The first shows how often a message was returned by a nack, which the second does not count."""
        work = queue()
        tag, _ = get_without_ack(channel, work)
        channel.basic_nack(tag, requeue=True)
        tag, _ = get_without_ack(channel, work)
        channel.basic_reject(tag, requeue=True)

        (delivery,) = receive(work)

        assert delivery.headers.get("x-acquired-count") == 2
        assert delivery.headers.get("x-delivery-count") == 1


class TestDeliveryCount:
    """RabbitMQ: `x-delivery-count` of a message that `basic.get` fetches from a quorum queue."""

    @behaviour("POISON-05", "POISON-06")
    @rabbitmq(before="3.12")
    @lie("delivery-count-wrong")
    def test_is_0_at_the_first_get_and_counts_rejects_and_nacks_before_3_12(self, queue, counts_by_get):
        """A consumer may read the header without asking whether it is there; since 3.12 that fails at the first get."""
        assert counts_by_get(queue(), "basic_reject", "basic_nack") == [(0, None), (1, None), (2, None)]

    @behaviour("POISON-05", "POISON-06")
    @rabbitmq(since="3.12", before="4.3")
    @lie("delivery-count-wrong")
    def test_is_absent_at_the_first_get_and_counts_rejects_and_nacks_from_3_12_to_4_2(self, queue, counts_by_get):
        """It is one number for two things: deliveries, and failures that count towards the delivery limit."""
        assert counts_by_get(queue(), "basic_reject", "basic_nack") == [(None, None), (1, None), (2, None)]

    @behaviour("POISON-05", "POISON-06")
    @rabbitmq(since="4.3")
    @lie("delivery-count-wrong")
    def test_is_absent_at_the_first_get_and_counts_rejects_only_since_4_3(self, queue, counts_by_get):
        """Code that stops by this count goes on for ever with nacks; x-acquired-count has the number of deliveries."""
        assert counts_by_get(queue(), "basic_reject", "basic_nack") == [(None, None), (1, 1), (1, 2)]

    @behaviour("QQ-05")
    @lie("delivery-count-wrong")
    def test_counts_a_message_that_was_unacked_when_its_channel_closed(
        self, connection, queue, get_without_ack, receive
    ):
        """A consumer that is restarted uses up the delivery limit, also since 4.3, where a nack does not."""
        work = queue()
        interrupted = connection.channel()
        get_without_ack(interrupted, work)

        interrupted.close()

        (again,) = receive(work)
        assert again.redelivered is True
        assert again.headers.get("x-delivery-count") == 1


@pytest.fixture
def counts_by_get(channel, connection, eventually):
    """Fetches a queue's message by `basic.get`, returns it to the queue by each of these methods, and fetches it again.

    `counts_by_get("work", "basic_nack")`: `x-delivery-count` and `x-acquired-count` of each delivery, None if absent.
    """

    def fetch(queue, *methods):
        counts = []
        for method in (*methods, None):
            eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count, 1)
            got, properties, _ = channel.basic_get(queue)
            headers = properties.headers or {}
            counts.append((headers.get("x-delivery-count"), headers.get("x-acquired-count")))
            if method is not None:
                getattr(channel, method)(got.delivery_tag, requeue=True)
        return counts

    return fetch
