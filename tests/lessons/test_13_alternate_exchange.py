"""Alternate exchange: where a message goes that no binding takes.

An exchange drops a message that fits none of its bindings, unless it names another exchange that is asked next. That
one may name a third, and only when the last of them finds no queue is the message unroutable. A producer that misspells
a key, or speaks of something that nobody listens to yet, leaves its messages in a queue where they can be seen. What
matters is whether a binding fits, not what becomes of the message in its queue: that is for dead letters.

Spec: https://www.rabbitmq.com/docs/ae
Code: rmqspec/client/topology.py, rmqspec/client/publisher.py
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


@pytest.fixture
def publish(channel):
    """Publishes a message under each key, mandatory; returns the keys that came back as unroutable."""

    def each(name, *keys):
        returned = []
        for key in keys:
            try:
                channel.basic_publish(name, key, key.encode(), mandatory=True)
            except exceptions.UnroutableError:
                returned.append(key)
        return returned

    return each


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("AE-01")
    @lie("delivered-exchange-lost")
    def test_passes_on_what_no_binding_takes(self, channel, exchange, bound_queue, receive):
        """The key goes along, so that whoever finds the message sees what it was meant for."""
        shop, unknown = exchange("shop", "direct", alternate="unknown"), exchange("unknown", "fanout")
        paid, rest = bound_queue(shop, "paid"), bound_queue(unknown)

        channel.basic_publish(shop, "paid", b"as bound")
        channel.basic_publish(shop, "payed", b"misspelt")

        ((known,), (misspelt,)) = receive(paid), receive(rest)
        assert (known.body, known.exchange, known.routing_key) == (b"as bound", "shop", "paid")
        assert (misspelt.body, misspelt.exchange, misspelt.routing_key) == (b"misspelt", "shop", "payed")

    @behaviour("AE-01")
    @lie("alternate-exchange-lost")
    def test_routes_anew_in_the_alternate(self, exchange, bound_queue, publish, drain):
        """It is an exchange like any other: with a topic behind it, strays can be sorted by their keys."""
        shop, unknown = exchange("shop", "direct", alternate="unknown"), exchange("unknown", "topic")
        orders, payments = bound_queue(unknown, "order.#"), bound_queue(unknown, "payment.#")

        publish(shop, "order.lost", "payment.lost")

        assert drain(orders) == [b"order.lost"]
        assert drain(payments) == [b"payment.lost"]

    @behaviour("AE-05")
    @lie("alternate-exchange-lost")
    def test_asks_no_alternate_if_a_binding_fits(self, exchange, bound_queue, publish, drain):
        """An audit of all messages cannot be built from it: the alternate sees the leftovers alone."""
        shop, unknown = exchange("shop", "direct", alternate="unknown"), exchange("unknown", "fanout")
        paid, rest = bound_queue(shop, "paid"), bound_queue(unknown)

        publish(shop, "paid", "sent")

        assert drain(paid) == [b"paid"]
        assert drain(rest) == [b"sent"]

    @behaviour("AE-05")
    @lie("nack-confirmed")
    def test_asks_no_alternate_for_a_full_queue(self, channel, exchange, bound_queue, drain):
        """Refused by its queue is not unroutable: the producer hears a nack, and nothing is passed on."""
        shop, unknown = exchange("shop", "direct", alternate="unknown"), exchange("unknown", "fanout")
        full = bound_queue(shop, "paid", **{"x-max-length": 1, "x-overflow": "reject-publish"})
        rest = bound_queue(unknown)
        channel.basic_publish(shop, "paid", b"first")
        channel.basic_publish(shop, "sent", b"unroutable")

        with pytest.raises(exceptions.NackError):
            channel.basic_publish(shop, "paid", b"second")

        assert drain(full) == [b"first"]
        assert drain(rest) == [b"unroutable"]

    @behaviour("AE-02")
    @lie("alternate-exchange-lost")
    def test_follows_a_chain_of_alternates(self, exchange, bound_queue, publish, drain):
        """Each exchange of a company's tree may hand its strays upwards, to one queue for all of them."""
        shop = exchange("shop", "direct", alternate="country")
        country, world = exchange("country", "direct", alternate="world"), exchange("world", "fanout")
        paid, sent, rest = bound_queue(shop, "paid"), bound_queue(country, "sent"), bound_queue(world)

        publish(shop, "paid", "sent", "lost")

        assert (drain(paid), drain(sent), drain(rest)) == ([b"paid"], [b"sent"], [b"lost"])

    @behaviour("AE-02", "AE-03")
    @lie("alternate-exchange-lost")
    def test_ends_a_circle_of_alternates(self, exchange, bound_queue, publish, drain):
        """Two teams may name each other's exchange; what neither takes comes back, and does not go round for ever."""
        shop, depot = exchange("shop", "direct", alternate="depot"), exchange("depot", "direct", alternate="shop")
        paid, sent = bound_queue(shop, "paid"), bound_queue(depot, "sent")

        returned = publish(shop, "sent", "lost") + publish(depot, "paid", "strayed")

        assert returned == ["lost", "strayed"]
        assert (drain(paid), drain(sent)) == ([b"paid"], [b"sent"])

    @behaviour("AE-03")
    @lie("alternate-exchange-lost")
    def test_returns_what_no_alternate_can_route(self, exchange, bound_queue, publish, drain):
        """For `mandatory` a queue behind the alternate counts: a producer never hears that its key is misspelt."""
        shop, unknown = exchange("shop", "direct", alternate="unknown"), exchange("unknown", "direct")
        payed = bound_queue(unknown, "payed")

        returned = publish(shop, "payed", "lost")

        assert returned == ["lost"]
        assert drain(payed) == [b"payed"]

    @behaviour("AE-04")
    @lie("alternate-exchange-lost")
    def test_drops_if_the_alternate_is_missing(self, channel, exchange, bound_queue, drain):
        """The declare does not check it, and confirms say yes: only the broker's log tells of the misspelt name."""
        shop = exchange("shop", "direct", alternate="unknown")
        channel.basic_publish(shop, "lost", b"into nothing")

        rest = bound_queue(exchange("unknown", "fanout"))
        channel.basic_publish(shop, "lost", b"caught")

        assert channel.is_open
        assert drain(rest) == [b"caught"]

    @behaviour("AE-04", "AE-03")
    @lie("mandatory-lost")
    def test_returns_if_the_alternate_is_missing(self, exchange, bound_queue, publish, drain):
        """`mandatory` is what is left to a producer that does not trust its operators."""
        shop = exchange("shop", "direct", alternate="unknown")
        paid = bound_queue(shop, "paid")

        returned = publish(shop, "paid", "lost")

        assert returned == ["lost"]
        assert drain(paid) == [b"paid"]

    @behaviour("AE-07")
    @lie("mandatory-lost")
    def test_takes_an_alternate_from_a_policy(self, broker, vhost, exchange, bound_queue, publish, eventually):
        """An operator can catch strays on a running system, whose exchanges nobody dares to declare anew."""
        shop, unknown = exchange("shop", "direct"), exchange("unknown", "fanout")
        bound_queue(unknown)
        without = publish(shop, "lost")

        broker.management.set_policy(vhost, "strays", "^shop$", {"alternate-exchange": "unknown"})

        assert without == ["lost"]
        eventually(lambda: publish(shop, "lost"), [])

    @behaviour("AE-07")
    @lie("alternate-exchange-lost")
    def test_prefers_the_argument_to_the_policy(self, broker, vhost, exchange, bound_queue, publish, eventually, drain):
        """What the application has declared an operator cannot redirect; the exchange beside it obeys."""
        shop, depot = exchange("shop", "direct", alternate="declared"), exchange("depot", "direct")
        declared, operator = (bound_queue(exchange(name, "fanout")) for name in ("declared", "operator"))

        broker.management.set_policy(vhost, "strays", "^(shop|depot)$", {"alternate-exchange": "operator"})

        eventually(lambda: publish(depot, "obeys"), [])
        publish(shop, "insists")
        assert drain(operator) == [b"obeys"]
        assert drain(declared) == [b"insists"]

    @behaviour("XDECL-04", "CHAN-03")
    @lie("alternate-exchange-lost")
    def test_refuses_a_redeclared_alternate(self, connection, channel, exchange):
        """Two versions of a program that disagree about it are told so, instead of losing messages in turns."""
        exchange("shop", "direct", alternate="unknown")
        exchange("shop", "direct", alternate="unknown")
        other = connection.channel()

        with pytest.raises(exceptions.ChannelClosedByBroker, match="inequivalent arg 'alternate-exchange'") as error:
            other.exchange_declare("shop", "direct", durable=True, arguments={"alternate-exchange": "others"})

        assert (error.value.reply_code, other.is_closed, connection.is_open) == (406, True, True)
        channel.exchange_declare("shop", passive=True)
