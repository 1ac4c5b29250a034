"""Exclusive queues: one connection owns the queue, and it is deleted with that connection.

Spec: https://www.rabbitmq.com/docs/queues#exclusive-queues
Reference: EXCL-01, EXCL-02, EXCL-04…06
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

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


NAMES = [f"mine {number}" for number in range(25)]  # a race is not seen at the first attempt


class TestExclusiveQueueOfAnEarlierConnection:
    """RabbitMQ: the name of an exclusive queue, after the connection that owned the queue has ended."""

    @pytest.fixture
    def ended(self, connect, cut):
        """Ends a connection that owned all these queues, each with a message: `ended("lost")`, or "closed"."""

        def end(how):
            owner = connect()
            channel = owner.channel()
            channel.confirm_delivery()
            for name in NAMES:
                channel.queue_declare(name, durable=True, exclusive=True)
                channel.basic_publish("", name, b"of the earlier connection")
            if how == "lost":
                cut(owner)
            else:
                owner.close()

        return end

    @pytest.fixture
    def declare(self, connection, refusal):
        """Declares one of these queues on a new connection: the number of its messages, or the code of the refusal."""

        def ask(name):
            counts = []
            said = refusal(
                lambda channel: counts.append(
                    channel.queue_declare(name, durable=True, exclusive=True).method.message_count
                )
            )
            return said.code or counts[0]

        return ask

    @behaviour("EXCL-06")
    @rabbitmq(before="4.2")
    @lie("queue-exclusivity-lost")
    def test_is_free_as_soon_as_the_connection_was_closed_before_4_2(self, ended, declare):
        """The answer to `connection.close` comes when the queues are gone: a client that has it may declare at once."""
        ended("closed")

        assert [declare(name) for name in NAMES] == [0] * 25

    @behaviour("EXCL-06")
    @rabbitmq(since="4.2.3")
    @lie("queue-exclusivity-lost")
    @pytest.mark.parametrize("how", ["closed", "lost"])
    def test_is_free_since_4_2_3_at_once_or_after_some_405_and_the_new_queue_stays(
        self, ended, declare, exists, eventually, how
    ):
        """A client asks again while it is refused; before, the end of the old owner could delete the new queue."""
        ended(how)

        for name in NAMES:
            eventually(lambda name=name: declare(name), 0)

        assert [name for name in NAMES if not exists(name)] == []
