"""Unroutable messages: what becomes of a message that no queue is bound for.

An exchange copies a message to the queues that are bound for it, and there may be none: a key with a typo, a consumer
that was never started. By default the broker drops such a message in silence, and even confirms it. With the flag
`mandatory` it returns it to its publisher first. An exchange that does not exist is another thing: that is an error,
and it costs the channel.

Our publisher publishes everything as mandatory, and the future of a returned message raises.

Spec: https://www.rabbitmq.com/docs/publishers#unroutable
Code: rmqspec/client/publisher.py, rmqspec/client/errors.py
"""

import pytest
from pika import BasicProperties, exceptions, spec

from rmqspec.client import Publisher
from rmqspec.client.errors import ChannelClosed, Returned

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture(autouse=True)
def orders_queue(channel):
    """Bound for the key `order`, and for nothing else."""
    channel.queue_declare("orders", durable=True)
    channel.queue_bind("orders", "amq.direct", "order")


class Log:
    """What the broker says to a channel in confirm mode, in its order; pika's blocking channel sorts it by kind."""

    def __init__(self, connection):
        self._connection, self.channel, self.said = connection, connection.channel(), []
        self.channel._impl.confirm_delivery(lambda frame: self.said.append(frame.method.NAME))
        self.channel._impl.add_on_return_callback(lambda *returned: self.said.append(returned[1].NAME))

    def after_an_ack(self):
        """All that was said up to the first answer."""
        self._connection._flush_output(lambda: "Basic.Ack" in self.said)
        return self.said


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("PUB-01")
    @lie("return-text-lost")
    def test_returns_a_mandatory_message_whole(self, channel):
        """All that it takes to publish it again elsewhere comes back, so the publisher need not keep a copy."""
        properties = BasicProperties(message_id="7", headers={"shop": "Ada"})

        with pytest.raises(exceptions.UnroutableError) as error:
            channel.basic_publish("amq.direct", "oder", b"two mice", properties, mandatory=True)

        (returned,) = error.value.messages
        assert (returned.method.reply_code, returned.method.reply_text) == (312, "NO_ROUTE")
        assert (returned.method.exchange, returned.method.routing_key) == ("amq.direct", "oder")
        assert (returned.body, returned.properties) == (b"two mice", properties)

    @behaviour("PUB-01")
    @lie("mandatory-lost")
    def test_returns_and_keeps_the_channel(self, channel, connection, drain):
        """A return is news about one message, not an error: the next one is published on the same channel."""
        with pytest.raises(exceptions.UnroutableError):
            channel.basic_publish("amq.direct", "oder", b"returned", mandatory=True)

        channel.basic_publish("amq.direct", "order", b"taken", mandatory=True)

        assert (channel.is_open, connection.is_open, drain("orders")) == (True, True, [b"taken"])

    @behaviour("CONFIRM-06")
    @lie("return-late")
    def test_returns_a_message_before_the_ack(self, connection):
        """Who has the ack and no return knows for certain: had there been a return, it would have come first."""
        log = Log(connection)

        log.channel.basic_publish("amq.direct", "oder", b"", mandatory=True)

        assert log.after_an_ack() == ["Basic.Return", "Basic.Ack"]

    @behaviour("PUB-02", "CONFIRM-05")
    @lie("mandatory-always")
    def test_drops_the_rest_in_silence(self, connection, channel, drain):
        """The default of the protocol: a typo in a key, and every message is gone with a confirm for each."""
        log = Log(connection)

        log.channel.basic_publish("amq.direct", "oder", b"lost")

        assert log.after_an_ack() == ["Basic.Ack"]
        channel.basic_publish("amq.direct", "order", b"kept")
        assert drain("orders") == [b"kept"]

    @behaviour("PUB-01")
    @lie("binding-key-lost")
    def test_returns_nothing_that_is_taken(self, connection, drain):
        """One queue is enough, so the flag costs nothing while all is well."""
        log = Log(connection)

        log.channel.basic_publish("amq.direct", "order", b"two mice", mandatory=True)

        assert (log.after_an_ack(), drain("orders")) == (["Basic.Ack"], [b"two mice"])

    @behaviour("XDECL-15")
    @lie("code-404-changed")
    def test_refuses_a_missing_exchange(self, channel, connection, drain):
        """No message but the address is wrong: what else was under way on that channel is lost with it."""
        probe = connection.channel()
        probe.confirm_delivery()

        with pytest.raises(exceptions.ChannelClosedByBroker, match="NOT_FOUND - no exchange 'oders'") as error:
            probe.basic_publish("oders", "order", b"lost")

        assert (error.value.reply_code, probe.is_closed, connection.is_open) == (404, True, True)
        channel.basic_publish("amq.direct", "order", b"kept")
        assert drain("orders") == [b"kept"]

    @behaviour("PUB-03")
    @lie("connection-code-changed")
    def test_hangs_up_over_immediate(self, channel, connect, drain):
        """The flag asked for a consumer that is ready. RabbitMQ dropped it long ago, and takes it for a hard error."""
        connection = connect()
        probe, sibling = connection.channel(), connection.channel()
        publish = spec.Basic.Publish(exchange="amq.direct", routing_key="order", immediate=True)

        probe._impl._send_method(publish, (BasicProperties(), b"lost"))
        with pytest.raises(exceptions.ConnectionClosedByBroker, match="NOT_IMPLEMENTED - immediate=true") as error:
            connection.process_data_events(time_limit=10)

        assert (error.value.reply_code, connection.is_closed, sibling.is_closed) == (540, True, True)
        channel.basic_publish("amq.direct", "order", b"kept, on another connection")
        assert drain("orders") == [b"kept, on another connection"]


