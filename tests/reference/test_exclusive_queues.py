"""Exclusive queues: one connection owns the queue, and it is deleted with that connection.

Spec: https://www.rabbitmq.com/docs/queues#exclusive-queues
Reference: EXCL-02, EXCL-04
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


class TestExclusiveQueue:
    """RabbitMQ: a queue that was declared with `exclusive`."""

    @behaviour("EXCL-02", "EXCL-04")
    @lie("code-405-changed")
    def test_stays_locked_with_405_until_its_lost_connection_is_closed(
        self, proxied_connection, proxy, refusal, eventually
    ):
        """A client that reconnects finds its own queue locked, until the broker has closed its lost connection."""

        def declare(channel):
            channel.queue_declare("mine", exclusive=True)

        declare(proxied_connection.channel())
        proxy.half_open()

        said = refusal(declare)

        assert said.code == 405
        assert said.closed == "channel"
        proxy.cut()
        eventually(lambda: refusal(declare).code, 0)
