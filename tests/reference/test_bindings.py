"""Bindings between exchanges: cycles, repetition, deletion, and restarts.

Spec: https://www.rabbitmq.com/docs/e2e
Reference: E2E-03, E2E-05, E2E-06, E2E-07, BIND-01, BIND-02, BIND-03, BIND-05, BIND-07
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def exchanges(channel):
    """Two fanout exchanges without bindings."""
    channel.exchange_declare("company", "fanout", durable=True)
    channel.exchange_declare("team", "fanout", durable=True)


class TestExchangeBinding:
    """RabbitMQ: a binding from one exchange to another."""

    @behaviour("E2E-03")
    @lie("exchange-binding-lost")
    def test_cycle_ends_after_one_copy_for_each_queue(self, channel, exchanges, bound_queue, drain):
        """Two teams that bind each other's exchange do not set a message going round for ever."""
        channel.exchange_bind("team", "company")
        channel.exchange_bind("company", "team")
        channel.exchange_bind("company", "company")
        of_company = bound_queue("company")
        of_team = bound_queue("team")

        channel.basic_publish("company", "", b"from above")
        channel.basic_publish("team", "", b"from below")

        assert drain(of_company) == [b"from above", b"from below"]
        assert drain(of_team) == [b"from above", b"from below"]

    @behaviour("E2E-05", "BIND-01", "BIND-02")
    @lie("unbind-ignored")
    def test_made_twice_is_removed_by_one_unbind_and_a_second_unbind_is_no_error(
        self, channel, exchanges, bound_queue, is_routed, drain
    ):
        """Every instance of a program binds when it starts; the first one that unbinds does so for all of them."""
        channel.exchange_bind("team", "company", "order")
        channel.exchange_bind("team", "company", "order")
        queue = bound_queue("team")
        routed_before = is_routed("company", "order")

        channel.exchange_unbind("team", "company", "order")
        routed_after = is_routed("company", "order")
        channel.exchange_unbind("team", "company", "order")

        assert routed_before is True
        assert drain(queue) == [b"order"]
        assert routed_after is False

    @behaviour("E2E-07", "CHAN-03")
    @lie("exchange-delete-ignored")
    def test_protects_its_source_and_not_its_destination_from_a_delete_with_if_unused(
        self, channel, exchanges, bound_queue, refusal, lookup, drain
    ):
        """`if_unused` protects an exchange from which others receive; one that only receives is deleted."""
        channel.exchange_bind("team", "company")

        source = refusal(lambda careful: careful.exchange_delete("company", if_unused=True))
        destination = refusal(lambda careful: careful.exchange_delete("team", if_unused=True))

        assert source.code == 406
        assert source.closed == "channel"
        assert "in use" in source.text
        assert destination.closed == "nothing"
        assert lookup("exchange", "team") == "missing"
        channel.exchange_declare("team", "fanout", durable=True)
        queue = bound_queue("team")
        channel.basic_publish("company", "", b"the binding is gone too")
        channel.basic_publish("team", "", b"direct")
        assert drain(queue) == [b"direct"]


class TestRestart:
    """RabbitMQ: what is left of bindings between durable exchanges after a restart."""

    @pytest.fixture
    def url(self, disposable_url):
        return disposable_url

    @behaviour("E2E-06")
    @pytest.mark.timeout(180)
    @lie("exchange-binding-lost")
    def test_keeps_bindings_between_durable_exchanges(self, disposable_broker, connection, channel, exchanges, connect):
        """The tree is whole again, even if none of the teams has come back to declare its part."""
        channel.exchange_bind("team", "company")
        channel.queue_declare("orders", durable=True)
        channel.queue_bind("orders", "team")
        connection.close()

        disposable_broker.restart()

        after = connect().channel()
        after.confirm_delivery()
        after.basic_publish("company", "", b"after the restart")
        _, _, body = after.basic_get("orders", auto_ack=True)
        assert body == b"after the restart"


class TestQueueBinding:
    """RabbitMQ: a binding from an exchange to a queue."""

    @behaviour("BIND-03", "CHAN-03")
    @lie("absence-hidden")
    @pytest.mark.parametrize(
        ("queue", "exchange", "text"),
        [("missing", "team", "no queue 'missing'"), ("work", "missing", "no exchange 'missing'")],
        ids=["no_queue", "no_exchange"],
    )
    def test_of_a_missing_queue_or_exchange_closes_the_channel_with_404(
        self, channel, exchanges, refusal, queue, exchange, text
    ):
        """Both ends must be declared first; a program that binds early does not bind to what comes later."""
        channel.queue_declare("work", durable=True)

        said = refusal(lambda early: early.queue_bind(queue, exchange, "order"))

        assert said.code == 404
        assert said.closed == "channel"
        assert text in said.text

    @behaviour("BIND-05")
    @lie("queue-delete-ignored")
    def test_is_deleted_with_its_queue(self, channel, exchanges, is_routed):
        """A queue that is declared anew under the same name gets nothing until it is bound again."""
        channel.queue_declare("work", durable=True)
        channel.queue_bind("work", "team", "")
        routed_before = is_routed("team", "order")

        channel.queue_delete("work")
        channel.queue_declare("work", durable=True)

        assert routed_before is True
        assert is_routed("team", "order") is False

    @behaviour("BIND-07")
    @lie("binding-lost")
    def test_of_a_durable_queue_may_come_from_a_transient_exchange(self, channel, is_routed, drain):
        """Allowed, and a trap: at the next restart the exchange goes, and the binding with it."""
        channel.exchange_declare("passing", "fanout", durable=False)
        channel.queue_declare("work", durable=True)

        channel.queue_bind("work", "passing", "")

        assert is_routed("passing", "order") is True
        assert drain("work") == [b"order"]
