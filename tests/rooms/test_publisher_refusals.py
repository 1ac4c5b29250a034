"""A message that the broker refuses: it ends with the broker's words, and its neighbours as if it had not been there.

Code: rmqspec/client/publisher.py, rmqspec/client/refused_messages.py
"""

import secrets
import threading
from collections import Counter
from contextlib import contextmanager

import pytest
from pika import BasicProperties

from rmqspec.client import Publisher, persistent
from rmqspec.client.errors import NotSent, OutcomeUnknown, PublishRefused, Returned

from .holding import held

SHAPE = (1, 131_064)

# What a broker refuses, on all versions: exchange, properties, code, and words of its text.
REFUSED = {
    "missing_exchange": ("nowhere", {}, 404, "no exchange 'nowhere'"),
    "internal_exchange": ("internal", {}, 403, "cannot publish to internal exchange 'internal'"),
    "expiration_that_is_no_number": ("", {"expiration": "soon"}, 406, "invalid expiration 'soon'"),
    "negative_expiration": ("", {"expiration": "-1"}, 406, "invalid expiration '-1'"),
    "user_id_of_another_user": ("", {"user_id": "nobody"}, 406, "user_id property set to 'nobody'"),
    "direct_reply_to_nobody": ("", {"reply_to": "amq.rabbitmq.reply-to"}, 406, "fast reply consumer does not exist"),
    "cc_that_is_no_list": ("", {"headers": {"CC": "q"}}, 406, 'unacceptable_type_in_header,"CC"'),
    "bcc_that_is_no_list": ("", {"headers": {"BCC": {"q": 1}}}, 406, 'unacceptable_type_in_header,"BCC"'),
}


@pytest.fixture
def channels(monkeypatch):
    """How often a publisher has been given a channel."""
    opened, on_channel = [], Publisher.on_channel

    def count(self, channel, loop):
        opened.append(channel)
        on_channel(self, channel, loop)

    monkeypatch.setattr(Publisher, "on_channel", count)
    return opened


def publish_together(publisher, messages):
    """Publishes so that all leaves in one write."""
    with held(publisher):
        return [publisher.publish(*message) for message in messages]


@contextmanager
def user_who_writes(broker, vhost, pattern):
    """The URL of a new user who may publish to what matches, and nothing else."""
    at, name, password = broker.endpoint, f"clerk-{secrets.token_hex(4)}", secrets.token_hex(8)
    broker.management.create_user(name, password)
    try:
        broker.management.permit(vhost, name, write=pattern)
        yield f"amqp://{name}:{password}@{at.host}:{at.port}/{vhost}"
    finally:
        broker.management.delete_user(name)


def good(number):
    return "", "q", b"%d" % number, persistent()


