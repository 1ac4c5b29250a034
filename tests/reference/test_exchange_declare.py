"""Declaring exchanges: reserved names, passive declares, unknown types, internal exchanges.

Spec: https://www.rabbitmq.com/docs/exchanges
Reference: XDECL-05, XDECL-07, XDECL-08, XDECL-09, XAUTO-06, XDECL-03, XDECL-06, XDECL-10, AE-06, AE-08, TRACE-03
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq


class TestExchangeDeclare:
    """RabbitMQ: `exchange.declare`."""

    @behaviour("XDECL-05")
    @lie("precondition-hidden")
    def test_passive_accepts_any_type_for_an_existing_exchange(self, channel, bound_queue, refusal, drain):
        """A passive declare compares nothing but the name: it does not prove that the exchange routes as expected."""
        channel.exchange_declare("post", "direct", durable=True)
        queue = bound_queue("post", "order")

        passive = refusal(lambda careful: careful.exchange_declare("post", "fanout", durable=True, passive=True))
        active = refusal(lambda careless: careless.exchange_declare("post", "fanout", durable=True))

        assert passive.closed == "nothing"
        assert active.code == 406
        channel.basic_publish("post", "order", b"letter")
        channel.basic_publish("post", "another", b"not bound")
        assert drain(queue) == [b"letter"]

    @behaviour("XDECL-09")
    @lie("precondition-hidden")
    def test_accepts_a_predeclared_exchange_with_its_own_properties_only(self, refusal):
        """A program may list `amq.direct` in its topology; the reserved prefix matters for new names alone."""
        own = refusal(lambda channel: channel.exchange_declare("amq.direct", "direct", durable=True))
        other = refusal(lambda channel: channel.exchange_declare("amq.direct", "fanout", durable=True))

        assert own.closed == "nothing"
        assert other.code == 406
        assert other.closed == "channel"

    @behaviour("XDECL-08", "CHAN-03")
    @lie("refusal-hidden")
    def test_closes_the_channel_with_403_for_a_new_name_with_prefix_amq(self, refusal):
        """Names that begin with `amq.` are the broker's own; no program can pass its exchange off as one."""
        said = refusal(lambda channel: channel.exchange_declare("amq.mine", "direct"))

        assert said.code == 403
        assert said.closed == "channel"
        assert "contains reserved prefix 'amq.*'" in said.text

    @behaviour("XDECL-07", "CHAN-04")
    @rabbitmq(before="4.0")
    @lie("connection-code-changed")
    def test_closes_the_connection_with_503_for_an_unknown_type_before_4_0(self, connect, closed_connection):
        """All channels of the program are lost, not only the one that declared; since 4.0 it is only that one."""
        connection = connect()
        sibling = connection.channel()

        said = closed_connection(connection, lambda channel: channel.exchange_declare("post", "drect"))

        assert said.reply_code == 503
        assert "unknown exchange type 'drect'" in said.reply_text
        assert sibling.is_closed

    @behaviour("XDECL-07", "CHAN-03")
    @rabbitmq(since="4.0")
    @lie("precondition-hidden")
    def test_closes_the_channel_with_406_for_an_unknown_type_since_4_0(self, refusal):
        """Before 4.0 the same mistake closed the whole connection."""
        said = refusal(lambda channel: channel.exchange_declare("post", "drect"))

        assert said.code == 406
        assert said.closed == "channel"
        assert "unknown exchange type 'drect'" in said.text


