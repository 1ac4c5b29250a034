"""Words: how class and name of a test read as a sentence, in failures, in the catalogue and in the book."""

from types import SimpleNamespace

import pytest

from rmqspec.tools.plugin.words import sentence_of

SENTENCES = {
    "ExchangeDelete::ignores_if_unused": "Exchange delete ignores if unused",
    "RpcClient::ignores_a_late_reply": "RPC client ignores a late reply",
    "MessageTtl::expires_at_the_head": "Message TTL expires at the head",
    "PikaHeartbeats::close_the_connection": "pika heartbeats close the connection",
    "Amqp10Header::is_answered_by_amqp": "AMQP 1.0 header is answered by AMQP",
    "Worker::rejects_failed_orders_to_orders_failed": "Worker rejects failed orders to orders.failed",
    "Permissions::require_write_on_amq_default": "Permissions require write on amq.default",
    "ReplyTo::of_amq_rabbitmq_reply_to_is_rewritten": "Reply to of amq.rabbitmq.reply-to is rewritten",
    "UnackedMessages::are_all_requeued_on_basic_recover": "Unacked messages are all requeued on basic.recover",
    "Method::basic_recover_async_is_not_answered": "Method basic.recover-async is not answered",
    "Transaction::routes_at_tx_commit": "Transaction routes at tx.commit",
    "Alarm::sends_connection_blocked_once": "Alarm sends connection.blocked once",
    "Heartbeats::keep_an_idle_connection_open": "Heartbeats keep an idle connection open",
    "XDeath::counts_in_x_death_since_4_0": "X death counts in x-death since 4.0",
}


class TestSentence:
    """What is written beneath a failure."""

    @pytest.mark.parametrize(("name", "sentence"), SENTENCES.items(), ids=SENTENCES)
    def test_has_names_as_rabbitmq_writes_them(self, name, sentence):
        """`to orders failed` sounds like an order that failed; nobody searches the documentation for `Rpc`."""
        owner, _, fact = name.partition("::")
        item = SimpleNamespace(originalname=f"test_{fact}", cls=type(f"Test{owner}", (), {}))

        assert sentence_of(item) == sentence
