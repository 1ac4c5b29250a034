"""Publishing a delivery on: parked for a person, put off on the retry ladder, or replayed as new.

What the broker does itself when it dead-letters is the measure; see https://www.rabbitmq.com/docs/dlx#effects.

Code: rmqspec/client/republish.py, rmqspec/client/deaths.py
"""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties

from rmqspec.client import Delivery, Publisher, Settings
from rmqspec.client.deaths import count_in, deaths_in
from rmqspec.client.errors import Unrepublishable
from rmqspec.client.republish import origin, shortened
from rmqspec.client.retry import ATTEMPTS_HEADER, HISTORY_HEADER
from rmqspec.orders import REASON_HEADER, order_system, replay, retry_ladder
from rmqspec.orders.dead_letters import look, park
from rmqspec.tools.broker.endpoint import random_login

TRACE = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tenant": {"id": 7, "tags": ["a"]}}
FRAME = 131_072  # bytes, as this client and the broker agree on


@pytest.fixture
def other_user(broker, vhost):
    """The URL of a user who may do all in this test's vhost, and is not the one who publishes the originals."""
    name, password = random_login()
    broker.management.create_user(name, password)
    broker.management.permit(vhost, name, configure=".*", write=".*", read=".*")
    yield replace(broker.endpoint, user=name, password=password).url(vhost)
    broker.management.delete_user(name)


@pytest.fixture
def publisher(other_user):
    with Publisher(other_user) as publisher:
        yield publisher


@pytest.fixture
def arrived(channel):
    """Publishes something to the order system and takes it from `orders`: `arrived(headers={…}).`"""
    order_system(retry=retry_ladder(60)).declare(channel)
    channel.queue_declare("audit", durable=True)

    def publish(body=b"no order", **properties):
        channel.basic_publish("orders.direct", "order", body, BasicProperties(**properties))
        channel.queue_purge("audit")
        return taken(channel, "orders")

    return publish


def taken(channel, queue):
    method, properties, body = channel.basic_get(queue, auto_ack=True)
    return Delivery(queue, method.exchange, method.routing_key, method.redelivered, properties, body)


@pytest.fixture(params=["park", "retry", "replay"])
def copied(request, channel, publisher, other_user):
    """Moves a delivery on in one of the three ways, and returns the copy."""

    def parked(delivery):
        park(publisher, delivery, "no order")
        return taken(channel, "orders.failed")

    def put_off(delivery):
        retry_ladder(60).climb(publisher, delivery, "failed")
        return taken(channel, "orders.retry.60s")

    def replayed(delivery):
        channel.basic_publish(
            "orders.dlx", "order", delivery.body, BasicProperties(
                headers={**delivery.headers, "x-death": [
                    {"queue": "orders", "reason": "rejected", "count": 1, "exchange": delivery.exchange,
                     "routing-keys": [delivery.routing_key]},
                ]},
                user_id=delivery.properties.user_id,
                expiration=delivery.properties.expiration,
            ),
        )  # fmt: skip
        channel.queue_purge("audit")
        assert replay(other_user) == 1
        return taken(channel, "orders")

    return {"park": parked, "retry": put_off, "replay": replayed}[request.param]


