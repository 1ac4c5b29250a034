"""Alternate exchange: chains, cycles, full queues, missing alternates, and argument against policy.

Spec: https://www.rabbitmq.com/docs/ae
Reference: AE-01…05, AE-07, XDECL-04
"""

import pytest
from pika import exceptions

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def exchange(channel):
    """Declares an exchange that may have an alternate: `exchange("shop", "direct", alternate="unknown")`."""

    def declare(name, kind, alternate=None):
        arguments = {"alternate-exchange": alternate} if alternate else {}
        channel.exchange_declare(name, kind, durable=True, arguments=arguments)
        return name

    return declare


class TestAlternateExchange:
    """RabbitMQ: the exchange named by the argument or policy `alternate-exchange`."""

    @behaviour("AE-01")
    @lie("topic-as-fanout")
    def test_routes_by_its_own_type_and_bindings(self, exchange, channel, bound_queue, drain):
        """It is an exchange like any other: with a topic exchange, unroutable messages are sorted by their keys."""
        exchange("shop", "direct", alternate="unknown")
        exchange("unknown", "topic")
        orders = bound_queue("unknown", "order.#")
        payments = bound_queue("unknown", "payment.#")

        channel.basic_publish("shop", "order.lost", b"order")
        channel.basic_publish("shop", "payment.lost", b"payment")

        assert drain(orders) == [b"order"]
        assert drain(payments) == [b"payment"]

    @behaviour("AE-05")
    @lie("alternate-gets-all")
    def test_receives_no_message_that_a_full_queue_rejects(self, exchange, channel, bound_queue, drain):
        """A message that its queue rejects is nacked; it was routed, so nothing is passed on."""
        exchange("shop", "direct", alternate="unknown")
        exchange("unknown", "fanout")
        full = bound_queue("shop", "paid", **{"x-max-length": 1, "x-overflow": "reject-publish"})
        rest = bound_queue("unknown")
        channel.basic_publish("shop", "paid", b"first")
        channel.basic_publish("shop", "sent", b"unroutable")

        with pytest.raises(exceptions.NackError):
            channel.basic_publish("shop", "paid", b"second")

        assert drain(full) == [b"first"]
        assert drain(rest) == [b"unroutable"]

    @behaviour("AE-02")
    @lie("alternate-exchange-lost")
    def test_may_have_an_alternate_exchange_itself(self, exchange, channel, bound_queue, drain):
        """Each exchange of a company's tree can pass its unroutable messages upwards, to one queue for all."""
        exchange("shop", "direct", alternate="country")
        exchange("country", "direct", alternate="world")
        exchange("world", "fanout")
        paid = bound_queue("shop", "paid")
        sent = bound_queue("country", "sent")
        rest = bound_queue("world")

        for key in ("paid", "sent", "lost"):
            channel.basic_publish("shop", key, key.encode())

        assert drain(paid) == [b"paid"]
        assert drain(sent) == [b"sent"]
        assert drain(rest) == [b"lost"]

    @behaviour("AE-02", "AE-03")
    @lie("alternate-exchange-lost")
    def test_cycle_ends_and_a_message_that_none_of_them_routes_is_unroutable(
        self, exchange, bound_queue, is_routed, drain
    ):
        """Two teams may name each other's exchange; a message that neither routes does not go round for ever."""
        exchange("shop", "direct", alternate="depot")
        exchange("depot", "direct", alternate="shop")
        paid = bound_queue("shop", "paid")
        sent = bound_queue("depot", "sent")

        assert is_routed("shop", "sent") is True
        assert is_routed("depot", "paid") is True
        assert is_routed("shop", "lost") is False
        assert is_routed("depot", "lost") is False
        assert drain(paid) == [b"paid"]
        assert drain(sent) == [b"sent"]

    @behaviour("AE-04", "AE-03")
    @lie("mandatory-lost")
    def test_may_be_missing_and_unroutable_mandatory_messages_are_then_returned(self, exchange, bound_queue, is_routed):
        """With `mandatory` a publisher hears of a misspelt name of the alternate exchange."""
        exchange("shop", "direct", alternate="unknown")
        bound_queue("shop", "paid")

        assert is_routed("shop", "paid") is True
        assert is_routed("shop", "lost") is False

    @behaviour("AE-07")
    @lie("alternate-exchange-lost")
    def test_of_the_argument_wins_over_that_of_a_policy(
        self, broker, vhost, exchange, channel, bound_queue, is_routed, eventually, drain
    ):
        """An operator cannot redirect what the application has declared; the exchange beside it obeys the policy."""
        exchange("shop", "direct", alternate="declared")
        exchange("depot", "direct")
        exchange("declared", "fanout")
        exchange("operator", "fanout")
        declared = bound_queue("declared")
        operator = bound_queue("operator")

        broker.management.set_policy(vhost, "alternates", "^(shop|depot)$", {"alternate-exchange": "operator"})

        eventually(lambda: is_routed("depot", "by policy"), True)
        channel.basic_publish("shop", "by argument", b"by argument")
        assert drain(operator) == [b"by policy"]
        assert drain(declared) == [b"by argument"]

    @behaviour("XDECL-04", "CHAN-03")
    @lie("alternate-exchange-lost")
    def test_changed_by_a_redeclare_closes_the_channel_with_406(self, exchange, refusal):
        """Two versions of a program that disagree about it are stopped, instead of losing messages by turns."""
        exchange("shop", "direct", alternate="unknown")
        exchange("shop", "direct", alternate="unknown")

        said = refusal(
            lambda channel: channel.exchange_declare(
                "shop", "direct", durable=True, arguments={"alternate-exchange": "others"}
            )
        )

        assert said.code == 406
        assert said.closed == "channel"
        assert "inequivalent arg 'alternate-exchange'" in said.text