class TestRefusedMessage:
    """Our publisher: the broker closes the channel for one message, and names no tag."""

    @pytest.fixture(autouse=True)
    def topology(self, channel):
        channel.queue_declare("q", durable=True)
        channel.exchange_declare("internal", "fanout", internal=True)

    @pytest.mark.parametrize("resend", [False, True], ids=["not_resent", "resent"])
    @pytest.mark.parametrize("cause", REFUSED)
    def test_ends_with_the_code_and_text_of_the_broker(self, url, drain, channels, cause, resend):
        """Told that the outcome is unknown, a caller sends it again; resent by the client, it went on for ever."""
        exchange, properties, code, words = REFUSED[cause]
        bad = exchange, "q", b"bad", BasicProperties(**properties)

        with Publisher(url, resend=resend) as publisher:
            futures = publish_together(publisher, [*map(good, range(20)), bad, *map(good, range(20, 40))])
            assert publisher.flush(10)

        error = futures.pop(20).exception(0)
        assert (type(error), error.reply_code, error.permanent) == (PublishRefused, code, True)
        assert words in error.reply_text
        assert error.message.body == b"bad"
        errors = [future.exception(0) for future in futures]
        came = Counter(drain("q"))
        if resend:
            assert errors == [None] * 40
            assert max(came.values()) <= 2
        else:
            # Those before it the broker may have; those behind it were not looked at, and leave on the next channel.
            assert {type(error) for error in errors[:20]} <= {type(None), OutcomeUnknown}
            assert errors[20:] == [None] * 20
            assert max(came.values()) == 1
        assert set(came) == {b"%d" % number for number in range(40)}
        assert len(channels) == 2

    @pytest.mark.parametrize("resend", [False, True], ids=["not_resent", "resent"])
    def test_ends_alone_among_many_others_like_it(self, url, drain, channels, resend):
        """A bug in a loop makes every tenth message bad; each costs a channel, and none a neighbour twice."""
        messages = [
            ("", "q", b"%d" % number, persistent(expiration="soon" if number % 10 == 5 else None))
            for number in range(100)
        ]

        with Publisher(url, resend=resend) as publisher:
            futures = publish_together(publisher, messages)
            assert publisher.flush(20)

        errors = [future.exception(0) for future in futures]
        assert [type(error) for error in errors[5::10]] == [PublishRefused] * 10
        others = [error for number, error in enumerate(errors) if number % 10 != 5]
        assert others[5:] == [None] * 85
        came = Counter(drain("q"))
        assert (len(came), max(came.values()) <= 2) == (90, True)
        assert len(channels) == 11

    def test_is_found_where_the_text_names_nothing(self, url, drain, channels, monkeypatch):
        """A broker of another version says it otherwise: then each is sent alone, and the one at fault shows itself."""
        monkeypatch.setattr("rmqspec.client.refused_messages.suspects", lambda *_: [])
        bad = "", "q", b"bad", persistent(expiration="soon")

        with Publisher(url, resend=True) as publisher:
            futures = publish_together(publisher, [*map(good, range(20)), bad, *map(good, range(20, 40))])
            assert publisher.flush(10)

        error = futures.pop(20).exception(0)
        assert (type(error), error.reply_code) == (PublishRefused, 406)
        assert [future.exception(0) for future in futures] == [None] * 40
        assert max(Counter(drain("q")).values()) <= 2
        assert len(channels) == 3

    def test_is_not_guessed_where_nothing_may_be_sent_again(self, url, drain, monkeypatch):
        """Any of them may be at fault. Each is told the broker's code, and that it may not be meant."""
        monkeypatch.setattr("rmqspec.client.refused_messages.suspects", lambda *_: [])

        with Publisher(url) as publisher:
            futures = publish_together(publisher, [good(1), ("", "q", b"bad", persistent(expiration="soon")), good(2)])
            assert publisher.flush(10)
            assert publisher.publish(*good(3)).exception(10) is None

        errors = [future.exception(0) for future in futures if future.exception(0)]
        assert {(type(error), error.reply_code, error.permanent) for error in errors} == {(OutcomeUnknown, 406, False)}
        assert Counter(drain("q")).keys() >= {b"1", b"3"}

    def test_may_be_any_if_its_exchange_was_there_before(self, url, channel, drain):
        """An exchange that is deleted has taken some messages, and no text says which was the first that it did not."""
        channel.exchange_declare("passing", "fanout")
        channel.queue_bind("q", "passing")

        with Publisher(url) as publisher:
            publisher.publish("passing", "", b"taken").result(10)
            channel.exchange_delete("passing")
            futures = publish_together(publisher, [("passing", "", b"1"), good(2), ("passing", "", b"3"), good(4)])
            assert publisher.flush(10)
            # On the next channel nothing has been confirmed by it: there the first is the one.
            afterwards = publish_together(publisher, [("passing", "", b"5"), good(6)])
            assert publisher.flush(10)

        errors = [future.exception(0) for future in futures]
        assert [type(error) for error in (errors[0], errors[2])] == [OutcomeUnknown] * 2
        assert {error.reply_code for error in (errors[0], errors[2])} == {404}
        assert errors[3] is None
        assert [type(future.exception(0)) for future in afterwards] == [PublishRefused, type(None)]
        assert {b"4", b"6"} <= set(drain("q"))

    @pytest.mark.parametrize("resend", [False, True], ids=["not_resent", "resent"])
    def test_leaves_what_was_returned_before_it_returned(self, url, monkeypatch, resend):
        """Its return has come, and only the ack that follows is lost: what became of it is known."""
        answer = Publisher._on_answer
        monkeypatch.setattr(Publisher, "_on_answer", lambda *_: None)
        with Publisher(url, resend=resend) as publisher:
            unroutable = publisher.publish("", "nobody", b"x")
            monkeypatch.setattr(Publisher, "_on_answer", answer)
            bad = publisher.publish("", "q", b"bad", persistent(expiration="soon"))
            assert publisher.flush(10)

        assert isinstance(bad.exception(0), PublishRefused)
        assert isinstance(unroutable.exception(0), Returned)

    def test_holds_up_nobody_however_many_there_are(self, url):
        """A channel that brought nothing is opened again after a pause, and these grow; here each brings an end."""
        bad = "", "q", b"bad", persistent(expiration="soon")

        with Publisher(url) as publisher:
            futures = publish_together(publisher, [bad] * 15)
            assert publisher.flush(10)

        assert {type(future.exception(0)) for future in futures} == {PublishRefused}

    def test_lets_what_the_broker_has_thrown_away_end_as_not_sent(self, url, monkeypatch):
        """What was written behind the refused one is nowhere. If it cannot be sent again in time, that is certain."""
        on_channel, opened, release = Publisher.on_channel, [], threading.Event()

        def hold_the_second(self, channel, loop):
            opened.append(channel)
            if len(opened) == 2:
                release.wait(10)
            on_channel(self, channel, loop)

        monkeypatch.setattr(Publisher, "on_channel", hold_the_second)
        with Publisher(url) as publisher:
            with held(publisher):
                publisher.publish("nowhere", "q", b"bad")
                behind = publisher.publish(*good(1), timeout=0.5)
            error = behind.exception(10)
            release.set()

        assert (type(error), len(opened)) == (NotSent, 2)

    def test_is_followed_by_what_was_published_behind_it(self, url, monkeypatch, drain):
        """What waits already, when the others are to be sent again, must not overtake them."""
        on_lost = Publisher.on_lost

        def publish_one_more(self, reason, *, final):
            self.publish(*good(3))
            on_lost(self, reason, final=final)

        monkeypatch.setattr(Publisher, "on_lost", publish_one_more)
        with Publisher(url) as publisher:
            publish_together(publisher, [("nowhere", "q", b"bad"), good(1), good(2)])
            assert publisher.flush(10)

        assert drain("q") == [b"1", b"2", b"3"]

    def test_keeps_the_order_of_the_others(self, url, drain):
        """What is published while the refused one is looked for must not overtake what was there before."""
        with Publisher(url, resend=False) as publisher:
            bad = "nowhere", "q", b"bad", persistent()
            publish_together(publisher, [bad, *map(good, range(50))])
            for number in range(50, 100):
                publisher.publish(*good(number))
            assert publisher.flush(10)

        assert drain("q") == [b"%d" % number for number in range(100)]

    @pytest.mark.rabbitmq(since="4.3")
    def test_ends_where_the_broker_closes_the_connection(self, url, drain):
        """4.3 fails at shortening a text with umlauts, and closes the whole connection with 541 for it.

        The text says nothing, so the messages are sent one at a time, and the one that is alone each time is the one.
        """
        bad = "", "q", b"bad", persistent(expiration="ü" * 120)

        with Publisher(url, resend=True) as publisher:
            futures = publish_together(publisher, [*map(good, range(5)), bad, *map(good, range(5, 10))])
            assert publisher.flush(20)

        error = futures.pop(5).exception(0)
        assert (type(error), error.reply_code) == (PublishRefused, 541)
        assert [future.exception(0) for future in futures] == [None] * 10
        assert set(drain("q")) == {b"%d" % number for number in range(10)}

    def test_is_logged_once(self, url, caplog):
        """An operator finds in the log which message it was, and what was sent again because of it."""
        with Publisher(url, "shop", resend=True) as publisher:
            publish_together(publisher, [good(1), ("nowhere", "q", b"bad")])
            assert publisher.flush(10)

        lines = [record.getMessage() for record in caplog.records if record.name == "rmqspec.client"]
        assert len([line for line in lines if line.startswith("shop: the broker refused it (NOT_FOUND")]) == 1
        assert "shop: after a refusal 1 messages are sent one at a time" in lines


