"""Errors of methods: those that close a whole connection, and methods that have no effect and are answered.

Spec: https://www.rabbitmq.com/amqp-0-9-1-reference, https://www.rabbitmq.com/docs/specification
Reference: CHAN-07, CHAN-08, CHAN-13, CHAN-14, PREFETCH-07, ORDER-07, ORDER-08, CONSUME-02, CONSUME-10, CONSUME-13,
TX-16, GET-05, QDEL-08, FRAMES-17
"""

import pytest
from pika import BasicProperties, frame, spec

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


def on_channel(*methods):
    """Each method in a frame of channel 1."""
    return [frame.Method(1, method) for method in methods]


NOT_IMPLEMENTED = {
    "channel_flow_false": (spec.Channel.Flow(active=False), "active=false"),
    "prefetch_size": (spec.Basic.Qos(prefetch_size=10), "prefetch_size!=0 (10)"),
    "recover_without_requeue": (spec.Basic.Recover(requeue=False), "requeue=false"),
    "get_from_a_stream": (spec.Basic.Get(queue="log"), "basic.get not supported by stream queues"),
    "purge_of_a_stream": (spec.Queue.Purge(queue="log"), "queue.purge not supported by stream queues"),
}

OF_BROKERS = {
    "channel_open_ok": spec.Channel.OpenOk(),
    "channel_flow_ok_unasked": spec.Channel.FlowOk(active=True),
    "channel_close_ok_unasked": spec.Channel.CloseOk(),
    "queue_declare_ok": spec.Queue.DeclareOk("work", 0, 0),
    "consume_ok": spec.Basic.ConsumeOk("worker"),
}


class TestMethod:
    """RabbitMQ: a method that costs the connection of its client."""

    @behaviour("CHAN-07", "PREFETCH-07", "ORDER-07", "GET-05", "QDEL-08", "CHAN-04")
    @lie("connection-code-changed")
    @pytest.mark.parametrize(("method", "text"), NOT_IMPLEMENTED.values(), ids=NOT_IMPLEMENTED)
    def test_with_an_option_or_for_a_queue_type_that_is_not_implemented_closes_the_connection_with_540(
        self, raw_client, channel, method_at_fault, method, text
    ):
        """The protocol has it and this broker has not; all channels of the program are lost."""
        channel.queue_declare("log", durable=True, arguments={"x-queue-type": "stream"})
        client = raw_client().open(1)

        client.say(method, channel=1)

        close = client.hears_close()
        assert close.reply_code == 540
        assert close.reply_text.startswith("NOT_IMPLEMENTED - ")
        assert text in close.reply_text
        assert method_at_fault(close) is type(method)
        client.hears_the_end()
        assert channel.is_open

    @behaviour("FRAMES-17", "CHAN-04")
    @lie("connection-code-changed")
    @pytest.mark.parametrize("method", OF_BROKERS.values(), ids=OF_BROKERS)
    def test_that_only_brokers_send_closes_the_connection_with_503(self, raw_client, method_at_fault, method):
        """A client that answers what nobody asked has lost count of its requests."""
        client = raw_client().open(1)

        client.say(method, channel=1)

        close = client.hears_close()
        assert close.reply_code == 503
        assert close.reply_text == "COMMAND_INVALID - unimplemented method"
        assert method_at_fault(close) is type(method)
        client.hears_the_end()

    @behaviour("CONSUME-02", "CHAN-04")
    @lie("connection-code-changed")
    def test_that_consumes_under_a_tag_in_use_closes_the_connection_with_530(
        self, raw_client, channel, method_at_fault
    ):
        """Deliveries name their consumer by its tag: two of one name could not be told apart."""
        channel.queue_declare("work", durable=True)
        client = raw_client().open(1)
        client.say(spec.Basic.Consume(queue="work", consumer_tag="worker"), channel=1)
        client.hears("basic.consume-ok")

        client.say(spec.Basic.Consume(queue="work", consumer_tag="worker"), channel=1)

        close = client.hears_close()
        assert close.reply_code == 530
        assert close.reply_text == "NOT_ALLOWED - attempt to reuse consumer tag 'worker'"
        assert method_at_fault(close) is spec.Basic.Consume
        client.hears_the_end()

    @behaviour("TX-16", "CHAN-04")
    @lie("connection-code-changed")
    @pytest.mark.parametrize("queue_type", ["classic", "quorum"])
    def test_sent_before_the_answer_to_tx_commit_closes_the_connection_with_504(
        self, raw_client, channel, method_at_fault, queue_type
    ):
        """Elsewhere a client may send its next request at once; behind a commit it has to wait."""
        channel.queue_declare("work", durable=True, arguments={"x-queue-type": queue_type})
        client = raw_client().open(1)
        publish = spec.Basic.Publish(exchange="", routing_key="work")
        message = [frame.Header(1, 5, BasicProperties(delivery_mode=2)), frame.Body(1, b"order")]

        client.send(*on_channel(spec.Tx.Select(), publish), *message, *on_channel(spec.Tx.Commit(), spec.Basic.Qos()))

        client.hears("tx.select-ok")
        close = client.hears_close()
        assert close.reply_code == 504
        assert close.reply_text == "CHANNEL_ERROR - unexpected command while processing 'tx.commit'"
        assert method_at_fault(close) is spec.Basic.Qos
        client.hears_the_end()

    @behaviour("CHAN-14", "CHAN-04")
    @lie("connection-code-changed")
    def test_on_a_channel_that_was_never_opened_closes_the_connection_with_504(self, raw_client, method_at_fault):
        """Not even its close is accepted."""
        client = raw_client().open()

        client.say(spec.Channel.Close(200, "goodbye", 0, 0), channel=7)

        close = client.hears_close()
        assert close.reply_code == 504
        assert close.reply_text == "CHANNEL_ERROR - expected 'channel.open'"
        assert method_at_fault(close) is spec.Channel.Close
        client.hears_the_end()


