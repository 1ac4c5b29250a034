"""Transactions: all or nothing, and why confirms are preferred.

In a transaction the broker keeps publishes and acks back until the commit; a rollback, or the end of the channel, makes
them undone. That sounds like a database, and it is less: what is committed to several queues can arrive in some of
them only, no binding and no queue is ever rolled back, and at each commit the producer stands still until the broker
has answered. Confirms answer the same question for each message, and nobody waits. In the order system the worker
publishes first, waits for the confirm, and acks then: a crash in between repeats an order, and loses none.

Spec: https://www.rabbitmq.com/docs/semantics
Code: rmqspec/client/publisher.py, rmqspec/orders/worker.py
"""

import pytest
from pika import exceptions

from rmqspec.orders import Failures, Worker, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


def handled(channel):
    """Returns when the broker has handled what was sent on this channel: the answer comes behind that."""
    channel.queue_declare("work", passive=True)
    channel.connection.process_data_events(time_limit=0)  # pika hands out here what the broker returned before it


@pytest.fixture(autouse=True)
def work(channel):
    channel.queue_declare("work", durable=True)


@pytest.fixture
def tx(connection):
    """A channel in a transaction."""
    channel = connection.channel()
    channel.tx_select()
    return channel


@pytest.fixture
def returns(tx):
    """What the broker returns in the transaction; it is here when `handled(tx)` is."""
    seen = []
    tx.add_on_return_callback(lambda _channel, method, _properties, body: seen.append((method.reply_code, body)))
    return seen


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("TX-01", "TX-18")
    @lie("commit-lost")
    def test_hides_publishes_until_the_commit(self, tx, drain):
        """Nobody sees half a change, and nobody can act on it."""
        tx.basic_publish("", "work", b"an order")
        tx.tx_select()  # to begin it again changes nothing: transactions do not nest
        tx.basic_publish("", "work", b"its invoice")
        handled(tx)
        before = drain("work")

        tx.tx_commit()

        assert (before, drain("work")) == ([], [b"an order", b"its invoice"])

    @behaviour("TX-02")
    @pytest.mark.parametrize("end", ["tx_rollback", "close"])
    @lie("transaction-ignored")
    def test_discards_what_is_not_committed(self, tx, channel, drain, end):
        """Whoever changes its mind, or goes away in the middle, has said nothing."""
        tx.basic_publish("", "work", b"discarded")

        getattr(tx, end)()

        channel.basic_publish("", "work", b"published outside")
        assert drain("work") == [b"published outside"]

    @behaviour("TX-03", "TX-01", "CHAN-03")
    @lie("commit-lost")
    def test_moves_a_message_in_one_step(self, tx, channel, connection, get_without_ack, drain):
        """What a transaction is good for: taken here and put there, or neither of the two."""
        channel.queue_declare("done", durable=True)
        channel.basic_publish("", "work", b"an order")
        tag, body = get_without_ack(tx, "work")
        tx.basic_publish("", "done", body)
        tx.basic_ack(tag)

        tx.tx_commit()

        tx.basic_nack(tag)  # it is settled, and there is no way back
        with pytest.raises(exceptions.ChannelClosedByBroker, match="unknown delivery tag 1") as error:
            handled(tx)
        assert (error.value.reply_code, tx.is_closed, connection.is_open) == (406, True, True)
        assert (drain("work"), drain("done")) == ([], [b"an order"])

    @behaviour("TX-03", "TX-04")
    @lie("commit-lost")
    def test_takes_back_an_ack_at_a_rollback(self, tx, channel, get_without_ack, receive, drain):
        """The message is in hand as before: it is not given to others, and its consumer may decide anew."""
        channel.basic_publish("", "work", b"an order")
        tag, _ = get_without_ack(tx, "work")
        tx.basic_ack(tag)

        tx.tx_rollback()
        channel.basic_publish("", "work", b"another")
        meanwhile = drain("work")
        tx.basic_nack(tag, requeue=True)
        tx.tx_commit()

        assert (meanwhile, [again.body for again in receive("work")]) == ([b"another"], [b"an order"])

    @behaviour("TX-05", "TX-06")
    @lie("acks-awaited")
    def test_gives_back_at_its_end_what_was_in_hand(self, tx, channel, get_without_ack, receive, drain):
        """An ack that was not committed is none; a message that was acked automatically was gone when it was sent."""
        for body in (b"automatic", b"acked", b"held"):
            channel.basic_publish("", "work", body)
        tx.basic_get("work", auto_ack=True)
        tx.basic_ack(get_without_ack(tx, "work")[0])
        tx.basic_get("work")

        tx.close()

        assert [back.body for back in receive("work", 2)] == [b"acked", b"held"]
        assert drain("work") == []

    @behaviour("TX-08", "CHAN-03")
    @lie("transaction-ignored")
    def test_refuses_an_unknown_tag_before_the_commit(self, tx, channel, connection, drain):
        """An error does not wait for the commit; it ends the channel, and with it all that was not committed."""
        tx.basic_publish("", "work", b"discarded")
        tx.basic_ack(7)

        with pytest.raises(exceptions.ChannelClosedByBroker, match="unknown delivery tag 7") as error:
            handled(tx)

        assert (error.value.reply_code, tx.is_closed, connection.is_open) == (406, True, True)
        channel.basic_publish("", "work", b"kept")
        assert drain("work") == [b"kept"]

    @behaviour("TX-11", "CHAN-03")
    @pytest.mark.parametrize("end", ["tx_commit", "tx_rollback"])
    @lie("transaction-ignored")
    def test_ends_no_transaction_that_was_not_begun(self, connection, drain, end):
        """What was published on any other channel was done at once: to call it committed would be a lie."""
        (careless := connection.channel()).basic_publish("", "work", b"published at once")

        with pytest.raises(exceptions.ChannelClosedByBroker, match="channel is not transactional") as error:
            getattr(careless, end)()

        assert (error.value.reply_code, careless.is_closed, connection.is_open) == (406, True, True)
        assert drain("work") == [b"published at once"]

    @behaviour("TX-12")
    @lie("return-code-changed")
    def test_returns_the_unroutable_at_the_commit(self, tx, returns):
        """A producer that goes by returns learns of a missing queue only when it can no longer roll back."""
        tx.basic_publish("", "nowhere", b"an order", mandatory=True)
        handled(tx)
        before = list(returns)

        tx.tx_commit()
        handled(tx)

        assert (before, returns) == ([], [(312, b"an order")])

    @behaviour("TX-13")
    @lie("commit-lost")
    def test_routes_before_the_commit(self, tx, drain):
        """The change of a binding does not wait for the commit, and the messages do not wait for the binding."""
        tx.basic_publish("amq.fanout", "", b"early")
        tx.queue_bind("work", "amq.fanout")
        tx.basic_publish("amq.fanout", "", b"late")

        tx.tx_commit()

        assert drain("work") == [b"late"]

    @behaviour("TX-17")
    @lie("binding-lost")
    def test_rolls_back_no_declaration(self, tx, channel, drain):
        """Queues, exchanges and bindings are changed at once and for good; only messages and acks can be undone."""
        tx.queue_declare("new", durable=True)
        tx.queue_bind("new", "amq.fanout")

        tx.tx_rollback()

        channel.basic_publish("amq.fanout", "", b"routed")
        assert drain("new") == [b"routed"]

    @behaviour("TX-15", "CHAN-03")
    @lie("commit-lost")
    def test_commits_to_some_queues_and_not_to_others(self, tx, channel, connection, drain):
        """Not all or nothing: one queue refuses, the others keep what they got, and no word says which it was."""
        channel.queue_declare("full", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        channel.basic_publish("", "full", b"before")
        for queue, body in (("work", b"1"), ("full", b"2"), ("work", b"3")):
            tx.basic_publish("", queue, body)

        with pytest.raises(exceptions.ChannelClosedByBroker, match="partial tx completion") as error:
            tx.tx_commit()

        assert (error.value.reply_code, tx.is_closed, connection.is_open) == (406, True, True)
        assert (drain("work"), drain("full")) == ([b"1", b"3"], [b"before"])

    @pytest.fixture
    def bereft(self, tx, channel, returns):
        """A transaction with a message for a queue that is deleted before the commit, and one before and behind it."""
        channel.queue_declare("missing", durable=True)
        for queue, body in (("work", b"1"), ("missing", b"2"), ("work", b"3")):
            tx.basic_publish("", queue, body, mandatory=True)
        handled(tx)
        channel.queue_delete("missing")
        return tx

    @behaviour("TX-14")
    @pytest.mark.rabbitmq(before="4.0")
    @lie("return-code-changed")
    def test_returns_what_has_lost_its_queue(self, bereft, returns, drain):
        """Where it goes was settled before the commit; whether that is still there is looked at again."""
        bereft.tx_commit()
        handled(bereft)

        assert (returns, drain("work")) == ([(312, b"2")], [b"1", b"3"])

    @behaviour("TX-14")
    @pytest.mark.rabbitmq(since="4.0", before="4.3")
    def test_fails_in_part_for_a_lost_queue(self, bereft, connection, drain):
        """A queue that is deleted at the wrong moment fails the commit, though the rest of it is done."""
        with pytest.raises(exceptions.ChannelClosedByBroker, match="partial tx completion") as error:
            bereft.tx_commit()

        assert (error.value.reply_code, bereft.is_closed, connection.is_open) == (406, True, True)
        assert drain("work") == [b"1", b"3"]

    @behaviour("TX-14")
    @pytest.mark.rabbitmq(since="4.3")
    @lie("commit-lost")
    def test_stops_midway_at_a_lost_queue(self, bereft, connect):
        """The whole connection goes, and what stood behind the lost message in the transaction is lost with it."""
        with pytest.raises(exceptions.ConnectionClosedByBroker, match="failed to deliver message") as error:
            bereft.tx_commit()

        reader = connect().channel()
        assert (error.value.reply_code, bereft.connection.is_closed) == (506, True)
        assert [reader.basic_get("work", auto_ack=True)[2] for _ in range(2)] == [b"1", None]


class TestWorker:
    """What our worker does without transactions."""

    @lie("delivered-message-id-lost")
    def test_shows_others_what_a_transaction_would_hide(self, source, orders, receive, drain, run_until_it_ends):
        """It is told before it is acknowledged: after a crash in between it is told twice, and never not at all."""
        orders.producer.publish(*sample_orders(1))
        seen = []

        def listen(words):  # said between the confirm and the ack
            if words.startswith("completed"):
                seen.extend([dict(worker.consumer.outcomes), receive("notifications")[0].properties.message_id])
                worker.stop()

        run_until_it_ends(worker := Worker(source, failures=Failures(0), say=listen))

        assert (seen, drain("orders")) == ([{}, "00-0001"], [])
