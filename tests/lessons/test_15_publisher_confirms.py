"""Publisher confirms: how a publisher learns that the broker has its message.

A publish has no reply. In confirm mode the broker counts the publishes of a channel and answers for each number: an
ack when the message is in every queue that it was routed to, a nack when a queue refused it. Answers come later, in
any order, and one of them may speak for many, so nobody has to wait for one before the next message is sent.

Our publisher keeps the numbers: each message gets a future, and a window limits how many are unanswered. What had no
answer when the connection was lost is unknown, or is sent again if that was asked for.

Spec: https://www.rabbitmq.com/docs/confirms
Code: rmqspec/client/publisher.py, rmqspec/client/window.py, rmqspec/client/link.py
"""

import threading
from contextlib import contextmanager

import pytest
from pika import exceptions

from rmqspec.client import Publisher, open_connections
from rmqspec.client.errors import Nacked, OutcomeUnknown, WindowFull

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

FULL_AT_ONE = {"x-max-length": 1, "x-overflow": "reject-publish"}


class Ledger:
    """A channel in confirm mode that writes down each answer. pika's blocking channel keeps the numbers to itself."""

    def __init__(self, connection):
        self._connection, self.channel, self.answers = connection, connection.channel(), []
        self.channel._impl.confirm_delivery(self._write)

    def publish(self, exchange, key, count=1):
        for _ in range(count):
            self.channel.basic_publish(exchange, key, b"")

    def wait_for(self, count):
        """The answers, by number, once so many have come."""
        self._connection._flush_output(lambda: len(self.answers) >= count)
        return sorted(self.answers)

    def _write(self, frame):
        tag, known = frame.method.delivery_tag, {number for number, _ in self.answers}
        numbers = set(range(1, tag + 1)) - known if frame.method.multiple else [tag]
        self.answers += [(number, frame.method.NAME) for number in numbers]


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @pytest.fixture(autouse=True)
    def queues(self, channel):
        channel.queue_declare("open", durable=True)
        channel.queue_declare("full", durable=True, arguments=FULL_AT_ONE)
        for queue in ("open", "full"):
            channel.queue_bind(queue, "amq.fanout")

    @pytest.fixture
    def ledger(self, connection):
        return Ledger(connection)

    @behaviour("CONFIRM-02")
    @lie("confirm-nacked")
    def test_counts_from_one_on_each_channel(self, connection, ledger):
        """The publish itself carries no number: both sides count, and must begin at the same place."""
        other = Ledger(connection)

        ledger.publish("", "open", 2)
        other.publish("", "open", 1)

        assert ledger.wait_for(2) == [(1, "Basic.Ack"), (2, "Basic.Ack")]
        assert other.wait_for(1) == [(1, "Basic.Ack")]

    @behaviour("CONFIRM-04")
    @lie("confirm-nacked")
    def test_answers_for_every_publish_once(self, ledger):
        """Alone or together with others, no message is forgotten: who waits for the last answer is not left waiting."""
        ledger.publish("", "open", 1000)

        assert ledger.wait_for(1000) == [(number, "Basic.Ack") for number in range(1, 1001)]

    @behaviour("CONFIRM-07")
    @lie("binding-key-lost")
    def test_acks_what_is_in_every_queue(self, channel, connect):
        """Once the ack is here anybody finds the message, whichever of its queues they look into."""
        for queue in ("one", "two", "three"):
            channel.queue_declare(queue, durable=True)
            channel.queue_bind(queue, "amq.topic", "news")
        reader = connect().channel()

        channel.basic_publish("amq.topic", "news", b"to all")

        assert [reader.basic_get(queue)[2] for queue in ("one", "two", "three")] == [b"to all"] * 3

    @behaviour("CONFIRM-05")
    @lie("confirm-nacked")
    def test_acks_a_message_without_a_queue(self, ledger, drain):
        """The broker has done what it was told, which was nothing: an ack alone does not say that anybody has it."""
        ledger.publish("", "nowhere")
        ledger.publish("", "open")

        assert ledger.wait_for(2) == [(1, "Basic.Ack"), (2, "Basic.Ack")]
        assert drain("open") == [b""]

    @behaviour("CONFIRM-10")
    @lie("nack-confirmed")
    def test_nacks_what_a_full_queue_refuses(self, ledger, drain):
        """A limit that would rather refuse than drop is worth something only to publishers that read nacks."""
        ledger.publish("", "full", 2)

        assert ledger.wait_for(2) == [(1, "Basic.Ack"), (2, "Basic.Nack")]
        assert drain("full") == [b""]

    @behaviour("CONFIRM-11")
    @lie("nack-confirmed")
    def test_nacks_what_one_queue_refuses(self, ledger, drain):
        """The others keep the message: who publishes it again after such a nack has it there twice."""
        ledger.publish("amq.fanout", "", 2)

        assert ledger.wait_for(2) == [(1, "Basic.Ack"), (2, "Basic.Nack")]
        assert (drain("open"), drain("full")) == ([b"", b""], [b""])

    @behaviour("CONFIRM-08")
    @lie("absence-hidden")
    def test_acks_what_its_queue_took_along(self, connection, ledger):
        """A queue that is deleted takes its messages along on purpose: nothing went wrong that a nack would report."""
        ledger.publish("", "open", 100)
        ledger.channel.queue_delete("open")

        assert ledger.wait_for(100) == [(number, "Basic.Ack") for number in range(1, 101)]
        with pytest.raises(exceptions.ChannelClosedByBroker, match="no queue 'open'"):
            connection.channel().queue_declare("open", passive=True)

    @behaviour("CONFIRM-14")
    @pytest.mark.parametrize(
        ("first", "second"),
        [("confirm_delivery", "tx_select"), ("tx_select", "confirm_delivery")],
        ids=["tx_after_confirm", "confirm_after_tx"],
    )
    @lie("transaction-ignored")
    def test_refuses_to_mix_in_transactions(self, first, second, connection, channel, drain):
        """Both answer the same question, in two ways that cannot be mixed on one channel."""
        probe = connection.channel()
        getattr(probe, first)()

        with pytest.raises(exceptions.ChannelClosedByBroker, match="PRECONDITION_FAILED - cannot switch") as error:
            getattr(probe, second)()

        assert (error.value.reply_code, probe.is_closed, connection.is_open) == (406, True, True)
        channel.basic_publish("", "open", b"still alive")
        assert drain("open") == [b"still alive"]


