"""Exclusive queues: one connection owns the queue, and it is deleted with that connection.

Spec: https://www.rabbitmq.com/docs/queues#exclusive-queues
Reference: EXCL-01, EXCL-02, EXCL-04, EXCL-05
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

OPERATIONS = {
    "declare": lambda channel: channel.queue_declare("mine", exclusive=True),
    "passive_declare": lambda channel: channel.queue_declare("mine", passive=True),
    "bind": lambda channel: channel.queue_bind("mine", "amq.direct", "order"),
    "unbind": lambda channel: channel.queue_unbind("mine", "amq.direct", "order"),
    "consume": lambda channel: channel.basic_consume("mine", lambda *_: None),
    "get": lambda channel: channel.basic_get("mine"),
    "purge": lambda channel: channel.queue_purge("mine"),
    "delete": lambda channel: channel.queue_delete("mine"),
}


class TestExclusiveQueue:
    """RabbitMQ: a queue that was declared with `exclusive`."""

    @behaviour("EXCL-02", "GET-04", "CHAN-03")
    @lie("code-405-changed")
    @pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
    def test_is_locked_with_405_for_other_connections(self, connect, refusal, operation):
        """Knowing its name is not enough: no other program reads the replies, empties the queue, or deletes it."""
        owner = connect().channel()
        owner.queue_declare("mine", exclusive=True)
        owner.queue_bind("mine", "amq.direct", "order")

        said = refusal(operation)

        assert said.code == 405
        assert said.closed == "channel"
        assert "cannot obtain exclusive access to locked queue 'mine'" in said.text

    @behaviour("EXCL-01", "EXCL-05")
    @lie("exclusive-queue-auto-deleted")
    def test_stays_when_its_only_consumer_on_another_channel_of_its_connection_is_cancelled(self, connect, exists):
        """It belongs to the connection, not to a channel or a consumer: a program may pause and go on."""
        owner = connect()
        owner.channel().queue_declare("mine", exclusive=True)
        reader = owner.channel()

        tag = reader.basic_consume("mine", lambda *_: None)
        reader.basic_cancel(tag)

        assert exists("mine") is True

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