class TestCopy:
    """What `park`, `RetryLadder.climb` and `replay` publish."""

    def test_does_not_expire(self, arrived, copied):
        """The broker would delete it from where it waits for a person; in a waiting queue it would cut the pause."""
        copy = copied(arrived(expiration="60000"))

        assert copy.properties.expiration is None
        assert copy.headers["original-expiration"] == "60000"

    def test_is_routed_by_its_key_alone(self, channel, arrived, copied):
        """A CC header names queues that have had the message: routed by it again, they would have it again."""
        copy = copied(arrived(headers={"CC": ["audit"]}))

        assert "CC" not in copy.headers
        assert copy.headers["original-cc"] == ["audit"]
        assert channel.queue_declare("audit", passive=True).method.message_count == 0

    def test_bears_no_user_id(self, broker, arrived, copied):
        """The broker refuses (406) the name of another user, so a worker with a login of its own could park nothing."""
        copy = copied(arrived(user_id=broker.endpoint.user))

        assert copy.properties.user_id is None
        assert copy.headers["original-user-id"] == broker.endpoint.user

    def test_says_where_the_message_came_from(self, arrived, copied):
        """In a waiting queue the exchange is the default one, and the key the queue's name."""
        copy = copied(arrived())

        assert (copy.headers["original-exchange"], copy.headers["original-routing-key"]) == ("orders.direct", "order")
        assert (origin(copy).exchange, origin(copy).routing_key) == ("orders.direct", "order")

    def test_passes_foreign_headers_and_properties(self, arrived, copied):
        """A trace that ends at the first retry is none, and a field that changes its value is worse than none."""
        sent = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

        copy = copied(arrived(headers={**TRACE, "sent": sent, "weight": -3, "nothing": None, "raw": b"\xff"}))

        foreign = {name: copy.headers[name] for name in (*TRACE, "sent", "weight", "nothing", "raw")}
        assert foreign == {**TRACE, "sent": sent, "weight": -3, "nothing": None, "raw": b"\xff"}

    def test_drops_the_counts_of_the_original(self, arrived, copied):
        """The broker writes them at each delivery: a copy that has been delivered once would look like poison."""
        copy = copied(arrived(headers={"x-delivery-count": 5, "x-acquired-count": 6}))

        assert "x-delivery-count" not in copy.headers
        assert "x-acquired-count" not in copy.headers


class TestOrigin:
    """Where a message came from at first."""

    def test_is_kept_through_all_moves(self, channel, publisher, other_user, arrived):
        """After a retry, a parking and a replay it is still known whose message it is."""
        ladder = retry_ladder(60)
        first = arrived(expiration="60000")

        ladder.climb(publisher, first, "failed")
        second = taken(channel, "orders.retry.60s")
        ladder.climb(publisher, second, "failed again")
        assert replay(other_user) == 1
        third = taken(channel, "orders")

        assert (second.exchange, second.routing_key) == ("", "orders.retry.60s")
        assert [origin(delivery).exchange for delivery in (first, second, third)] == ["orders.direct"] * 3
        assert [origin(delivery).expiration for delivery in (first, second, third)] == ["60000"] * 3

    def test_is_read_from_x_death(self, channel, arrived, receive):
        """Where the broker moved a message itself, our headers are missing and its own are there."""
        channel.basic_publish("orders.direct", "order", b"x", BasicProperties(expiration="60000"))
        channel.basic_reject(channel.basic_get("orders")[0].delivery_tag, requeue=False)
        (letter,) = receive("orders.failed")

        assert (letter.exchange, letter.routing_key) == ("orders.dlx", "order")
        assert (origin(letter).exchange, origin(letter).expiration) == ("orders.direct", "60000")

    @pytest.mark.parametrize(
        "headers",
        [
            {"original-exchange": 5, "original-routing-key": ["x"]},
            {"x-death": "twice"},
            {"x-death": ["once", {"routing-keys": "all"}]},
        ],
        ids=["numbers", "text", "entries"],
    )
    def test_is_the_delivery_s_own_where_headers_are_foreign(self, headers):
        """Anybody may write headers; what cannot be read counts as absent."""
        delivery = Delivery("q", "exchange", "key", False, BasicProperties(headers=headers), b"")

        assert (origin(delivery).exchange, origin(delivery).routing_key) == ("exchange", "key")


