"""Direct reply-to: its consumer, who is there, and reply queues that go with their caller.

Spec: https://www.rabbitmq.com/docs/direct-reply-to
Reference: REPLYTO-02, REPLYTO-05, REPLYTO-07, BIND-08, EXCL-04, REPLYTO-04, REPLYTO-06, REPLYTO-08, REPLYTO-09
"""

import pytest
from pika import BasicProperties

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

REPLY_TO = "amq.rabbitmq.reply-to"


def ignore(*_delivery):
    """A consumer's callback."""


class TestReplyConsumer:
    """RabbitMQ: the consumer of `amq.rabbitmq.reply-to`."""

    @behaviour("REPLYTO-02", "CHAN-03")
    @lie("code-406-changed", "mistake-costs-connection")
    def test_with_manual_acks_closes_the_channel_with_406(self, refusal):
        """Replies are in no queue, so there is nothing to ack or to requeue."""
        said = refusal(lambda channel: channel.basic_consume(REPLY_TO, ignore, auto_ack=False))

        assert said.code == 406
        assert said.closed == "channel"
        assert "reply consumer cannot acknowledge" in said.text

    @behaviour("REPLYTO-02", "CHAN-03")
    @lie("code-406-changed", "mistake-costs-connection")
    def test_closes_the_channel_with_406_if_the_channel_has_one_already(self, refusal):
        """A channel has one reply consumer; the correlation id says which call a reply is for."""

        def consume_twice(channel):
            channel.basic_consume(REPLY_TO, ignore, auto_ack=True)
            channel.basic_consume(REPLY_TO, ignore, auto_ack=True)

        said = refusal(consume_twice)

        assert said.code == 406
        assert said.closed == "channel"
        assert "reply consumer already set" in said.text


class TestReplyAddress:
    """RabbitMQ: the rewritten `reply_to` that a server receives."""

    @behaviour("REPLYTO-05")
    @lie("absence-hidden")
    def test_exists_for_a_passive_declare_until_its_caller_has_gone(self, connect, channel, lookup, eventually):
        """A server can ask whether the caller still waits before it does expensive work."""
        channel.queue_declare("requests", durable=True)
        calling = connect()
        caller = calling.channel()
        caller.confirm_delivery()
        caller.basic_consume(REPLY_TO, ignore, auto_ack=True)
        caller.basic_publish("", "requests", b"how many?", BasicProperties(reply_to=REPLY_TO))
        _, request, _ = channel.basic_get("requests", auto_ack=True)

        assert lookup("queue", request.reply_to) == "exists"
        calling.close()

        eventually(lambda: lookup("queue", request.reply_to), "missing")


class TestExclusiveReplyQueue:
    """RabbitMQ: an exclusive queue for replies."""

    @behaviour("EXCL-04", "CHAN-03")
    @lie("queue-exclusivity-lost")
    def test_is_locked_with_405_for_others_and_deleted_with_the_connection_of_its_caller(
        self, connect, refusal, eventually
    ):
        """Replies to callers that have crashed do not pile up in queues that nobody reads."""
        calling = connect()
        declared = calling.channel().queue_declare("", exclusive=True)
        reply_queue = declared.method.queue

        def passive_declare_code():
            return refusal(lambda channel: channel.queue_declare(reply_queue, passive=True)).code

        assert passive_declare_code() == 405
        calling.close()

        eventually(passive_declare_code, 404)


@pytest.fixture
def address(connect, channel):
    """The reply address that a server received: `address(gone=True)` if its caller has closed its connection."""

    def of_caller(gone):
        channel.queue_declare("requests", durable=True)
        calling = connect()
        caller = calling.channel()
        caller.confirm_delivery()
        caller.basic_consume(REPLY_TO, ignore, auto_ack=True)
        caller.basic_publish("", "requests", b"how many?", BasicProperties(reply_to=REPLY_TO))
        _, request, _ = channel.basic_get("requests", auto_ack=True)
        if gone:
            calling.close()
        return request.reply_to

    return of_caller


class TestReplyToGoneCaller:
    """RabbitMQ: a mandatory reply to an address whose caller has closed its connection."""

    @pytest.fixture
    def answers_to_its_reply(self, connection, confirm_log, address, lookup, eventually):
        """The methods with which the broker answers a mandatory reply to it."""
        where = address(gone=True)
        eventually(lambda: lookup("queue", where), "missing")
        log = confirm_log(connection)
        log.channel.basic_publish("", where, b"two", mandatory=True)
        log.wait_for(1)
        return log.methods

    @behaviour("REPLYTO-07")
    @rabbitmq(before="4.2")
    @lie("return-swallowed")
    def test_is_returned_before_4_2(self, answers_to_its_reply):
        """The server learns that nobody waits for its work any more, and can undo it."""
        assert answers_to_its_reply == ["Basic.Return", "Basic.Ack"]

    @behaviour("REPLYTO-07")
    @rabbitmq(since="4.2")
    @lie("routed-returned")
    def test_is_dropped_and_confirmed_since_4_2(self, answers_to_its_reply):
        """A confirm says nothing about the caller; a passive declare of the address still does."""
        assert answers_to_its_reply == ["Basic.Ack"]


