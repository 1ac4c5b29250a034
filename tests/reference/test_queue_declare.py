"""Declaring queues: reserved names, invalid arguments, transient queues, and the counts that the broker returns.

Spec: https://www.rabbitmq.com/docs/queues
Reference: QDECL-04, QDECL-11, QDECL-16, GET-01
"""

import pika
import pytest

from rmqspec.tools.broker import Configuration

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq


class TestQueueDeclare:
    """RabbitMQ: `queue.declare`."""

    @behaviour("QDECL-04", "CHAN-03")
    @lie("refusal-hidden")
    def test_closes_the_channel_with_403_for_a_new_name_with_prefix_amq(self, refusal):
        """Names that begin with `amq.` are the broker's own; no program can pass its queue off as one."""
        said = refusal(lambda channel: channel.queue_declare("amq.mine", durable=True))

        assert said.code == 403
        assert said.closed == "channel"
        assert "contains reserved prefix 'amq.*'" in said.text

    @behaviour("QDECL-11", "CHAN-03")
    @lie("leader-locator-lost")
    def test_closes_the_channel_with_406_for_an_unknown_queue_leader_locator(self, refusal):
        """A misspelt value is found when the queue is declared, and not when all leaders are on one node."""
        arguments = {"x-queue-type": "quorum", "x-queue-leader-locator": "nearby"}

        said = refusal(lambda channel: channel.queue_declare("work", durable=True, arguments=arguments))

        assert said.code == 406
        assert said.closed == "channel"
        assert "x-queue-leader-locator" in said.text


class TestBasicGet:
    """RabbitMQ: the count in the answer to `basic.get`."""

    @behaviour("GET-01")
    @lie("left-count-wrong")
    def test_returns_the_number_of_messages_that_remain_ready(self, channel):
        """A program that empties a queue by `basic.get` knows how much is left without another request."""
        channel.queue_declare("work", durable=True)
        for body in (b"first", b"second"):
            channel.basic_publish("", "work", body)

        first, _, _ = channel.basic_get("work")
        second, _, _ = channel.basic_get("work")
        third, _, _ = channel.basic_get("work")

        assert first.message_count == 1
        assert second.message_count == 0
        assert third is None


class TestTransientNonExclusiveQueue:
    """RabbitMQ: a queue that is neither durable nor exclusive, as client libraries declare it by default."""

    @behaviour("QDECL-16")
    @rabbitmq(before="4.3")
    @lie("queue-not-made")
    def test_is_declared_before_4_3(self, channel, lookup):
        """Deprecated, and still accepted: a program that declares such queues is found by the upgrade."""
        channel.queue_declare("passing")

        assert lookup("queue", "passing") == "exists"

    @behaviour("QDECL-16", "CHAN-04")
    @rabbitmq(since="4.3")
    @pytest.mark.timeout(180)
    @lie("error-text-lost")
    def test_closes_the_connection_with_541_where_the_feature_is_denied(self, denying_url, closed_connection):
        """One such declaration costs every channel of the program; a broker with this setting rehearses the upgrade."""
        with pika.BlockingConnection(pika.URLParameters(denying_url)) as connection:
            sibling = connection.channel()

            said = closed_connection(connection, lambda channel: channel.queue_declare("passing"))

        assert said.reply_code == 541
        assert "transient_nonexcl_queues" in said.reply_text
        assert sibling.is_closed


@pytest.fixture(scope="module")
def denying_url(another_broker, route):
    """The URL of a broker that denies queues that are neither durable nor exclusive."""
    denying = Configuration(lines=("deprecated_features.permit.transient_nonexcl_queues = false",))
    return route(another_broker(denying).endpoint.url())
