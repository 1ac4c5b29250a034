"""Exchange-to-exchange bindings and copies: routing in stages.

An exchange may be bound to another as a queue is: what the first one passes on, the second one routes again. A company
builds a tree in this way, where each team binds what it wants from the exchange above, and no producer learns of it. A
producer that does know whom it writes to may name more keys in the headers CC and BCC, as in a letter. However many
ways lead to a queue, it gets one copy. Our worker publishes to two exchanges; bound to each other, one would do.

Spec: https://www.rabbitmq.com/docs/e2e
Code: rmqspec/orders/topology.py, rmqspec/client/topology.py
"""

import pytest
from pika import BasicProperties, exceptions

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def exchange(channel):
    """Declares an exchange and binds it to another: `exchange("team", "topic", source="all", keys=["order.#"])`."""

    def declare(name, kind="direct", source=None, keys=()):
        channel.exchange_declare(name, kind, durable=True)
        for key in keys:
            channel.exchange_bind(name, source, key)
        return name

    return declare


@pytest.fixture
def publish(channel):
    """Publishes a message, mandatory, with copies; returns whether it was routed: `publish("post", "a", CC=["b"])`."""

    def one(name, key="", body=b"letter", **headers):
        try:
            channel.basic_publish(name, key, body, BasicProperties(headers=headers), mandatory=True)
        except exceptions.UnroutableError:
            return False
        return True

    return one


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("E2E-01")
    @lie("delivered-exchange-lost")
    def test_routes_through_two_exchanges(self, exchange, bound_queue, publish, receive):
        """Producers know the first alone, and it is what a receiver sees: the tree behind it may be rebuilt."""
        company, team = exchange("company", "topic"), exchange("team", "fanout", "company", ["order.#"])
        all_orders = bound_queue(exchange("clerk", "fanout", team, [""]))

        routed = [publish(company, "payment.new"), publish(company, "order.new")]

        (delivery,) = receive(all_orders)
        assert (routed, delivery.exchange, delivery.routing_key) == ([False, True], "company", "order.new")

    @behaviour("E2E-04")
    @lie("exchange-binding-key-lost")
    def test_keeps_the_key_at_every_hop(self, exchange, bound_queue, publish, drain):
        """The key of a binding between exchanges is a filter, and not a new name for what passes."""
        company, team = exchange("company", "topic"), exchange("team", "direct", "company", ["order.#"])
        by_key, by_pattern = bound_queue(team, "order.new"), bound_queue(team, "order.#")

        publish(company, "order.new")

        assert (drain(by_key), drain(by_pattern)) == ([b"letter"], [])

    @behaviour("E2E-02")
    @lie("topic-as-direct")
    def test_delivers_once_by_many_paths(self, channel, exchange, bound_queue, publish, drain):
        """Teams bind whatever they like, and no customer is written to twice because two of them agree."""
        company = exchange("company", "topic")
        queue = bound_queue(exchange("sales", "fanout", company, ["order.#", "*.new"]))
        channel.queue_bind(queue, exchange("depot", "fanout", company, ["#"]))
        channel.queue_bind(queue, company, "#")

        publish(company, "order.new", b"by four paths")
        publish(company, "order.old", b"by three")

        assert drain(queue) == [b"by four paths", b"by three"]

    @behaviour("E2E-03")
    @lie("exchange-binding-lost")
    def test_ends_a_circle_of_exchanges(self, channel, exchange, bound_queue, publish, drain):
        """Two teams that bind each other's exchange do not set a message going round for ever."""
        sales = exchange("sales", "fanout")
        depot = exchange("depot", "fanout", sales, [""])
        channel.exchange_bind(sales, depot)
        channel.exchange_bind(sales, sales)
        seller, packer = bound_queue(sales), bound_queue(depot)

        publish(sales, body=b"sold")
        publish(depot, body=b"packed")

        assert drain(seller) == drain(packer) == [b"sold", b"packed"]

    @behaviour("E2E-05", "BIND-01", "BIND-02")
    @lie("exchange-binding-key-lost")
    def test_counts_an_equal_bind_once(self, channel, exchange, bound_queue, publish, drain):
        """Every instance of a program binds when it starts; the first that unbinds does so for all of them."""
        company, team = exchange("company"), exchange("team", "fanout", "company", ["order", "order"])
        queue = bound_queue(team)

        bound = publish(company, "order")
        for _ in range(2):
            channel.exchange_unbind(team, company, "order")

        assert (bound, drain(queue), publish(company, "order")) == (True, [b"letter"], False)

    @behaviour("E2E-07", "CHAN-03")
    @lie("exchange-deleted-in-use")
    def test_deletes_a_used_destination(self, connection, channel, exchange, bound_queue, publish):
        """`if_unused` spares what others read from; an exchange that only receives is gone, and its binding with it."""
        company, team = exchange("company", "fanout"), exchange("team", "fanout", "company", [""])
        careful = connection.channel()

        with pytest.raises(exceptions.ChannelClosedByBroker, match=r"exchange 'company' .*in use") as error:
            careful.exchange_delete(company, if_unused=True)
        channel.exchange_delete(team, if_unused=True)
        bound_queue(exchange("team", "fanout"))

        assert (error.value.reply_code, careful.is_closed, connection.is_open) == (406, True, True)
        assert (publish(team), publish(company)) == (True, False)