class TestReplyAddressBinding:
    """RabbitMQ: `queue.bind` of an address of direct reply-to."""

    @behaviour("BIND-08", "CHAN-03")
    @rabbitmq(before="4.2")  # 4.2.6 refuses with the other code already
    @lie("absence-hidden")
    def test_closes_the_channel_with_404_before_4_2(self, address, refusal):
        """There is no queue of this name, although a passive declare finds one."""
        where = address(gone=False)

        said = refusal(lambda careless: careless.queue_bind(where, "amq.topic", "news"))

        assert said.code == 404
        assert said.closed == "channel"
        assert "NOT_FOUND - no queue 'amq.rabbitmq.reply-to." in said.text

    @behaviour("BIND-08", "CHAN-03")
    @rabbitmq(since="4.3")
    @lie("refusal-hidden")
    def test_closes_the_channel_with_403_since_4_3(self, address, refusal):
        """No message of an exchange can be sent past a queue to a caller that only waits for its reply."""
        where = address(gone=False)

        said = refusal(lambda careless: careless.queue_bind(where, "amq.topic", "news"))

        assert said.code == 403
        assert said.closed == "channel"
        assert "cannot bind or unbind to a volatile (direct reply-to) queue" in said.text


@pytest.fixture
def ask(channel, receive):
    """Publishes a request, and returns the address for its reply, as its server sees it: `ask(caller)`."""
    channel.queue_declare("requests", durable=True)

    def publish_and_receive(caller):
        caller.basic_publish("", "requests", b"how many?", BasicProperties(reply_to=REPLY_TO))
        (request,) = receive("requests")
        return request.properties.reply_to

    return publish_and_receive


class TestReplies:
    """RabbitMQ: replies through `amq.rabbitmq.reply-to`."""

    @behaviour("REPLYTO-04")
    @lie("consumer-not-made")
    def test_come_to_a_consumer_that_was_cancelled_and_started_again(
        self, connection, channel, ask, subscribe_without_ack
    ):
        """A channel is not used up by its first reply consumer."""
        caller = connection.channel()
        first = subscribe_without_ack(caller, REPLY_TO, auto_ack=True)
        caller.basic_cancel(first.consumer_tag)

        second = subscribe_without_ack(caller, REPLY_TO, auto_ack=True)
        channel.basic_publish("", ask(caller), b"three")

        assert second.wait_for(1) == [b"three"]
        assert first.bodies == []

    @behaviour("REPLYTO-06")
    @lie("reply-address-guessed")
    def test_sent_to_a_guessed_address_do_not_reach_the_caller(self, connection, channel, ask, subscribe_without_ack):
        """An address is as good as a secret: only servers that have seen a request can reply."""
        caller = connection.channel()
        replies = subscribe_without_ack(caller, REPLY_TO, auto_ack=True)
        address = ask(caller)

        channel.basic_publish("", address[:-4] + "AAAA", b"forged")
        channel.basic_publish("", f"{REPLY_TO}.forged", b"forged")
        channel.basic_publish("", address, b"three")

        assert replies.wait_for(1) == [b"three"]

    @behaviour("REPLYTO-08")
    @lie("confirm-nacked")
    def test_are_confirmed_by_an_ack(self, connection, ask, confirm_log, subscribe_without_ack):
        """The confirm says that the reply was routed, and not that the caller has seen it."""
        caller = connection.channel()
        subscribe_without_ack(caller, REPLY_TO, auto_ack=True)
        address = ask(caller)
        server = confirm_log(connection)

        server.channel.basic_publish("", address, b"three")
        server.wait_for(1)

        assert server.acked == [1]


class TestDirectReplyTo:
    """RabbitMQ: `amq.rabbitmq.reply-to`, by which replies reach their caller without a queue."""

    @behaviour("REPLYTO-09")
    @lie(None, because="queues are listed over HTTP, and lies are told on AMQP connections")
    def test_creates_no_queue(self, broker, vhost, connection, ask, subscribe_without_ack):
        """A thousand callers make no queue; whoever counts queues does not see them."""
        caller = connection.channel()
        subscribe_without_ack(caller, REPLY_TO, auto_ack=True)
        ask(caller)

        listed = broker.management.get(f"queues/{vhost}?columns=name")

        assert [queue["name"] for queue in listed] == ["requests"]
