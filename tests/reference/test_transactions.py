"""Transactions: acks, errors, routing, returns, and a queue that is deleted before the commit.

Spec: https://www.rabbitmq.com/docs/semantics
Reference: TX-01, TX-03…06, TX-08, TX-11…14, TX-17, TX-18, TX-07, TX-09, TX-10, TX-19
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq


def wait_until_handled(channel):
    """Returns when the broker has handled all that was sent on this channel before, and its returns are here."""
    channel.queue_declare("work", passive=True)
    channel.connection.process_data_events(time_limit=0)  # pika calls the callbacks of returns here


@pytest.fixture(autouse=True)
def work(channel):
    """The queue `work`."""
    channel.queue_declare("work", durable=True)


@pytest.fixture
def tx(connection):
    """A channel after `tx.select`."""
    channel = connection.channel()
    channel.tx_select()
    return channel


@pytest.fixture
def returns(tx):
    """Code and body of each message that is returned to `tx`, once `wait_until_handled(tx)` has ended."""
    seen = []
    tx.add_on_return_callback(lambda _channel, method, _properties, body: seen.append((method.reply_code, body)))
    return seen


class TestTransaction:
    """RabbitMQ: the publishes and acks of a channel between `tx.select` and `tx.commit` or `tx.rollback`."""

    @behaviour("TX-01", "TX-18")
    @lie("commit-lost")
    def test_is_neither_committed_nor_discarded_by_a_second_tx_select(self, tx, drain):
        """Transactions do not nest, and a second `tx.select` neither commits nor discards."""
        tx.basic_publish("", "work", b"before")
        tx.tx_select()
        tx.basic_publish("", "work", b"after")
        wait_until_handled(tx)
        assert drain("work") == []

        tx.tx_commit()

        assert drain("work") == [b"before", b"after"]

    @behaviour("TX-03", "TX-04")
    @lie("rollback-requeues")
    def test_keeps_a_message_unacked_when_its_ack_is_rolled_back(self, tx, channel, get_without_ack, receive, drain):
        """The message is not delivered to others: its consumer may ack or nack it again."""
        channel.basic_publish("", "work", b"an order")
        tag, _ = get_without_ack(tx, "work")
        tx.basic_ack(tag)

        tx.tx_rollback()
        channel.basic_publish("", "work", b"another")
        assert drain("work") == [b"another"]

        tx.basic_nack(tag, requeue=True)
        tx.tx_commit()
        (requeued,) = receive("work")
        assert requeued.body == b"an order"

    @behaviour("TX-03", "CHAN-03")
    @lie("commit-lost")
    def test_settles_acks_at_tx_commit_so_that_a_later_nack_closes_the_channel_with_406(
        self, channel, refusal, get_without_ack, drain
    ):
        """After the commit there is no way back."""
        channel.basic_publish("", "work", b"an order")

        def nack_after_commit(tx):
            tx.tx_select()
            tag, _ = get_without_ack(tx, "work")
            tx.basic_ack(tag)
            tx.tx_commit()
            tx.basic_nack(tag)
            wait_until_handled(tx)

        said = refusal(nack_after_commit)

        assert said.code == 406
        assert said.closed == "channel"
        assert "unknown delivery tag 1" in said.text
        assert drain("work") == []

    @behaviour("TX-05", "TX-06")
    @lie("transaction-ignored")
    def test_requeues_messages_with_uncommitted_acks_but_not_auto_acked_ones_when_the_channel_closes(
        self, tx, channel, get_without_ack, receive, drain
    ):
        """Only auto-ack is not part of the transaction: such a message is gone when it was delivered."""
        for body in (b"auto-ack", b"acked", b"unacked"):
            channel.basic_publish("", "work", body)
        tx.basic_get("work", auto_ack=True)
        tag, _ = get_without_ack(tx, "work")
        tx.basic_ack(tag)
        get_without_ack(tx, "work")

        tx.close()

        assert [requeued.body for requeued in receive("work", 2)] == [b"acked", b"unacked"]
        assert drain("work") == []

    @behaviour("TX-08", "CHAN-03")
    @lie("precondition-hidden")
    def test_closes_the_channel_with_406_at_once_on_an_unknown_delivery_tag(self, channel, refusal, drain):
        """The error does not wait for the commit; it closes the channel, which discards the transaction."""

        def ack_unknown(tx):
            tx.tx_select()
            tx.basic_publish("", "work", b"discarded")
            tx.basic_ack(7)
            wait_until_handled(tx)

        said = refusal(ack_unknown)

        assert said.code == 406
        assert said.closed == "channel"
        assert "unknown delivery tag 7" in said.text
        channel.basic_publish("", "work", b"kept")
        assert drain("work") == [b"kept"]

    @behaviour("TX-13")
    @lie("routed-at-commit")
    def test_routes_messages_when_they_are_published_not_at_tx_commit(self, tx, drain):
        """A binding that is made later in the transaction does not apply to earlier messages."""
        tx.basic_publish("amq.fanout", "", b"early")
        tx.queue_bind("work", "amq.fanout")
        tx.basic_publish("amq.fanout", "", b"late")

        tx.tx_commit()

        assert drain("work") == [b"late"]

    @behaviour("TX-17")
    @lie("binding-lost")
    def test_does_not_undo_declarations_and_bindings_on_tx_rollback(self, tx, channel, drain):
        """Queues, exchanges and bindings change at once; only publishes and acks are part of a transaction."""
        tx.queue_declare("new", durable=True)
        tx.queue_bind("new", "amq.fanout")

        tx.tx_rollback()

        channel.basic_publish("amq.fanout", "", b"routed")
        assert drain("new") == [b"routed"]

    @behaviour("TX-12")
    @lie("transaction-ignored")
    def test_returns_unroutable_mandatory_messages_at_tx_commit(self, tx, returns):
        """A publisher learns of a missing queue only when it can no longer roll back."""
        tx.basic_publish("", "nowhere", b"an order", mandatory=True)
        wait_until_handled(tx)
        assert returns == []

        tx.tx_commit()
        wait_until_handled(tx)

        assert returns == [(312, b"an order")]


class TestTxCommit:
    """RabbitMQ: `tx.commit` and `tx.rollback` that fail, or succeed in part."""

    @behaviour("TX-11", "CHAN-03")
    @lie("transaction-ignored")
    @pytest.mark.parametrize("end", ["tx_commit", "tx_rollback"])
    def test_or_tx_rollback_without_tx_select_closes_the_channel_with_406(self, refusal, drain, end):
        """Without a transaction each publish takes effect at once, so there is nothing to commit."""

        def end_without_begin(channel):
            channel.basic_publish("", "work", b"published at once")
            getattr(channel, end)()

        said = refusal(end_without_begin)

        assert said.code == 406
        assert said.closed == "channel"
        assert "channel is not transactional" in said.text
        assert drain("work") == [b"published at once"]

    @pytest.fixture
    def publish_and_delete_a_queue(self, channel):
        """Publishes `1` and `3` to `work`, and `2` to a queue that is deleted before the commit."""

        def act(tx):
            channel.queue_declare("deleted", durable=True)
            tx.basic_publish("", "work", b"1", mandatory=True)
            tx.basic_publish("", "deleted", b"2", mandatory=True)
            tx.basic_publish("", "work", b"3", mandatory=True)
            wait_until_handled(tx)
            channel.queue_delete("deleted")

        return act

    @pytest.fixture
    def commit_after_deletion(self, publish_and_delete_a_queue):
        """The same in a transaction of its own, and the commit."""

        def act(tx):
            tx.tx_select()
            publish_and_delete_a_queue(tx)
            tx.tx_commit()

        return act

    @behaviour("TX-14")
    @rabbitmq(before="4.0")
    @lie("return-swallowed")
    def test_returns_a_mandatory_message_before_4_0_if_its_queue_was_deleted_and_publishes_the_others(
        self, tx, publish_and_delete_a_queue, returns, drain
    ):
        """The message was routed when it was published; at the commit the broker looks again for the queue."""
        publish_and_delete_a_queue(tx)

        tx.tx_commit()
        wait_until_handled(tx)

        assert returns == [(312, b"2")]
        assert drain("work") == [b"1", b"3"]

    @behaviour("TX-14")
    @rabbitmq(since="4.0", before="4.3")
    @lie("precondition-hidden")
    def test_closes_the_channel_with_406_from_4_0_to_4_2_if_a_queue_was_deleted_and_publishes_to_the_others(
        self, commit_after_deletion, refusal, drain
    ):
        """The commit fails, although all other messages are published."""
        said = refusal(commit_after_deletion)

        assert said.code == 406
        assert said.closed == "channel"
        assert "partial tx completion" in said.text
        assert drain("work") == [b"1", b"3"]

    @behaviour("TX-14")
    @rabbitmq(since="4.3")
    @lie("connection-code-changed")
    def test_closes_the_connection_with_506_since_4_3_if_a_queue_was_deleted_and_loses_later_messages(
        self, commit_after_deletion, refusal, connect
    ):
        """The messages of the transaction before the lost one are published, those after it are not."""
        said = refusal(commit_after_deletion)

        assert said.code == 506
        assert said.closed == "connection"
        assert "failed to deliver message" in said.text
        reader = connect().channel()
        _, _, body = reader.basic_get("work", auto_ack=True)
        assert body == b"1"
        _, _, body = reader.basic_get("work", auto_ack=True)
        assert body is None

    @behaviour("TX-19")
    @lie("commit-lost")
    def test_of_an_empty_transaction_is_accepted(self, tx, drain):
        """A program may commit on a schedule, whether it had something to do or not."""
        tx.tx_commit()
        tx.tx_commit()
        tx.basic_publish("", "work", b"order")
        tx.tx_commit()

        assert drain("work") == [b"order"]


class TestTransactionAck:
    """RabbitMQ: acks in a transaction."""

    @behaviour("TX-09")
    @lie("ack-swallowed")
    @pytest.mark.parametrize("tag", [0, 3], ids=["tag_0", "tag_of_the_last"])
    def test_with_multiple_settles_at_the_commit_all_that_was_delivered(
        self, tx, channel, get_without_ack, drain_when_ready, tag
    ):
        """One ack for a batch, and one commit for its acks and its results."""
        for body in (b"1", b"2", b"3"):
            channel.basic_publish("", "work", body)
            get_without_ack(tx, "work")

        tx.basic_ack(tag, multiple=True)
        tx.tx_commit()
        tx.close()
        channel.basic_publish("", "work", b"4")

        assert drain_when_ready("work", 1) == [b"4"]

    @behaviour("TX-10")
    @lie("ack-swallowed")
    def test_may_come_in_another_order_than_the_deliveries(self, tx, channel, get_without_ack, drain_when_ready):
        """Work that is done in parallel ends in any order; each ack settles its own delivery."""
        for body in (b"1", b"2", b"3"):
            channel.basic_publish("", "work", body)
            get_without_ack(tx, "work")

        for tag in (3, 1):
            tx.basic_ack(tag)
        tx.tx_commit()
        tx.close()

        assert drain_when_ready("work", 1) == [b"2"]

    @behaviour("TX-07")
    @lie("ack-swallowed")
    def test_keeps_its_message_from_basic_recover_before_the_commit(self, tx, channel, get_without_ack, drain):
        """What a program has acked does not come again, although the commit is still to come."""
        for body in (b"acked", b"unacked"):
            channel.basic_publish("", "work", body)
            get_without_ack(tx, "work")
        tx.basic_ack(1)

        tx.basic_recover(requeue=True)

        assert drain("work") == [b"unacked"]