class TestTooLarge:
    """A body above `max_message_size`: 16 MiB since 4.0."""

    @pytest.mark.rabbitmq(since="4.0")
    @pytest.mark.parametrize("resend", [False, True], ids=["not_resent", "resent"])
    def test_ends_alone(self, url, channel, resend):
        """Sent again and again, 20 MB each time, it filled the network and ended nobody's wait."""
        channel.queue_declare("q", durable=True)

        with Publisher(url, resend=resend) as publisher:
            futures = publish_together(publisher, [good(1), ("", "q", bytes(17 * 1024 * 1024), persistent()), good(2)])
            assert publisher.flush(30)

        _, large, behind = [future.exception(0) for future in futures]
        assert (type(large), large.reply_code, large.permanent) == (PublishRefused, 406, True)
        assert behind is None


class TestPermissions:
    """A user who may publish to one exchange and not to another."""

    def test_end_the_message_that_lacks_them(self, url, broker, vhost, channel, drain):
        """403 is not worth another attempt, and it is no reason to doubt the neighbours."""
        channel.queue_declare("q", durable=True)
        channel.queue_bind("q", "amq.fanout")
        with user_who_writes(broker, vhost, "^amq\\.fanout$") as clerk, Publisher(clerk) as publisher:
            bad = publisher.publish("amq.direct", "q", b"bad")
            taken = publisher.publish("amq.fanout", "", b"good")
            assert taken.exception(10) is None

        error = bad.exception(0)
        assert (type(error), error.reply_code, error.permanent) == (PublishRefused, 403, True)
        assert drain("q") == [b"good"]
