"""The `x-death` header: a dead letter's history, and the headers beside it.

RabbitMQ writes an entry for each queue and reason into `x-death`, and copies the first death (since 3.13 also the last
one) into headers of their own. Since 4.0 it ignores an `x-death` that a client publishes.

Spec: https://www.rabbitmq.com/docs/dlx#effects
Reference: XDEATH-04…07, XDEATH-09, XDEATH-04…06, XDEATH-03, XDEATH-08, XDEATH-10, XDEATH-14
"""

import pytest
from pika import BasicProperties

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq


class TestXDeathHeader:
    """RabbitMQ: the entries of `x-death`."""

    @behaviour("XDEATH-04")
    @lie("delivered-expiration-wrong", "x-death-expiration-lost")
    def test_records_the_removed_expiration_as_original_expiration(self, channel, dead_lettering_queue, receive):
        """With its expiration the message would expire again among the dead letters, before anybody has read it."""
        channel.basic_publish("", dead_lettering_queue, b"for today", BasicProperties(expiration="1"))

        (dead,) = receive("failed")

        (death,) = dead.headers.get("x-death", [])
        assert dead.properties.expiration is None
        assert death.get("original-expiration") == "1"

    @behaviour("XDEATH-09")
    @rabbitmq(before="4.0")
    @lie("x-death-count-wrong")
    def test_continues_the_count_before_4_0_if_a_client_republishes_x_death(self, rejected):
        """If a client publishes a dead letter again with its headers, the count goes on: a retry limit can use it."""
        dead = rejected()

        again = rejected(headers=dead.headers)

        (death,) = again.headers.get("x-death", [])
        assert death["count"] == 2

    @behaviour("XDEATH-09")
    @rabbitmq(since="4.0")
    @lie("x-death-count-wrong")
    def test_starts_the_count_at_1_since_4_0_if_a_client_republishes_x_death(self, rejected):
        """A retry limit that reads this count never ends since 4.0: count attempts in a header of your own."""
        dead = rejected()

        again = rejected(headers=dead.headers)

        (death,) = again.headers.get("x-death", [])
        assert death["count"] == 1


@pytest.fixture
def died_twice(channel, receive):
    """A message that was rejected in the queue `first` and then expired in the queue `second`."""
    channel.queue_declare("third", durable=True)
    to_third = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "third", "x-message-ttl": 1}
    channel.queue_declare("second", durable=True, arguments=to_third)
    to_second = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "second"}
    channel.queue_declare("first", durable=True, arguments=to_second)
    channel.basic_publish("", "first", b"letter")
    method, _, _ = channel.basic_get("first")
    channel.basic_reject(method.delivery_tag, requeue=False)
    (dead,) = receive("third")
    return dead


class TestFirstDeathHeaders:
    """RabbitMQ: `x-first-death-reason` and `x-first-death-queue`."""

    @behaviour("XDEATH-05")
    @lie("first-death-lost")
    def test_contain_the_reason_and_the_queue_of_the_first_of_two_deaths(self, died_twice):
        """A headers exchange can match them under all-with-x and any-with-x; it cannot match the table in x-death."""
        assert died_twice.headers.get("x-first-death-reason") == "rejected"
        assert died_twice.headers.get("x-first-death-queue") == "first"


class TestLastDeathHeaders:
    """RabbitMQ: `x-last-death-reason` and `x-last-death-queue`."""

    @behaviour("XDEATH-06")
    @rabbitmq(since="4.0")
    @lie("last-death-lost")
    def test_contain_since_4_0_the_reason_and_the_queue_of_the_last_of_two_deaths(self, died_twice):
        """A message that died several times can be sorted by its latest death without a look into x-death."""
        assert died_twice.headers.get("x-last-death-reason") == "expired"
        assert died_twice.headers.get("x-last-death-queue") == "second"

    @behaviour("XDEATH-06")
    @rabbitmq(before="4.0")
    @lie("last-death-invented")
    def test_are_absent_before_4_0(self, rejected):
        """Code that reads `x-last-death-reason` finds nothing on an old broker. The first entry of x-death has it."""
        dead = rejected()

        assert "x-last-death-reason" not in dead.headers
        assert "x-last-death-queue" not in dead.headers
        assert dead.died_of == "rejected"