class TestCopies:
    """What the broker promises of the headers CC and BCC."""

    @pytest.fixture
    def letters(self, exchange, bound_queue, drain):
        """Three queues behind `post`, one for each key; `letters()` is what each of them got."""
        queues = {key: bound_queue(exchange("post"), key) for key in ("ann", "bob", "cat")}
        return lambda: {key: bodies for key, queue in queues.items() if (bodies := drain(queue))}

    @behaviour("CCBCC-01")
    @lie("cc-lost")
    def test_copies_to_each_key_in_cc(self, letters, publish):
        """The producer picks the receivers, message by message; headers are case-sensitive, and `cc` is none."""
        publish("post", "ann", b"to three", CC=["bob", "cat"])
        publish("post", "ann", b"to one", cc=["bob", "cat"])

        assert letters() == {"ann": [b"to three", b"to one"], "bob": [b"to three"], "cat": [b"to three"]}

    @behaviour("CCBCC-02")
    @lie("bcc-told")
    def test_hides_bcc_from_all_receivers(self, exchange, bound_queue, publish, receive):
        """Even the hidden receiver does not see that it is one: its copy carries the key of the open one."""
        open_one, hidden = bound_queue(exchange("post"), "ann"), bound_queue("post", "bob")

        publish("post", "ann", CC=["cat"], BCC=["bob"], note="n")

        seen, copies = ("ann", {"CC": ["cat"], "note": "n"}), receive(open_one) + receive(hidden)
        assert [(copy.routing_key, copy.properties.headers) for copy in copies] == [seen, seen]

    @behaviour("CCBCC-03")
    @lie("direct-as-fanout")
    def test_copies_once_for_repeated_keys(self, letters, publish):
        """Lists that are put together from several sources need not be cleaned of doubles."""
        publish("post", "ann", CC=["ann", "bob", "bob"], BCC=["bob", "ann"])

        assert letters() == {"ann": [b"letter"], "bob": [b"letter"]}

    @behaviour("CCBCC-04", "CCBCC-08")
    @lie("binding-doubled")
    def test_returns_if_no_copy_is_routed(self, letters, publish):
        """`mandatory` is content with a single one: that the others went nowhere, the producer is not told."""
        routed = [publish("post", "ann", CC=["nobody", ""]), publish("post", "nobody", BCC=["bob"])]
        returned = publish("post", "nobody", CC=["nobody else"])

        assert (routed, returned) == ([True, True], False)
        assert letters() == {"ann": [b"letter"], "bob": [b"letter"]}

    @behaviour("CCBCC-05", "CHAN-03")
    @pytest.mark.parametrize("header", ["CC", "BCC"])
    @pytest.mark.parametrize("value", ["bob", None, 7], ids=["text", "nothing", "number"])
    @lie("direct-as-fanout")
    def test_refuses_copies_not_in_a_list(self, connection, letters, publish, header, value):
        """One receiver still makes a list; the message goes to nobody, not even to its main key."""
        careless = connection.channel()
        careless.confirm_delivery()

        with pytest.raises(exceptions.ChannelClosedByBroker, match="unacceptable_type_in_header") as error:
            careless.basic_publish("post", "ann", b"lost", BasicProperties(headers={header: value}))

        assert (error.value.reply_code, careless.is_closed, connection.is_open) == (406, True, True)
        assert (publish("post", "ann"), letters()) == (True, {"ann": [b"letter"]})

    @behaviour("CCBCC-06")
    @pytest.mark.parametrize("value", [7, None, b"bob", {"key": "bob"}], ids=["number", "nothing", "bytes", "table"])
    @lie("cc-lost")
    def test_skips_what_is_no_text_in_cc(self, letters, publish, value):
        """A list of bytes looks right in Python, and copies to nobody without a word."""
        publish("post", "ann", CC=[value, "cat"])

        assert letters() == {"ann": [b"letter"], "cat": [b"letter"]}

    @behaviour("CCBCC-07")
    @lie("exchange-binding-key-lost")
    def test_routes_copies_at_every_hop(self, exchange, letters, publish):
        """The hidden keys too travel along until the last exchange: what is stripped, is stripped at the queue."""
        exchange("post", "direct", exchange("company"), ["bob"])

        publish("company", "main", CC=["bob"], BCC=["cat"])

        assert letters() == {"bob": [b"letter"], "cat": [b"letter"]}

    @pytest.fixture
    def secret(self, broker, vhost, channel, bound_queue):
        """The queue for `secret.` of an exchange where this user may write to `public.` alone."""
        channel.exchange_declare("topics", "topic", durable=True)
        broker.management.permit_topics(vhost, broker.endpoint.user, "topics", write="^public[.]", read=".*")
        return bound_queue("topics", "secret.#")

    @behaviour("CCBCC-09", "TOPICPERM-05")
    @pytest.mark.rabbitmq(before="4.0")
    @pytest.mark.parametrize("header", ["CC", "BCC"])
    @lie("topic-as-direct")
    def test_guards_no_topic_from_copies(self, secret, publish, drain, header):
        """Whoever may publish anything may publish everything: a topic permission is no wall before 4.0."""
        publish("topics", "public.news", **{header: ["secret.plan"]})

        assert drain(secret) == [b"letter"]

    @behaviour("CCBCC-09", "TOPICPERM-05", "CHAN-03")
    @pytest.mark.rabbitmq(since="4.0")
    @pytest.mark.parametrize("header", ["CC", "BCC"])
    @lie("topic-as-fanout")
    def test_guards_topics_from_copies(self, connection, secret, publish, drain, header):
        """A producer that got round its permission by a copy loses its channel after the upgrade."""
        sly = connection.channel()
        sly.confirm_delivery()

        with pytest.raises(exceptions.ChannelClosedByBroker, match=r"topic 'secret\.plan'.* refused") as error:
            sly.basic_publish("topics", "public.news", b"lost", BasicProperties(headers={header: ["secret.plan"]}))

        assert (error.value.reply_code, sly.is_closed, connection.is_open) == (403, True, True)
        publish("topics", "public.news", **{header: ["public.too"]})
        assert drain(secret) == []


class TestRestart:
    """What is left of them after the broker was down."""

    @pytest.fixture
    def url(self, disposable_url):
        return disposable_url

    @pytest.fixture
    def queue(self, disposable_broker, connection, exchange, bound_queue):
        queue = bound_queue(exchange("team", "fanout", exchange("company"), ["order"]))
        connection.close()
        disposable_broker.restart()
        return queue

    @behaviour("E2E-06")
    @pytest.mark.timeout(180)
    @lie("exchange-binding-key-lost")
    def test_keeps_bindings_of_exchanges(self, queue, connect):
        """A tree of durable exchanges is whole again, even if none of the teams has come back to declare its own."""
        channel = connect().channel()
        channel.basic_publish("company", "order", b"after the restart")

        assert channel.basic_get(queue, auto_ack=True)[2] == b"after the restart"