class TestPublisher:
    """What our publisher adds: nothing vanishes unless that was asked for."""

    @lie("return-text-lost")
    def test_raises_what_was_returned(self, source):
        """The message comes along with the error: the caller keeps it, mends the key, or gives it up."""
        with Publisher(source) as publisher:
            future = publisher.publish("amq.direct", "oder", b"two mice")

        with pytest.raises(Returned, match="no queue is bound for it") as error:
            future.result(10)
        assert (error.value.reply_code, error.value.reply_text) == (312, "NO_ROUTE")
        assert (error.value.message.routing_key, error.value.message.body) == ("oder", b"two mice")

    @lie("return-address-lost")
    def test_confirms_a_return_s_neighbours(self, source, drain):
        """A return bears no number, and a hundred messages with one and the same body may be under way."""
        keys = ["order", "oder", "order", "order", "oder"] * 20

        with Publisher(source) as publisher:
            futures = [publisher.publish("amq.direct", key, b"two mice") for key in keys]

        errors = [future.exception(10) for future in futures]
        assert [type(error) for error in errors] == [type(None) if key == "order" else Returned for key in keys]
        assert drain("orders") == [b"two mice"] * 60

    @lie("binding-key-lost")
    def test_confirms_what_may_vanish(self, source, drain):
        """For news that only matters to those who listen; there, nobody listening is no error."""
        with Publisher(source) as publisher:
            dropped = publisher.publish("amq.direct", "oder", b"news", mandatory=False)
            taken = publisher.publish("amq.direct", "order", b"two mice", mandatory=False)

        assert (dropped.result(10).message.body, taken.result(10).message.body) == (b"news", b"two mice")
        assert drain("orders") == [b"two mice"]

    @lie("code-404-changed")
    def test_survives_a_missing_exchange(self, source, drain):
        """The broker closes the channel for it. Only the message that was at fault may pay for that."""
        with Publisher(source) as publisher:
            with pytest.raises(ChannelClosed, match="no exchange 'oders'") as error:
                publisher.publish("oders", "order", b"lost").result(10)
            after = publisher.publish("amq.direct", "order", b"kept")

        assert (error.value.reply_code, after.result(10).message.body) == (404, b"kept")
        assert drain("orders") == [b"kept"]