IDLE = {
    "access_request": (spec.Access.Request("/"), "access.request-ok"),
    "channel_flow_true": (spec.Channel.Flow(active=True), "channel.flow-ok"),
    "cancel_of_an_unknown_consumer": (spec.Basic.Cancel("nobody"), "basic.cancel-ok"),
}


class TestMethodWithoutEffect:
    """RabbitMQ: a method without effect."""

    @behaviour("CHAN-08", "CHAN-07", "CONSUME-10")
    @lie("idle-methods-refused")
    @pytest.mark.parametrize(("method", "answer"), IDLE.values(), ids=IDLE)
    def test_is_answered_as_usual(self, raw_client, method, answer):
        """Old clients send them, and a cancel may cross with the end of its queue: neither is an error."""
        client = raw_client().open(1)

        client.say(method, channel=1)

        client.hears(answer)


class TestBasicRecoverAsync:
    """RabbitMQ: `basic.recover-async`, the deprecated form of `basic.recover`."""

    @behaviour("ORDER-08")
    @lie("recover-async-answered")
    def test_requeues_and_is_not_answered(self, raw_client, channel):
        """A client that waited for its answer would wait for ever: `basic.recover` is the one that is answered."""
        channel.queue_declare("work", durable=True)
        channel.basic_publish("", "work", b"order")
        client = raw_client().open(1)
        client.say(spec.Basic.Get(queue="work"), channel=1)
        client.hears("basic.get-ok")

        client.say(spec.Basic.RecoverAsync(requeue=True), channel=1)
        client.say(spec.Basic.Get(queue="work"), channel=1)

        assert client.hears("basic.get-ok").redelivered is True

    @behaviour("CONSUME-13")
    @lie("delivery-lost")
    def test_no_local_of_a_consumer_does_not_keep_back_messages_of_its_own_connection(self, raw_client, channel):
        """A program that publishes and consumes gets its own messages: it must know them by their headers."""
        channel.queue_declare("work", durable=True)
        client = raw_client().open(1)
        client.say(spec.Basic.Consume(queue="work", consumer_tag="own", no_local=True, no_ack=True), channel=1)
        client.hears("basic.consume-ok")
        own = [frame.Header(1, 3, BasicProperties()), frame.Body(1, b"own")]

        client.send(*on_channel(spec.Basic.Publish(exchange="", routing_key="work")), *own)

        assert client.hears("basic.deliver").consumer_tag == "own"