class TestCcHeaderOfADeadLetter:
    """RabbitMQ: the header `CC` of a message that is dead-lettered with `x-dead-letter-routing-key`."""

    @behaviour("XDEATH-07")
    @rabbitmq(before="3.13")
    @lie("dead-letter-cc-kept")
    def test_is_removed_before_3_13(self, died_with_copies):
        """The dead letter is routed by one key, and its copies are not sent again."""
        assert "CC" not in died_with_copies.headers
        (death,) = died_with_copies.headers["x-death"]
        assert death["routing-keys"] == ["work", "copies"]

    @behaviour("XDEATH-07")
    @rabbitmq(since="3.13")
    @lie("delivered-headers-lost")
    def test_is_kept_since_3_13(self, died_with_copies, drain):
        """Whoever publishes the dead letter again with its headers sends the copies again, too."""
        assert died_with_copies.headers.get("CC") == ["copies"]
        assert drain("copies") == [b"letter"]


@pytest.fixture
def died_with_copies(channel, get_without_ack, receive):
    """A message with the header CC, as it was dead-lettered by a routing key of the queue's own."""
    channel.queue_declare("copies", durable=True)
    channel.queue_declare("dead", durable=True)
    to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    channel.queue_declare("work", durable=True, arguments=to_dead)
    channel.basic_publish("", "work", b"letter", BasicProperties(headers={"CC": ["copies"]}))
    tag, _ = get_without_ack(channel, "work")
    channel.basic_reject(tag, requeue=False)
    (dead,) = receive("dead")
    return dead


class TestXDeathOfACopy:
    """RabbitMQ: the entries of a message that was published with CC or BCC."""

    @behaviour("XDEATH-03", "XDEATH-08")
    @lie("x-death-keys-wrong", "bcc-told")
    def test_have_the_keys_in_cc_and_not_those_in_bcc(self, rejected):
        """Who was to get a hidden copy stays hidden, also in the dead-letter queue."""
        dead = rejected(headers={"CC": ["copy"], "BCC": ["hidden"]})

        (death,) = dead.headers.get("x-death", [])
        assert sorted(death["routing-keys"]) == ["copy", "order"]
        assert "BCC" not in dead.headers
        assert dead.headers["CC"] == ["copy"]


class TestForgedXDeath:
    """RabbitMQ: an `x-death` that a client has made up."""

    @behaviour("XDEATH-10")
    @lie("dead-letter-exchange-lost")
    @pytest.mark.parametrize(
        "forged",
        [
            "no list",
            5,
            # Before 4.0 this one crashes the process of a classic queue, and the message is lost.
            pytest.param(["no table"], marks=rabbitmq(since="4.0")),
            [{"queue": 1, "count": "many"}],
            [{}],
        ],
        ids=["text", "number", "list_of_text", "wrong_types", "empty_entry"],
    )
    def test_does_not_keep_the_message_from_being_dead_lettered(self, rejected, forged):
        """A client cannot stop, or crash, the queue of others by a header."""
        dead = rejected(headers={"x-death": forged})

        assert dead.body == b"an order"
        assert dead.headers.get("x-first-death-reason", "rejected") == "rejected"


class TestDeathInRouting:
    """RabbitMQ: a headers exchange as dead-letter exchange."""

    @behaviour("XDEATH-14")
    @lie("x-headers-do-not-count")
    def test_can_sort_dead_letters_by_their_reason(self, channel, bound_queue, get_without_ack, receive, drain):
        """What was rejected goes to a person, what expired to a report; the queue needs one argument only."""
        channel.exchange_declare("failures", "headers", durable=True)
        for reason in ("rejected", "expired"):
            channel.queue_declare(reason, durable=True)
            arguments = {"x-match": "all-with-x", "x-first-death-reason": reason}
            channel.queue_bind(reason, "failures", "", arguments)
        channel.queue_declare("work", durable=True, arguments={"x-dead-letter-exchange": "failures"})
        channel.basic_publish("", "work", b"an order")
        tag, _ = get_without_ack(channel, "work")

        channel.basic_reject(tag, requeue=False)

        assert [delivery.body for delivery in receive("rejected")] == [b"an order"]
        assert drain("expired") == []