class TestInternalExchange:
    """RabbitMQ: an exchange that was declared with `internal`."""

    @behaviour("XAUTO-06", "CHAN-03")
    @lie("exchange-internal-lost")
    def test_refuses_publishes_with_403_and_routes_messages_from_other_exchanges(
        self, channel, bound_queue, refusal, drain
    ):
        """It stands behind another exchange: no client can go round that one."""
        channel.exchange_declare("inner", "fanout", durable=True, internal=True)
        channel.exchange_declare("outer", "fanout", durable=True)
        channel.exchange_bind("inner", "outer")
        queue = bound_queue("inner")

        def publish(careless):
            careless.confirm_delivery()
            careless.basic_publish("inner", "", b"direct")

        said = refusal(publish)

        assert said.code == 403
        assert said.closed == "channel"
        assert "cannot publish to internal exchange" in said.text
        channel.basic_publish("outer", "", b"by the outer exchange")
        assert drain(queue) == [b"by the outer exchange"]


class TestExchangeName:
    """RabbitMQ: the name in `exchange.declare`."""

    @behaviour("XDECL-06")
    @lie("transient-exchange-not-made")
    def test_loses_its_line_breaks(self, channel, lookup):
        """A name that was read from a file with its line end is the same name."""
        channel.exchange_declare("po\r\nst\n", "fanout")

        assert lookup("exchange", "post") == "exists"


class TestExchangeArgument:
    """RabbitMQ: the arguments of `exchange.declare`."""

    @behaviour("XDECL-03")
    @lie("every-exchange-argument-compared")
    def test_that_is_not_known_is_ignored_by_later_declarations(self, channel, refusal):
        """A misspelt argument is accepted, and nobody hears that the exchange has no alternate."""
        arguments = {"x-no-such-argument": 1}
        channel.exchange_declare("post", "fanout", durable=True, arguments=arguments)

        said = refusal(lambda later: later.exchange_declare("post", "fanout", durable=True))

        assert said.closed == "nothing"

    @behaviour("AE-06", "CHAN-03")
    @lie("alternate-exchange-lost")
    def test_alternate_exchange_closes_the_channel_with_406_if_it_is_no_text(self, refusal):
        """A number cannot name an exchange; the mistake is found before a message is lost."""
        arguments = {"alternate-exchange": 5}

        said = refusal(lambda careless: careless.exchange_declare("post", "fanout", durable=True, arguments=arguments))

        assert said.code == 406
        assert said.closed == "channel"
        assert "invalid type" in said.text
        assert "alternate-exchange" in said.text

    @behaviour("AE-08")
    @lie("return-swallowed")
    def test_x_alternate_exchange_is_no_alternate_exchange(self, channel, bound_queue, is_routed):
        """Nearly all other arguments begin with x-: with this one the unroutable messages are lost."""
        others = bound_queue("amq.fanout")
        for name, argument in (("post", "x-alternate-exchange"), ("shop", "alternate-exchange")):
            channel.exchange_declare(name, "direct", durable=True, arguments={argument: "amq.fanout"})

        assert is_routed("post", "nowhere") is False
        assert is_routed("shop", "nowhere") is True
        assert channel.basic_get(others, auto_ack=True)[2] == b"nowhere"


class TestPredeclaredExchange:
    """RabbitMQ: the exchanges that each vhost begins with."""

    @behaviour("XDECL-10", "CHAN-03")
    @lie("refusal-hidden")
    @pytest.mark.parametrize("name", ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"])
    def test_cannot_be_deleted_and_closes_the_channel_with_403(self, refusal, lookup, name):
        """No program can take them away from the others of its vhost."""
        said = refusal(lambda careless: careless.exchange_delete(name))

        assert said.code == 403
        assert said.closed == "channel"
        assert "deletion of system exchange" in said.text
        assert lookup("exchange", name) == "exists"

    @behaviour("TRACE-03", "CHAN-03")
    @lie("code-403-changed")
    def test_amq_rabbitmq_trace_refuses_publishes_with_403(self, refusal):
        """What is read there comes from the broker: no client can forge a trace."""

        def publish(careless):
            careless.confirm_delivery()
            careless.basic_publish("amq.rabbitmq.trace", "publish.post", b"forged")

        said = refusal(publish)

        assert said.code == 403
        assert said.closed == "channel"
        assert "cannot publish to internal exchange 'amq.rabbitmq.trace'" in said.text