class TestFullHeaders:
    """Headers that nearly fill the one frame that they must fit into."""

    @pytest.mark.parametrize("room", [300, 200, 150], ids=lambda room: f"{room}_bytes_left")
    def test_shorten_the_reason(self, channel, publisher, arrived, room):
        """A reason of 500 bytes that does not fit must not end a worker, nor be the end of the reason."""
        delivery = arrived(headers={"trace": "x" * (FRAME - 90 - room)})

        park(publisher, delivery, "r" * 500)

        parked = taken(channel, "orders.failed")
        assert parked.headers["trace"] == delivery.headers["trace"]
        assert parked.headers[REASON_HEADER].startswith("rrrrrrrrr")
        assert len(parked.headers[REASON_HEADER]) < 250

    @pytest.mark.parametrize("move", [park, retry_ladder(60).climb], ids=["park", "retry"])
    def test_leave_the_original_where_they_are_full(self, channel, publisher, arrived, move):
        """The broker can still move it: a reject needs no header of ours."""
        delivery = arrived(headers={"trace": "x" * (FRAME - 60)})

        with pytest.raises(Unrepublishable):
            move(publisher, delivery, "no order")

        assert channel.queue_declare("orders.failed", passive=True).method.message_count == 0

    def test_keep_the_count_of_attempts_before_the_reasons(self, channel, publisher, arrived):
        """Without its count a message would go round for ever; without a reason it only puzzles somebody."""
        delivery = arrived(headers={"trace": "x" * (FRAME - 150)})

        retry_ladder(60).climb(publisher, delivery, "r" * 500)

        waiting = taken(channel, "orders.retry.60s")
        assert (waiting.headers[ATTEMPTS_HEADER], len(waiting.headers[HISTORY_HEADER])) == (1, 0)


class TestLadderAndForeignDeaths:
    """A message on the retry ladder that says it has died before."""

    def test_comes_back(self, channel, publisher, arrived, receive):
        """Up to 3.12 the broker believes a client's `x-death`, takes the way back for a circle, and deletes it."""
        ladder = retry_ladder(0.05)
        ladder.topology().declare(channel)
        death = {"queue": "orders", "reason": "expired", "count": 1, "exchange": "", "routing-keys": ["orders"]}

        ladder.climb(publisher, arrived(headers={"x-death": [death]}), "failed")

        (back,) = receive("orders")
        assert [known.queue for known in deaths_in(back.headers)] == ["orders.retry.0.05s"]


class TestDeaths:
    """`x-death`, as anybody may have written it."""

    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.datetimes(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["queue", "time"]), inner),
    )

    @given(anything)
    def test_are_read_from_whatever_is_there(self, value):
        """One message with a strange header must not end whoever looks at all of them."""
        assert all(isinstance(death.reason, str) for death in deaths_in({"x-death": value}))

    @pytest.mark.parametrize("count", [-1, 0, True, "7", 2.0, None, 2**63 - 1], ids=repr)
    def test_count_from_nothing_where_it_is_no_count(self, count):
        """One more than the greatest number has no place in the protocol."""
        assert count_in({"attempts": count}, "attempts") == 0
        assert count_in({"attempts": 7}, "attempts") == 7


class TestReason:
    """Why a message was parked, in fewer and fewer bytes."""

    @given(st.text())
    def test_is_cut_between_characters(self, reason):
        """Half a character would make a header that nobody can read as text."""
        sizes = [len(short.encode()) for short in shortened(reason)]

        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] <= 15

    def test_says_that_it_was_cut(self):
        """Somebody who reads half a sentence should know that there was more."""
        assert list(shortened("ü" * 400))[-1] == "üüüüüü…"
        assert next(shortened("short")) == "short"


class TestSmallFrames:
    """A connection that agreed on small frames."""

    def test_park_what_came_through_large_ones(self, url, channel, arrived):
        """Which frames its publisher had is nothing that a worker can know."""
        # Since 4.1 a broker refuses less than 8,192.
        delivery = arrived(headers={"trace": "x" * 7_700})

        with Publisher(Settings.of(f"{url}?frame_max=8192")) as publisher:
            park(publisher, delivery, "r" * 500)

        (letter,) = look(url)
        assert letter.reason.startswith("rrrr")
