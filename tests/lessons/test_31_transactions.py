"""Transactions: publishes and acks that take effect together, and why confirms are preferred.

After `tx.select` the broker keeps the publishes and acks of a channel until `tx.commit`. `tx.rollback`, or the end of
the channel, discards them. This is less than a database offers: others can see a part of a commit, a commit to several
queues can succeed in some of them only, and declarations and bindings are never undone. At each commit the publisher
waits until the broker has answered. Publisher confirms give the same answer for each message, and the publisher need
not wait.

In the order system the worker publishes its event first, waits for the confirm, and then acks the order. A crash
between the two repeats an order, and loses none.

Spec: https://www.rabbitmq.com/docs/semantics
Code: rmqspec/client/publisher.py, rmqspec/orders/worker.py
Reference: TX-01…08, TX-11…15, TX-17, TX-18
"""

import pytest

from rmqspec.orders import Completed, Failures, Worker, parse, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture(autouse=True)
def work(channel):
    """The queue `work`."""
    channel.queue_declare("work", durable=True)


class TestTransaction:
    """RabbitMQ: the publishes and acks of a channel between `tx.select` and `tx.commit` or `tx.rollback`."""

    @behaviour("TX-01")
    @lie("transaction-ignored")
    def test_begun_by_tx_select_shows_its_publishes_to_others_only_after_tx_commit(self, connection, drain):
        """Nobody acts on a change that may be rolled back. But a commit is not atomic: others may see a part of it."""
        channel = connection.channel()
        channel.tx_select()
        channel.basic_publish("", "work", b"an order")
        channel.basic_publish("", "work", b"its invoice")
        channel.queue_declare("work", passive=True)  # when this is answered, the broker has handled the publishes
        assert drain("work") == []

        channel.tx_commit()

        assert drain("work") == [b"an order", b"its invoice"]

    @behaviour("TX-02")
    @lie("transaction-ignored")
    @pytest.mark.parametrize("end", ["tx_rollback", "close"])
    def test_discards_its_publishes_on_tx_rollback_or_channel_close(self, connection, channel, drain, end):
        """A publisher that fails in the middle has published nothing."""
        transaction = connection.channel()
        transaction.tx_select()
        transaction.basic_publish("", "work", b"discarded")

        getattr(transaction, end)()

        channel.basic_publish("", "work", b"published outside")
        assert drain("work") == [b"published outside"]

    @behaviour("TX-03", "TX-01")
    @lie("commit-lost")
    def test_moves_a_message_to_another_queue_by_committing_ack_and_publish(
        self, connection, channel, get_without_ack, drain
    ):
        """A commit publishes first and acks afterwards: a crash loses no message, but may leave it in both queues."""
        channel.queue_declare("done", durable=True)
        channel.basic_publish("", "work", b"an order")
        transaction = connection.channel()
        transaction.tx_select()

        tag, body = get_without_ack(transaction, "work")
        transaction.basic_publish("", "done", body)
        transaction.basic_ack(tag)
        transaction.tx_commit()

        transaction.close()
        assert drain("work") == []
        assert drain("done") == [b"an order"]


class TestTxCommit:
    """RabbitMQ: a `tx.commit` that one of the queues does not accept."""

    @behaviour("TX-15", "CHAN-03")
    @lie("precondition-hidden")
    def test_closes_the_channel_with_406_if_one_queue_rejects_and_publishes_to_the_others(
        self, channel, refusal, drain
    ):
        """It is not all or nothing: one queue rejects, the others keep their messages, and no error names the queue."""
        channel.queue_declare("full", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        channel.basic_publish("", "full", b"before")

        def commit(transaction):
            transaction.tx_select()
            transaction.basic_publish("", "work", b"1")
            transaction.basic_publish("", "full", b"2")
            transaction.basic_publish("", "work", b"3")
            transaction.tx_commit()

        said = refusal(commit)

        assert said.code == 406
        assert said.closed == "channel"
        assert "partial tx completion" in said.text
        assert drain("work") == [b"1", b"3"]
        assert drain("full") == [b"before"]


class TestWorker:
    """Our worker: it uses confirms and no transaction."""

    @lie("ack-swallowed")
    def test_acks_an_order_only_after_its_event_is_in_notifications(
        self, source, orders, receive, drain, run_until_it_ends
    ):
        """Others see the event at once. A crash between the two may publish it twice, but never loses it."""
        orders.producer.publish(*sample_orders(1))
        outcomes_so_far = []
        events = []

        def say(words):  # called between the confirm of the event and the ack of the order
            if words.startswith("completed"):
                outcomes_so_far.append(dict(worker.consumer.outcomes))
                events.extend(receive("notifications"))
                worker.stop()

        worker = Worker(source, failures=Failures(0), say=say)
        run_until_it_ends(worker)

        assert [parse(Completed, event.body).order_id for event in events] == ["00-0001"]
        assert outcomes_so_far == [{}]
        assert drain("orders") == []
