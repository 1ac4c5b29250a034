"""The client's edges: refusals are one sentence, a lost subscription is told, nothing of pika leaks out."""

import threading

import pytest

from rmqspec.broker.ports import ReservedPort
from rmqspec.client import Binding, Consumer, Exchange, Outcome, Publisher, Queue, Topology, connect
from rmqspec.client.errors import (
    ChannelClosed,
    ConsumerCancelled,
    InvalidUrl,
    LoginRefused,
    Nacked,
    Unreachable,
    VhostRefused,
)


class TestConnect:
    """Opening a connection."""

    def test_says_that_nobody_answers(self):
        """The commonest trouble of all: no broker. The sentence names the address and the way out."""
        port = ReservedPort()

        with pytest.raises(Unreachable, match=f"no broker answers at 127.0.0.1:{port.number}: start one"):
            connect(f"amqp://guest:guest@127.0.0.1:{port.number}/", "test")
        port.release()

    def test_says_that_the_login_is_wrong_and_hides_the_password(self, broker):
        """A password in an error message ends in a log file."""
        at = broker.endpoint

        with pytest.raises(LoginRefused, match=f"refused the login of '{at.user}': check user") as refusal:
            connect(f"amqp://{at.user}:sesame-open@{at.host}:{at.port}/", "test")

        assert "sesame-open" not in str(refusal.value)
        assert refusal.value.reply_code == 403

    def test_says_that_the_vhost_is_missing(self, broker):
        """The broker knows the user and still hangs up, which looks like a network fault without the sentence."""
        with pytest.raises(VhostRefused, match="has no vhost 'nowhere'") as refusal:
            connect(broker.endpoint.url("nowhere"), "test")

        assert refusal.value.reply_code == 530

    @pytest.mark.parametrize(
        "url", ["http://localhost", "localhost:5672", "amqp://h:x/", ""], ids=["http", "bare", "port", "empty"]
    )
    def test_says_that_the_url_is_none(self, url):
        """What is no URL fails before anything is sent anywhere."""
        with pytest.raises(InvalidUrl, match="URL"):
            connect(url, "test")

    def test_shows_its_name_to_operators(self, broker, url, eventually):
        """Ten connections without names are ten port numbers in the UI when one of them misbehaves."""
        connection = connect(url, "the name")

        eventually(lambda: "the name" in broker.management.connection_names(), True, within=15)
        connection.close()


class TestTopology:
    """Declaring from data."""

    def test_declares_exchanges_queues_and_bindings(self, broker, vhost, channel):
        """What stands in the data stands in the broker, no more and no less."""
        topology = Topology((Exchange("x", "topic"),), (Queue("q", {"x-max-length": 5}),), (Binding("x", "q", "a.#"),))

        topology.declare(channel)
        topology.declare(channel)

        assert broker.management.bindings(vhost) == {("x", "q", "a.#")}
        assert "x" in broker.management.exchanges(vhost)

    def test_says_what_differs_from_what_is_there(self, channel):
        """Somebody has declared the same name otherwise; the broker's words say which argument."""
        channel.queue_declare("q", durable=True)

        with pytest.raises(ChannelClosed, match="x-max-length") as refusal:
            Topology(queues=(Queue("q", {"x-max-length": 5}),)).declare(channel)

        assert refusal.value.reply_code == 406


class TestPublisher:
    """Publishing."""

    def test_says_that_a_full_queue_refused(self, connection, channel):
        """With overflow reject-publish the broker nacks; a publisher that ignores it loses the message."""
        channel.queue_declare("q", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        publisher = Publisher(connection)
        publisher.publish("", "q", b"one")

        with pytest.raises(Nacked, match="a queue refused it"):
            publisher.publish("", "q", b"two")

        assert publisher.confirmed == {"": 1}

    def test_says_that_the_exchange_is_missing(self, connection, channel):
        """The channel is gone after that; the connection and its other channels are not."""
        publisher = Publisher(connection)

        with pytest.raises(ChannelClosed, match="no exchange 'nowhere'") as refusal:
            publisher.publish("nowhere", "key", b"lost")

        assert refusal.value.reply_code == 404
        assert channel.is_open


class TestConsumer:
    """Consuming."""

    def test_says_that_its_queue_was_deleted(self, connect, channel, eventually):
        """The broker only sends a cancel; a consumer that ignores it waits for ever."""
        channel.queue_declare("q", durable=True)
        consumer, ended = Consumer(connect(), "q", lambda _: Outcome.ACK), []

        def run():
            with pytest.raises(ConsumerCancelled, match="was the queue deleted") as end:
                consumer.run()
            ended.append(end)

        thread = threading.Thread(target=run)
        thread.start()
        eventually(lambda: channel.queue_declare("q", passive=True).method.consumer_count, 1)
        channel.queue_delete("q")

        thread.join(10)
        assert len(ended) == 1

    def test_leaves_a_delivery_unsettled_when_its_handler_raises(self, connect, drain, channel):
        """An error nobody foresaw must not cost a message: with the connection it goes back."""
        channel.queue_declare("q", durable=True)
        channel.basic_publish("", "q", b"precious")
        connection = connect()

        def handler(delivery):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            Consumer(connection, "q", handler).run()
        connection.close()

        assert drain("q") == [b"precious"]
