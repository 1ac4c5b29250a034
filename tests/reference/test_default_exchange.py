"""The default exchange: what it refuses, and the name that it does not have.

Spec: https://www.rabbitmq.com/docs/exchanges#default-exchange
Reference: XDEFAULT-02, XDEFAULT-04
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

OPERATIONS = {
    "bind": lambda channel: channel.queue_bind("work", "", "another key"),
    "unbind": lambda channel: channel.queue_unbind("work", "", "work"),
    "bind_to_an_exchange": lambda channel: channel.exchange_bind("amq.fanout", ""),
    "declare": lambda channel: channel.exchange_declare("", "direct", durable=True),
    "delete": lambda channel: channel.exchange_delete(""),
}


@pytest.fixture(autouse=True)
def queue(channel):
    """The queue `work`."""
    channel.queue_declare("work", durable=True)


class TestDefaultExchange:
    """RabbitMQ: the exchange with the empty name, which routes by the names of queues."""

    @behaviour("XDEFAULT-02", "CHAN-03")
    @lie("refusal-hidden")
    @pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
    def test_refuses_to_be_changed_with_403(self, channel, refusal, drain, operation):
        """Every queue can be reached by its name, and by nothing else: no program can take that away."""
        said = refusal(operation)

        assert said.code == 403
        assert said.closed == "channel"
        assert "operation not permitted on the default exchange" in said.text
        channel.basic_publish("", "work", b"by its name")
        assert drain("work") == [b"by its name"]

    @behaviour("XDEFAULT-04", "CHAN-03")
    @lie("code-404-changed")
    def test_cannot_be_published_to_as_amq_default(self, refusal):
        """Some tools show this name for it; for a client there is no such exchange."""

        def publish(careless):
            careless.basic_publish("amq.default", "work", b"lost")
            careless.queue_declare("work", passive=True)

        said = refusal(publish)

        assert said.code == 404
        assert said.closed == "channel"
        assert "no exchange 'amq.default'" in said.text
