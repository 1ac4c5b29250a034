"""Headers exchange: routing by the headers of a message instead of its routing key.

A binding to a headers exchange lists headers and values. Its argument `x-match` says whether a message must carry all
of them (`all`, the default) or at least one (`any`). So a message can be described from several sides, by its shop, its
country and its urgency, where a routing key has only one fixed order of words.

Headers that begin with `x-` are ignored by `all` and `any`. This matters for dead letters: a binding matches
`x-first-death-reason` or `x-death` only with `all-with-x` or `any-with-x`.

Spec: https://www.rabbitmq.com/docs/exchanges#headers
Code: rmqspec/client/topology.py, rmqspec/client/message.py
Reference: HEADERS-01…09, HEADERS-11
"""

import pytest
from pika import BasicProperties

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


class TestHeadersExchange:
    """RabbitMQ: which messages a headers exchange routes to a queue."""

    @behaviour("HEADERS-01")
    @lie("all-as-any")
    def test_routes_under_x_match_all_if_every_listed_header_matches(self, channel, drain):
        """Other headers of the message do not matter, so a publisher may add one without losing a consumer."""
        channel.exchange_declare("parcels", "headers", durable=True)
        channel.queue_declare("express", durable=True)
        channel.queue_bind("express", "parcels", arguments={"x-match": "all", "shop": "Ada", "speed": "high"})

        for body, headers in (
            (b"one is missing", {"shop": "Ada"}),
            (b"one differs", {"shop": "Ada", "speed": "low"}),
            (b"both", {"shop": "Ada", "speed": "high"}),
            (b"both and more", {"shop": "Ada", "speed": "high", "country": "gb"}),
        ):
            channel.basic_publish("parcels", "", body, BasicProperties(headers=headers))

        assert drain("express") == [b"both", b"both and more"]

    @behaviour("HEADERS-01")
    @lie("any-as-all")
    def test_routes_under_x_match_any_if_one_listed_header_matches(self, parcels, drain):
        """An alternative of two conditions is one binding here; with a topic exchange it takes two."""
        queue = parcels.bind({"x-match": "any", "shop": "Ada", "speed": "high"})

        parcels.publish(
            none={"shop": "Bob", "speed": "low"},
            shop={"shop": "Ada"},
            speed={"shop": "Bob", "speed": "high"},
        )

        assert drain(queue) == [b"shop", b"speed"]

    @behaviour("HEADERS-01")
    @lie("all-as-any")
    def test_matches_all_listed_headers_if_x_match_is_missing(self, parcels, drain):
        """If somebody forgets `x-match: any`, messages do not arrive; nothing else shows the mistake."""
        queue = parcels.bind({"shop": "Ada", "speed": "high"})

        parcels.publish(one={"shop": "Ada"}, both={"shop": "Ada", "speed": "high"})

        assert drain(queue) == [b"both"]

    @behaviour("HEADERS-11")
    @lie("key-counts-in-headers")
    def test_ignores_the_routing_key(self, parcels, channel, drain):
        """A publisher that moves from a topic exchange has to put the information of its keys into headers."""
        queue = parcels.bind({"shop": "Ada"})

        for key, shop, body in (("", "Ada", b"no key"), ("Ada", "Bob", b"other shop"), ("Bob", "Ada", b"other key")):
            channel.basic_publish("parcels", key, body, BasicProperties(headers={"shop": shop}))

        assert drain(queue) == [b"no key", b"other key"]

    @behaviour("HEADERS-03")
    @lie("x-headers-count")
    @pytest.mark.parametrize("match", ["all", "any"])
    def test_ignores_x_headers_under_all_and_any(self, parcels, drain, match):
        """A binding that lists `x-death` or the like is accepted, and that header is never compared."""
        queue = parcels.bind({"x-match": match, "x-retry": "yes", "shop": "Ada"})

        parcels.publish(
            only_the_x_header={"x-retry": "yes", "shop": "Bob"},
            only_the_other={"x-retry": "no", "shop": "Ada"},
        )

        assert drain(queue) == [b"only_the_other"]

    @behaviour("HEADERS-04")
    @lie("x-headers-do-not-count")
    def test_matches_x_headers_under_all_with_x_and_any_with_x(self, parcels, drain):
        """Dead letters can be sorted by `x-first-death-reason`, a header that the broker itself has written."""
        listed = {"x-first-death-reason": "expired", "shop": "Ada"}
        all_of_them = parcels.bind({**listed, "x-match": "all-with-x"})
        any_of_them = parcels.bind({**listed, "x-match": "any-with-x"})

        parcels.publish(
            reason={"x-first-death-reason": "expired"},
            shop={"x-first-death-reason": "maxlen", "shop": "Ada"},
            both={"x-first-death-reason": "expired", "shop": "Ada"},
            neither={"x-first-death-reason": "maxlen"},
        )

        assert drain(all_of_them) == [b"both"]
        assert drain(any_of_them) == [b"reason", b"shop", b"both"]
