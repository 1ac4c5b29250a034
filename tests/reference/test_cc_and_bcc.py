"""CC and BCC: repeated, unroutable and invalid keys, and topic permissions.

Spec: https://www.rabbitmq.com/docs/sender-selected
Reference: CCBCC-03…09, TOPICPERM-05
"""

import pytest
from pika import BasicProperties, exceptions

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq


@pytest.fixture
def post(channel):
    """A direct exchange with a queue for each of three keys."""
    channel.exchange_declare("post", "direct", durable=True)
    for name in ("ann", "bob", "cat"):
        channel.queue_declare(name, durable=True)
        channel.queue_bind(name, "post", name)
    return "post"


@pytest.fixture
def received(drain):
    """The bodies in each of the three queues, without the empty ones: `received()`."""
    return lambda: {name: bodies for name in ("ann", "bob", "cat") if (bodies := drain(name))}


class TestCcAndBcc:
    """RabbitMQ: the headers `CC` and `BCC`, lists of further routing keys."""

    @behaviour("CCBCC-03")
    @lie("published-twice")
    def test_route_one_copy_to_a_queue_for_repeated_keys(self, channel, post, received):
        """Lists that are put together from several sources need not be cleaned of duplicates."""
        headers = {"CC": ["ann", "bob", "bob"], "BCC": ["bob", "ann"]}

        channel.basic_publish(post, "ann", b"letter", BasicProperties(headers=headers))

        assert received() == {"ann": [b"letter"], "bob": [b"letter"]}

    @behaviour("CCBCC-04", "CCBCC-08")
    @lie("mandatory-lost")
    def test_make_mandatory_return_only_a_message_that_no_key_routes(self, channel, post, received):
        """One routed key is enough: that the others found no queue is not reported to the publisher."""
        channel.basic_publish(post, "ann", b"by key", BasicProperties(headers={"CC": ["nobody", ""]}), mandatory=True)
        channel.basic_publish(post, "nobody", b"by BCC", BasicProperties(headers={"BCC": ["bob"]}), mandatory=True)
        with pytest.raises(exceptions.UnroutableError):
            channel.basic_publish(
                post, "nobody", b"returned", BasicProperties(headers={"CC": ["nobody else"]}), mandatory=True
            )

        assert received() == {"ann": [b"by key"], "bob": [b"by BCC"]}

    @behaviour("CCBCC-05", "CHAN-03")
    @lie("cc-lost", cases="CC")
    @lie("bcc-lost", cases="BCC")
    @pytest.mark.parametrize("header", ["CC", "BCC"])
    @pytest.mark.parametrize("value", ["bob", None, 7], ids=["text", "void", "number"])
    def test_that_are_not_lists_close_the_channel_with_406(self, refusal, post, received, header, value):
        """One receiver still needs a list. The message goes to nobody, not even by its routing key."""

        def publish(careless):
            careless.confirm_delivery()
            careless.basic_publish(post, "ann", b"lost", BasicProperties(headers={header: value}))

        said = refusal(publish)

        assert said.code == 406
        assert said.closed == "channel"
        assert "unacceptable_type_in_header" in said.text
        assert received() == {}

    @behaviour("CCBCC-06")
    @lie("cc-lost")
    @pytest.mark.parametrize("value", [7, None, b"bob", {"key": "bob"}], ids=["number", "void", "bytes", "table"])
    def test_ignore_list_entries_that_are_not_text(self, channel, post, received, value):
        """A list of bytes looks right in Python, and routes no copy; nothing reports it."""
        channel.basic_publish(post, "ann", b"letter", BasicProperties(headers={"CC": [value, "cat"]}))

        assert received() == {"ann": [b"letter"], "cat": [b"letter"]}

    @behaviour("CCBCC-07")
    @lie("bcc-lost")
    def test_are_used_by_the_first_exchange_and_by_exchanges_bound_to_it(self, channel, post, received):
        """`BCC` too reaches the last exchange: it is removed when the message enters a queue."""
        channel.exchange_declare("company", "direct", durable=True)
        channel.exchange_bind(post, "company", "bob")
        headers = {"CC": ["bob"], "BCC": ["cat"]}

        channel.basic_publish("company", "main", b"letter", BasicProperties(headers=headers))

        assert received() == {"bob": [b"letter"], "cat": [b"letter"]}


class TestTopicPermission:
    """RabbitMQ: a user who may write only to `public.` keys of a topic exchange."""

    @pytest.fixture
    def secret(self, broker, vhost, channel, bound_queue):
        """A queue for the keys to which the user may not write."""
        channel.exchange_declare("topics", "topic", durable=True)
        broker.management.permit_topics(vhost, broker.endpoint.user, "topics", write="^public[.]", read=".*")
        return bound_queue("topics", "secret.#")

    @behaviour("CCBCC-09", "TOPICPERM-05")
    @rabbitmq(before="4.0")
    @lie("cc-lost", cases="CC")
    @lie("bcc-lost", cases="BCC")
    @pytest.mark.parametrize("header", ["CC", "BCC"])
    def test_does_not_apply_to_the_keys_in_cc_and_bcc_before_4_0(self, secret, channel, drain, header):
        """A user with one allowed routing key can write to every key: before 4.0 the permission protects nothing."""
        headers = {header: ["secret.plan"]}

        channel.basic_publish("topics", "public.news", b"letter", BasicProperties(headers=headers))

        assert drain(secret) == [b"letter"]

    @behaviour("CCBCC-09", "TOPICPERM-05", "CHAN-03")
    @rabbitmq(since="4.0")
    @lie("cc-lost", cases="CC")
    @lie("bcc-lost", cases="BCC")
    @pytest.mark.parametrize("header", ["CC", "BCC"])
    def test_applies_to_the_keys_in_cc_and_bcc_since_4_0(self, secret, refusal, drain, header):
        """A publisher that relied on the missing check loses its channel after the upgrade."""

        def publish(careless, key):
            careless.confirm_delivery()
            careless.basic_publish("topics", "public.news", b"letter", BasicProperties(headers={header: [key]}))

        forbidden = refusal(lambda channel: publish(channel, "secret.plan"))
        allowed = refusal(lambda channel: publish(channel, "public.too"))

        assert forbidden.code == 403
        assert forbidden.closed == "channel"
        assert "topic 'secret.plan'" in forbidden.text
        assert allowed.closed == "nothing"
        assert drain(secret) == []
