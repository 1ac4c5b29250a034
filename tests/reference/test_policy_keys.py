"""Policy keys: which of them a release accepts, and for which queue types.

A policy is refused as a whole if one of its keys is not known. If all are known, it is applied to the queues whose type
supports all of its keys; it is not applied to the others, and nobody is told.

Spec: https://www.rabbitmq.com/docs/policies
Reference: POLICY-04, POLICY-05, POLICY-07, POLICY-08, POLICY-13, POLICY-15, POLICY-16, QQ-10
"""

import pytest

from rmqspec.tools.broker import ManagementError

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

MIRRORS = {"ha-mode": "all"}
PLACES = {"queue-master-locator": "min-masters"}
LIMITS = [
    ("delivery-limit", 3),
    ("expires", 600_000),
    ("max-in-memory-bytes", 1000),
    ("max-in-memory-length", 10),
    ("max-length", 10),
    ("max-length-bytes", 1_000_000),
    ("message-ttl", 60_000),
]
OTHERS = [
    ("alternate-exchange", "amq.fanout"),
    ("dead-letter-exchange", "amq.fanout"),
    ("dead-letter-routing-key", "failed"),
    ("dead-letter-strategy", "at-most-once"),
    ("max-age", "1h"),
    ("queue-leader-locator", "balanced"),
    ("queue-mode", "lazy"),
    ("stream-max-segment-size-bytes", 1_000_000),
]


@pytest.fixture
def policy(broker, vhost):
    """Sets a policy, or an operator policy, for a queue; returns the status code and the text of the answer."""

    def put(definition, queue="work", **options):
        try:
            broker.management.set_policy(vhost, queue, f"^{queue}$", definition, **options)
        except ManagementError as error:
            return error.status, str(error)
        return 0, ""

    return put


@pytest.fixture
def fill(channel):
    """Declares a queue and publishes three messages, 1 to 3: `fill("work", "quorum")`."""

    def publish(queue="work", queue_type="classic"):
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": queue_type})
        for body in (b"1", b"2", b"3"):
            channel.basic_publish("", queue, body)

    return publish


class TestPolicy:
    """RabbitMQ: keys of a policy for classic queues that a release no longer knows."""

    @lie(None, because="a policy is set over HTTP, and lies are told on AMQP connections")
    @pytest.mark.parametrize(
        ("definition", "reason"),
        [
            pytest.param(
                MIRRORS, "not recognised policy settings", id="ha_mode",
                marks=[behaviour("POLICY-07"), rabbitmq(since="4.0")],
            ),
            pytest.param(
                PLACES, "queue-master-locator argument is not permitted", id="queue_master_locator",
                marks=[behaviour("POLICY-08"), rabbitmq(since="4.3")],
            ),
        ],
    )  # fmt: skip
    def test_is_refused_with_400_since_4_0_for_ha_mode_and_since_4_3_for_queue_master_locator(
        self, policy, definition, reason
    ):
        """An import of the old definitions fails, and no classic queue is mirrored any more."""
        status, text = policy(definition)

        assert status == 400
        assert reason in text
        assert policy({"max-length": 10}) == (0, "")

    @lie("second-message-lost")
    @pytest.mark.parametrize(
        "definition",
        [
            pytest.param(MIRRORS, id="ha_mode", marks=[behaviour("POLICY-07"), rabbitmq(before="4.0")]),
            pytest.param(PLACES, id="queue_master_locator", marks=[behaviour("POLICY-08"), rabbitmq(before="4.3")]),
        ],
    )
    def test_is_accepted_before_4_0_for_ha_mode_and_before_4_3_for_queue_master_locator(
        self, policy, fill, drain, definition
    ):
        """Move mirrored queues to quorum queues before the upgrade; a policy does not come along."""
        assert policy(definition) == (0, "")

        fill()

        assert drain("work") == [b"1", b"2", b"3"]