def loop_of(publisher):
    (loop,) = (connection for connection in open_connections() if connection.name == publisher)
    return loop


@contextmanager
def stalled(publisher="publisher"):
    """The publisher's thread stands still inside: what is handed to it is not answered, nor even sent."""
    gate = threading.Event()
    loop_of(publisher).ioloop.add_callback_threadsafe(gate.wait)
    try:
        yield
    finally:
        gate.set()


def cut_before_an_answer(publisher="publisher"):
    """The connection dies before its thread reads an answer, even one that is there; what it was handed may be out."""
    loop = loop_of(publisher)
    loop.ioloop.add_callback_threadsafe(loop.cut)


class TestPublisher:
    """What our publisher adds: each message knows what became of it."""

    @pytest.fixture(autouse=True)
    def queues(self, channel):
        channel.queue_declare("open", durable=True)
        channel.queue_declare("full", durable=True, arguments=FULL_AT_ONE)

    @lie("confirm-multiple-lost")
    def test_confirms_a_thousand_at_once(self, source):
        """One round trip for each message would be the end of all speed; here they share it."""
        with Publisher(source) as publisher:
            with stalled():
                futures = [publisher.publish("", "open", b"%d" % number) for number in range(1000)]

            outcomes = [future.exception(10) or future.result().message.body for future in futures]
            assert outcomes == [b"%d" % number for number in range(1000)]

    @lie("body-repeated")
    def test_sends_in_the_order_of_publishing(self, source, drain):
        """Many messages leave in one write, and none of them may overtake another in there."""
        with Publisher(source) as publisher:
            for number in range(1000):
                publisher.publish("", "open", b"%d" % number)

        assert drain("open") == [b"%d" % number for number in range(1000)]

    @lie("nack-confirmed")
    def test_tells_the_refused_from_the_rest(self, source):
        """An answer that speaks for many must not carry one message's fate over to the next."""
        with Publisher(source) as publisher:
            futures = [publisher.publish("", key, key.encode()) for key in ("full", "open", "full", "open")]

        errors = [future.exception(10) for future in futures]
        assert [type(error) for error in errors] == [type(None), type(None), Nacked, type(None)]
        assert errors[2].message.body == b"full"

    @lie("confirm-multiple-lost")
    def test_flushes_until_all_have_an_answer(self, source):
        """A program that ends after its last publish, and not after the last answer, may have lost it."""
        with Publisher(source) as publisher:
            with stalled():
                futures = [publisher.publish("", "open", b"") for _ in range(100)]
                in_time = publisher.flush(0.01)

            assert (in_time, publisher.flush(10)) == (False, True)
            assert [future.exception(0) for future in futures] == [None] * 100

    @lie("body-repeated")
    def test_refuses_what_exceeds_the_window(self, source, drain):
        """A broker that has stopped answering fills the window, not the memory; the caller is told and decides."""
        with Publisher(source, window=2, patience=0.05) as publisher:
            with stalled():
                publisher.publish("", "open", b"first")
                publisher.publish("", "open", b"second")
                with pytest.raises(WindowFull, match="no room in the window") as error:
                    publisher.publish("", "open", b"third")

            assert publisher.flush(10)
        assert (error.value.message.body, drain("open")) == (b"third", [b"first", b"second"])

    @lie("first-confirm-swallowed")
    def test_knows_not_what_became_of_the_lost(self, source):
        """It may be in its queue or not. To call it failed would be a guess, and so would be the other."""
        with Publisher(source) as publisher:
            with stalled():
                lost = publisher.publish("", "open", b"lost")
                cut_before_an_answer()

            with pytest.raises(OutcomeUnknown, match="unknown whether it has") as error:
                lost.result(10)
            assert error.value.message.body == b"lost"
            assert publisher.publish("", "open", b"next").exception(10) is None

    @lie("confirm-multiple-lost")
    def test_resends_the_lost_when_told_to(self, source, drain):
        """None is missing then, though some may be there twice: for those whose consumers recognise a repetition."""
        with Publisher(source, resend=True) as publisher:
            with stalled():
                futures = [publisher.publish("", "open", body) for body in (b"1", b"2")]
                cut_before_an_answer()

            assert [future.exception(10) for future in futures] == [None, None]
        assert set(drain("open")) == {b"1", b"2"}
