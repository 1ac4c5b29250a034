"""The client's edges: refusals are one sentence, a lost subscription is told, nothing of pika leaks out."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pika import BasicProperties

from rmqspec.client import Binding, Consumer, Delivery, Exchange, Outcome, Publisher, Queue, Topology, connect
from rmqspec.client.errors import (
    ChannelClosed,
    ClientError,
    ConnectionLost,
    ConsumerCancelled,
    InvalidUrl,
    LoginRefused,
    Nacked,
    Returned,
    Unreachable,
    VhostRefused,
)
from rmqspec.tools.broker.ports import ReservedPort

from .programs import run_program

__all__ = ["run_program"]


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

    @pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG], ids=["info", "debug"])
    def test_leaves_its_words_to_what_it_raises(self, url, caplog, level):
        """A screen of pika's lines for each attempt hides the one sentence that says what to do."""
        with caplog.at_level(level):
            connect(url, "test").close()
            opened = [record for record in caplog.records if "connecting to" in record.getMessage()]
            caplog.clear()
            with pytest.raises(Unreachable):
                connect("amqp://127.0.0.1:1", "test")

        failed = [record.levelname for record in caplog.records if record.name.startswith("pika")]
        assert (bool(opened), "ERROR" in failed) == ((True, True) if level == logging.DEBUG else (False, False))

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


class TestFork:
    """A process that was forked after a connection was opened."""

    def test_does_not_say_goodbye_for_its_parent(self, run_program, url):
        """Parent and child have one socket: what the child said there ended the connection under its parent."""
        code, words = run_program(
            url,
            """
            import contextlib, os, sys
            from rmqspec.client import connect
            from rmqspec.client.errors import WrongProcess
            connection = connect(os.environ["URL"], "parent")
            channel = connection.channel()
            child = os.fork()
            if child == 0:
                with contextlib.closing(connection):
                    try:
                        channel.queue_declare("q", passive=True)
                    except WrongProcess:
                        sys.exit(7)
            raised = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            channel.queue_declare("q", passive=True)
            connection.close()
            sys.exit(raised)
            """,
        )

        assert (code, words) == (7, "")


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

    def test_says_that_a_full_queue_refused(self, url, channel):
        """With overflow reject-publish the broker nacks; a publisher that ignores it loses the message."""
        channel.queue_declare("q", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})

        with Publisher(url) as publisher:
            taken, refused = (publisher.publish("", "q", body) for body in (b"one", b"two"))

        assert taken.result().message.body == b"one"
        with pytest.raises(Nacked, match="a queue rejected it") as error:
            refused.result()
        assert error.value.message.body == b"two"

    def test_says_that_the_exchange_is_missing(self, url, channel):
        """The channel is gone after that; the publisher opens another and goes on."""
        channel.queue_declare("q", durable=True)

        with Publisher(url) as publisher:
            with pytest.raises(ChannelClosed, match="no exchange 'nowhere'") as refusal:
                publisher.publish("nowhere", "key", b"lost").result(10)
            assert publisher.publish("", "q", b"kept").result(10)

        assert refusal.value.reply_code == 404

    def test_tells_the_returned_from_the_confirmed(self, url, channel):
        """A return names no number: each must still find the message that came back."""
        channel.queue_declare("q", durable=True)
        keys = ["q", "nowhere", "q", "elsewhere", "q"] * 20

        with Publisher(url) as publisher:
            futures = [publisher.publish("", key, b"%d" % number) for number, key in enumerate(keys)]

        errors = [future.exception() for future in futures]
        assert [type(error) for error in errors] == [type(None) if key == "q" else Returned for key in keys]
        assert [error.message.routing_key for error in errors if error] == [key for key in keys if key != "q"]
        assert {error.reply_code for error in errors if error} == {312}

    def test_may_be_used_by_many_threads(self, url, channel, drain):
        """The commonest mistake with pika is a connection shared between threads; here that is what it is for."""
        channel.queue_declare("q", durable=True)

        with Publisher(url, window=50) as publisher, ThreadPoolExecutor(16) as pool:
            for body in range(2000):
                pool.submit(publisher.publish, "", "q", b"%d" % body)

        assert sorted(map(int, drain("q"))) == list(range(2000))
        assert publisher.confirmed == {"": 2000}

    def test_splits_a_body_that_is_larger_than_a_frame(self, url, channel, drain):
        """Frames have a limit that both sides agree upon; a body has none to speak of."""
        channel.queue_declare("q", durable=True)
        body = bytes(range(256)) * 2000

        with Publisher(url) as publisher:
            publisher.publish("", "q", body)

        assert drain("q") == [body]

    def test_cannot_be_used_after_its_end(self, url):
        """A message that is handed over to nobody would be waited for, for ever."""
        publisher = Publisher(url)
        publisher.close()

        with pytest.raises(ClientError, match="has been closed"):
            publisher.publish("", "q", b"late")