class TestApplyTo:
    """RabbitMQ: a policy that is for one queue type, by `apply-to`."""

    @behaviour("POLICY-05")
    @rabbitmq(before="3.12")
    @lie(None, because="a policy is set over HTTP, and lies are told on AMQP connections")
    @pytest.mark.parametrize("apply_to", ["classic_queues", "quorum_queues", "streams"])
    def test_classic_queues_quorum_queues_or_streams_is_refused_with_400_before_3_12(self, policy, apply_to):
        """Definitions of a newer broker cannot be imported."""
        status, text = policy({"max-length-bytes": 1000}, apply_to=apply_to)

        assert status == 400
        assert f"apply-to '{apply_to}' unrecognised" in text

    @behaviour("POLICY-05")
    @rabbitmq(since="3.12")
    @lie("queue-type-lost")
    def test_classic_queues_leaves_queues_of_other_types_alone_since_3_12(
        self, policy, fill, drain, message_count, eventually
    ):
        """A key that two queue types know can be set for one of them, whatever the queues are called."""
        assert policy({"max-length": 1}, queue=".*", apply_to="classic_queues") == (0, "")

        fill("short", "classic")
        fill("long", "quorum")

        eventually(lambda: message_count("long"), 3)
        assert drain("short") == [b"3"]

    @behaviour("POLICY-15")
    @lie("second-message-lost")
    def test_exchanges_accepts_keys_for_queues_which_no_queue_obeys(self, policy, channel, bound_queue, fill, drain):
        """Of all that a policy can say an exchange knows its alternate exchange; a length limit here limits nothing."""
        fallback = bound_queue("amq.fanout")
        assert policy({"alternate-exchange": "amq.fanout", "max-length": 1}, apply_to="exchanges") == (0, "")
        channel.exchange_declare("work", "direct", durable=True)

        channel.basic_publish("work", "nobody", b"unroutable")
        fill()

        assert drain(fallback) == [b"unroutable"]
        assert drain("work") == [b"1", b"2", b"3"]


class TestOperatorPolicyKey:
    """RabbitMQ: a key of an operator policy, which may limit queues and not rebuild them."""

    @behaviour("POLICY-13")
    @lie(None, because="a policy is set over HTTP, and lies are told on AMQP connections")
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *LIMITS,
            pytest.param("overflow", "drop-head", marks=rabbitmq(since="4.0")),
            pytest.param("queue-version", 2, marks=rabbitmq(since="4.0")),
            pytest.param("target-group-size", 1, marks=rabbitmq(since="4.0")),
            pytest.param("delayed-retry-min", 1000, marks=rabbitmq(since="4.3")),
            pytest.param("delayed-retry-max", 1000, marks=rabbitmq(since="4.3")),
        ],
    )
    def test_is_accepted_if_it_limits_a_queue(self, policy, key, value):
        """An operator protects a broker from programs that set no limits, without asking their authors."""
        assert policy({key: value}, operator=True) == (0, "")

    @behaviour("POLICY-13")
    @lie(None, because="a policy is set over HTTP, and lies are told on AMQP connections")
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *OTHERS,
            pytest.param("overflow", "drop-head", marks=rabbitmq(before="3.12")),
            pytest.param("queue-version", 2, marks=rabbitmq(before="3.12")),
        ],
    )
    def test_is_refused_with_400_if_it_routes_or_places_messages(self, policy, key, value):
        """Such a key belongs to a user policy; the same definition is accepted there."""
        status, text = policy({key: value}, operator=True)

        assert status == 400
        assert "not recognised policy settings" in text


class TestOperatorPolicy:
    """RabbitMQ: the key `overflow` of an operator policy."""

    @behaviour("POLICY-04")
    @rabbitmq(before="3.12")
    @lie(None, because="a policy is set over HTTP, and lies are told on AMQP connections")
    def test_with_overflow_is_refused_with_400_before_4_0(self, policy):
        """An operator can limit the length of a queue, and not say what happens at the limit."""
        status, text = policy({"overflow": "reject-publish"}, operator=True)

        assert status == 400
        assert "not recognised policy settings" in text

    @behaviour("POLICY-04")
    @rabbitmq(since="4.0")
    @lie("nack-confirmed")
    def test_with_overflow_overrides_the_user_policy_since_4_0(self, policy, channel, connection, confirm_log, drain):
        """The operator decides that publishers are refused, although the application prefers to lose the oldest."""
        assert policy({"max-length": 1, "overflow": "drop-head"}) == (0, "")
        assert policy({"overflow": "reject-publish"}, operator=True) == (0, "")
        channel.queue_declare("work", durable=True)
        log = confirm_log(connection)

        for body in (b"1", b"2", b"3"):
            log.channel.basic_publish("", "work", body)
            log.wait_for(len(log.acked) + len(log.nacked) + 1)

        assert log.nacked == [2, 3]
        assert drain("work") == [b"1"]


