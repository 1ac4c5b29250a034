"""Declaring queues: reserved names, invalid arguments, transient queues, and the counts that the broker returns.

Spec: https://www.rabbitmq.com/docs/queues
Reference: QDECL-04, QDECL-11, QDECL-16, GET-01, QDECL-05, QDECL-06, QDECL-09, QDECL-12, QQDECL-08
"""

import pika
import pytest
from pika import spec

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


class TestQueueName:
    """RabbitMQ: the name in `queue.declare`."""

    @behaviour("QDECL-05")
    @lie("queue-name-changed")
    def test_loses_its_line_breaks(self, raw_client, lookup):
        """A name that was read from a file with its line end is the same name, and the answer has it without them."""
        client = raw_client().open(1)

        client.say(spec.Queue.Declare(queue="wo\r\nrk\n", durable=True), channel=1)

        assert client.hears("queue.declare-ok").queue == "work"
        assert lookup("queue", "work") == "exists"

    @behaviour("QDECL-06")
    @lie("message-lost")
    def test_may_have_255_bytes_of_utf_8(self, channel, drain):
        """Names in any language are possible; the limit counts bytes, not letters."""
        name = "ö" * 127 + "o"
        channel.queue_declare(name, durable=True)

        channel.basic_publish("", name, b"order")

        assert drain(name) == [b"order"]

    @behaviour("QQDECL-08")
    @lie("message-lost")
    def test_of_a_quorum_queue_may_have_255_bytes_beside_a_long_vhost(self, channel, drain):
        """A quorum queue also has a name inside the broker: its limit is none of the client's business."""
        name = "q" * 255
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})

        channel.basic_publish("", name, b"order")

        assert drain(name) == [b"order"]


class TestQueueType:
    """RabbitMQ: `x-queue-type`."""

    @behaviour("QDECL-12", "CHAN-03")
    @lie("queue-type-lost")
    @pytest.mark.parametrize("other", ["quorum", "stream"])
    def test_of_a_queue_cannot_be_changed_by_a_declaration_and_closes_the_channel_with_406(
        self, channel, refusal, other
    ):
        """A queue moves to another type under a new name, or by being deleted first."""
        channel.queue_declare("work", durable=True)

        said = refusal(lambda late: late.queue_declare("work", durable=True, arguments={"x-queue-type": other}))

        assert said.code == 406
        assert said.closed == "channel"
        assert "inequivalent arg 'x-queue-type' for queue 'work'" in said.text


class TestIntegerArgument:
    """RabbitMQ: a number in the arguments of a queue."""

    @behaviour("QDECL-09")
    @lie("precondition-hidden")
    def test_equals_the_same_integer_of_another_width_and_not_a_double(self, channel, raw_client):
        """Clients choose the width by the size of the number, or by the language: that does not make two queues."""
        channel.queue_declare("work", durable=True, arguments={"x-max-length": 100})
        client = raw_client().open(1, 2, 3, 4)

        def declare(number, value):
            table = b"\x0cx-max-length" + value
            method = b"\x00\x32\x00\x0a\x00\x00\x04work\x02" + len(table).to_bytes(4, "big") + table
            client.send(b"\x01\x00" + bytes([number]) + len(method).to_bytes(4, "big") + method + b"\xce")

        for number, value in enumerate([b"b\x64", b"s\x00\x64", b"l" + bytes(7) + b"\x64"], start=1):
            declare(number, value)
            client.hears("queue.declare-ok")
        declare(4, b"d\x40\x59" + bytes(6))
        assert client.hears("channel.close").reply_code == 406