class TestConsumer:
    """Consuming."""

    def test_says_that_its_queue_was_deleted(self, url, channel, eventually):
        """The broker only sends a cancel; a consumer that ignores it waits for ever."""
        channel.queue_declare("q", durable=True)
        consumer, ended = Consumer(url, "q", lambda _: Outcome.ACK), []

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

    def test_says_that_there_is_no_such_queue(self, url):
        """Opening the channel again and again would ask the same question and get the same answer."""
        with pytest.raises(ChannelClosed, match="no queue 'nowhere'") as error:
            Consumer(url, "nowhere", lambda _: Outcome.ACK).run()

        assert error.value.reply_code == 404

    def test_leaves_a_delivery_unsettled_when_its_handler_raises(self, url, drain, channel):
        """An error nobody foresaw must not cost a message: with the connection it goes back."""
        channel.queue_declare("q", durable=True)
        channel.basic_publish("", "q", b"precious")

        def handler(delivery):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            Consumer(url, "q", handler).run()

        assert drain("q") == [b"precious"]

    def test_settles_in_any_order_with_several_handlers(self, url, channel):
        """A slow handler holds up its own message; what the others have done is acknowledged past it."""
        channel.queue_declare("q", durable=True)
        for body in (b"slow", b"quick", b"quick", b"last"):
            channel.basic_publish("", "q", body)
        others = threading.Event()

        def handler(delivery):
            if delivery.body == b"slow":
                assert others.wait(10)
                consumer.stop()
            elif delivery.body == b"last":
                others.set()
            return Outcome.ACK

        consumer = Consumer(url, "q", handler, prefetch=10, concurrency=2)
        consumer.run()

        assert consumer.outcomes == {Outcome.ACK: 4}
        assert channel.queue_declare("q", passive=True).method.message_count == 0

    def test_does_not_mind_how_its_goodbye_is_answered(self, url, channel, drain):
        """A broker that is in trouble itself may answer with an error, and all work is done by then."""
        channel.queue_declare("q", durable=True)
        channel.basic_publish("", "q", b"done")

        def handler(_):
            consumer.stop()
            consumer._run.subscription.on_lost(
                ConnectionLost("the connection was closed: INTERNAL_ERROR", 541), final=True
            )
            return Outcome.REQUEUE

        consumer = Consumer(url, "q", handler)
        consumer.run()

        assert consumer.outcomes == {Outcome.REQUEUE: 1}
        assert drain("q") == [b"done"]


class TestDelivery:
    """A message as it comes."""

    @pytest.mark.parametrize("headers", [None, {}, {"x-death": []}], ids=["none", "empty", "no_death"])
    def test_died_of_nothing_if_it_is_no_dead_letter(self, headers):
        """Whoever looks through a queue meets messages of any origin."""
        delivery = Delivery("work", "", "work", False, BasicProperties(headers=headers), b"")

        assert (delivery.died_of, delivery.headers) == (None, headers or {})
