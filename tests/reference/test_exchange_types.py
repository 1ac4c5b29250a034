"""Exchange types: those that came to the broker with a release.

A type that a broker does not know is refused. A topology that declares one can be imported only where it is known.

Spec: https://www.rabbitmq.com/docs/local-random-exchange, https://www.rabbitmq.com/docs/exchanges
Reference: XTYPES-06, XTYPES-07
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq


class TestUnknownExchangeType:
    """RabbitMQ: an exchange type of a later release."""

    @lie("connection-code-changed", cases=("local_random", "modulus_hash"))
    @lie("precondition-hidden", cases="modulus_hash_since_4_0")
    @pytest.mark.parametrize(
        ("kind", "code", "closed"),
        [
            pytest.param(
                "x-local-random", 503, "connection", id="local_random",
                marks=[rabbitmq(before="3.13"), behaviour("XTYPES-06", "XDECL-07")],
            ),
            pytest.param(
                "x-modulus-hash", 503, "connection", id="modulus_hash",
                marks=[rabbitmq(before="3.13"), behaviour("XTYPES-07", "XDECL-07")],
            ),
            pytest.param(
                "x-modulus-hash", 406, "channel", id="modulus_hash_since_4_0",
                marks=[rabbitmq(since="4.0", before="4.3"), behaviour("XTYPES-07", "XDECL-07")],
            ),
        ],
    )  # fmt: skip
    def test_is_refused_with_503_or_since_4_0_with_406(self, connect, channel, refusal, kind, code, closed):
        """A program that is written for the newer release does not start, and the text names the type."""
        said = refusal(lambda careless: careless.exchange_declare("spread", kind, durable=True), on=connect())

        assert said.code == code
        assert said.closed == closed
        assert f"unknown exchange type '{kind}'" in said.text
        assert channel.queue_declare("work", durable=True).method.queue == "work"


class TestLocalRandomExchange:
    """RabbitMQ: an exchange of type `x-local-random`."""

    @behaviour("XTYPES-06")
    @rabbitmq(since="4.0")
    @lie("second-message-lost")
    def test_delivers_each_message_to_one_of_its_queues_since_4_0(self, channel, bound_queue, drain):
        """It shares out the work without a queue that all consumers wait at, and without a hop to another node."""
        channel.exchange_declare("spread", "x-local-random", durable=True)
        queues = [bound_queue("spread") for _ in range(3)]

        for body in (b"1", b"2", b"3", b"4"):
            channel.basic_publish("spread", "any", body)

        assert sorted(body for queue in queues for body in drain(queue)) == [b"1", b"2", b"3", b"4"]


class TestModulusHashExchange:
    """RabbitMQ: an exchange of type `x-modulus-hash`, without the plugin `rabbitmq_sharding`."""

    @behaviour("XTYPES-07")
    @rabbitmq(since="4.3")
    @lie("second-message-lost")
    def test_delivers_messages_of_one_routing_key_to_one_of_its_queues_since_4_3(self, channel, bound_queue, drain):
        """Messages of one customer stay in order, although several queues share the load."""
        channel.exchange_declare("spread", "x-modulus-hash", durable=True)
        queues = [bound_queue("spread") for _ in range(3)]

        for body in (b"1", b"2", b"3", b"4"):
            channel.basic_publish("spread", "customer 7", body)

        assert sorted(drain(queue) for queue in queues) == [[], [], [b"1", b"2", b"3", b"4"]]