class TestChannelClose:
    """RabbitMQ: `channel.close`."""

    @behaviour("CHAN-13", "CHAN-03")
    @lie("mistake-costs-connection")
    def test_from_both_sides_at_once_is_answered_on_both_and_frees_the_number(self, raw_client):
        """A program may close a channel at the moment at which it fails."""
        client = raw_client().open(1)

        client.send(
            *on_channel(spec.Queue.Declare(queue="missing", passive=True), spec.Channel.Close(200, "goodbye", 0, 0))
        )

        assert client.hears("channel.close").reply_code == 404
        client.hears("channel.close-ok")
        client.say(spec.Channel.CloseOk(), channel=1)
        client.say(spec.Channel.Open(), channel=1)
        client.hears("channel.open-ok")


class TestNowait:
    """RabbitMQ: methods that were sent with `nowait`."""

    @behaviour("XDECL-14", "NOWAIT-01", "NOWAIT-05")
    @lie("nowait-ignored")
    def test_methods_are_done_in_their_order_and_not_answered(self, raw_client, receive, lookup):
        """A topology of a hundred queues is declared in one round trip; the next answer says that all is done."""
        client = raw_client().open(1)

        client.send(
            *on_channel(
                spec.Exchange.Declare(exchange="post", type="fanout", durable=True, nowait=True),
                spec.Queue.Declare(queue="letters", durable=True, nowait=True),
                spec.Queue.Declare(queue="bills", durable=True, nowait=True),
                spec.Queue.Bind(queue="letters", exchange="post", nowait=True),
                spec.Queue.Bind(queue="bills", exchange="post", nowait=True),
                spec.Queue.Delete(queue="bills", nowait=True),
                spec.Basic.Publish(exchange="post"),
            ),
            frame.Header(1, 6, BasicProperties()),
            frame.Body(1, b"letter"),
            *on_channel(spec.Queue.Declare(queue="letters", passive=True)),
        )

        assert client.hears("queue.declare-ok").queue == "letters"
        assert [delivery.body for delivery in receive("letters")] == [b"letter"]
        assert lookup("queue", "bills") == "missing"

    @behaviour("NOWAIT-02", "CHAN-03")
    @lie("mistake-costs-connection")
    def test_methods_that_fail_close_their_channel_all_the_same(self, raw_client, method_at_fault):
        """No answer means that no success is reported; a failure is."""
        client = raw_client().open(1, 2)

        client.say(spec.Queue.Bind(queue="missing", exchange="amq.fanout", nowait=True), channel=1)

        close = client.hears("channel.close")
        assert close.reply_code == 404
        assert method_at_fault(close) is spec.Queue.Bind
        client.say(spec.Queue.Declare(queue="on a sibling", exclusive=True), channel=2)
        client.hears("queue.declare-ok")

    @behaviour("CONFIRM-01", "NOWAIT-06")
    @lie("nowait-ignored")
    def test_confirm_select_counts_from_the_next_publish_and_a_second_one_changes_nothing(self, raw_client, channel):
        """Two libraries on one channel may both ask for confirms: the numbers go on."""
        channel.queue_declare("work", durable=True)
        client = raw_client().open(1)
        publish = [
            *on_channel(spec.Basic.Publish(exchange="", routing_key="work")),
            frame.Header(1, 0, BasicProperties()),
        ]

        client.send(*on_channel(spec.Confirm.Select(nowait=True)), *publish)
        assert client.hears("basic.ack").delivery_tag == 1
        client.send(*on_channel(spec.Confirm.Select()), *publish)

        client.hears("confirm.select-ok")
        assert client.hears("basic.ack").delivery_tag == 2

    @behaviour("NOWAIT-03", "NOWAIT-04")
    @lie("nowait-ignored")
    def test_consume_and_cancel_start_and_end_deliveries(self, raw_client, channel):
        """A tag that the broker has made up is then learned from the first delivery alone."""
        channel.queue_declare("work", durable=True)
        channel.basic_publish("", "work", b"first")
        client = raw_client().open(1)

        client.say(spec.Basic.Consume(queue="work", no_ack=True, nowait=True), channel=1)
        tag = client.hears("basic.deliver").consumer_tag
        client.say(spec.Basic.Cancel(tag, nowait=True), channel=1)
        client.say(spec.Queue.Declare(queue="work", passive=True), channel=1)

        assert tag.startswith("amq.ctag-")
        assert client.hears("queue.declare-ok").consumer_count == 0