class TestPolicyWithForeignKey:
    """RabbitMQ: a policy for a classic queue, of which one key is for queues of other types only."""

    @behaviour("POLICY-16")
    @rabbitmq(before="4.0")
    @lie("message-lost")
    def test_is_applied_before_4_0_with_max_in_memory_length(self, policy, fill, drain):
        """Its other keys work too, so that one policy served classic and quorum queues."""
        assert policy({"max-in-memory-length": 5, "max-length": 1}) == (0, "")

        fill()

        assert drain("work") == [b"3"]

    @behaviour("POLICY-16")
    @rabbitmq(since="4.0")
    @lie("second-message-lost")
    def test_is_not_applied_at_all_since_4_0_with_max_in_memory_length(self, policy, fill, drain):
        """The length limit beside that key is lost with it, and the queue grows without a bound."""
        assert policy({"max-in-memory-length": 5, "max-length": 1}) == (0, "")

        fill()

        assert drain("work") == [b"1", b"2", b"3"]

    @behaviour("POLICY-16")
    @rabbitmq(before="4.0")
    @lie("second-message-lost")
    def test_is_not_applied_at_all_before_4_0_with_queue_leader_locator(self, policy, fill, drain):
        """A limit that was written beside this key has never worked, and nobody was told."""
        assert policy({"queue-leader-locator": "balanced", "max-length": 1}) == (0, "")

        fill()

        assert drain("work") == [b"1", b"2", b"3"]

    @behaviour("POLICY-16")
    @rabbitmq(since="4.0")
    @lie("message-lost")
    def test_is_applied_since_4_0_with_queue_leader_locator(self, policy, fill, drain):
        """The limit beside it begins to work at the upgrade, and deletes messages that were kept before."""
        assert policy({"queue-leader-locator": "balanced", "max-length": 1}) == (0, "")

        fill()

        assert drain("work") == [b"3"]


class TestDelayedRetryPolicy:
    """RabbitMQ: a policy with `delayed-retry-type`, `-min` and `-max`."""

    @behaviour("QQ-10")
    @rabbitmq(since="4.3")
    @lie(None, because="a policy is set over HTTP, and lies are told on AMQP connections")
    @pytest.mark.parametrize(
        ("definition", "reason"),
        [
            ({"delayed-retry-type": "all"}, "delayed-retry-min is required when delayed-retry-type is all"),
            (
                {"delayed-retry-type": "all", "delayed-retry-min": 10, "delayed-retry-max": 5},
                "delayed-retry-max (5) must not be smaller than delayed-retry-min (10)",
            ),
            ({"delayed-retry-type": "some", "delayed-retry-min": 10}, "is not a valid delayed retry type"),
        ],
        ids=["type_without_minimum", "maximum_below_minimum", "unknown_type"],
    )
    def test_without_a_minimum_or_with_a_smaller_maximum_or_an_unknown_type_is_refused_with_400_since_4_3(
        self, policy, definition, reason
    ):
        """Half a ladder of retries would be none: messages would come back at once, again and again."""
        status, text = policy(definition)

        assert status == 400
        assert reason in text
        assert policy({"delayed-retry-type": "all", "delayed-retry-min": 10, "delayed-retry-max": 20}) == (0, "")


class TestDelayedRetryArguments:
    """RabbitMQ: the same as arguments of a quorum queue."""

    @behaviour("QQ-10")
    @rabbitmq(since="4.3")
    @lie("nack-swallowed")
    @pytest.mark.parametrize(
        "arguments",
        [
            {"x-delayed-retry-type": "all"},
            {"x-delayed-retry-type": "some", "x-delayed-retry-min": 60_000},
        ],
        ids=["type_without_minimum", "unknown_type"],
    )
    def test_without_a_minimum_or_with_an_unknown_type_are_accepted_and_delay_nothing_since_4_3(
        self, channel, get_without_ack, receive, arguments
    ):
        """Only a policy is checked: a program that says half of it, or misspells it, hears nothing."""
        channel.queue_declare("work", durable=True, arguments=arguments | {"x-queue-type": "quorum"})
        channel.basic_publish("", "work", b"order")
        tag, _ = get_without_ack(channel, "work")

        channel.basic_reject(tag, requeue=True)

        (again,) = receive("work")
        assert again.body == b"order"
