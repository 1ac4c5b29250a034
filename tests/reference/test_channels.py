"""Channels: how an error closes them, and what their numbers mean.

Spec: https://www.rabbitmq.com/docs/channels#error-handling
Reference: CHAN-03
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


class TestChannelError:
    """RabbitMQ: a mistake that closes a channel."""

    @behaviour("CHAN-03")
    @lie("mistake-costs-connection")
    def test_closes_only_the_offending_channel(self, channel, refusal, drain):
        """Connections are expensive and channels are cheap: work on the other channels goes on."""
        channel.queue_declare("work", durable=True)

        said = refusal(lambda careless: careless.queue_declare("nowhere", passive=True))

        assert said.code == 404
        assert said.closed == "channel"
        channel.basic_publish("", "work", b"on a sibling")
        assert drain("work") == [b"on a sibling"]
