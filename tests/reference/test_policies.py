"""Policies: which queue types each key applies to, which keys there are, and how two policies and arguments combine.

The management API shows the policy of a queue some seconds after it was applied. So the table is filled in once: a
queue of each type for each key, with a policy of that key alone.

Spec: https://www.rabbitmq.com/docs/policies
Reference: POLICY-02, POLICY-04, POLICY-06…12, POLICY-16, POLICY-17, POLICY-20, QQDECL-07, MAXLEN-12, DLX-11, TTL-11,
QAUTO-11, QQ-03, XDEFAULT-05
"""

import pika
import pytest
from pika.exceptions import NackError
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from rmqspec.tools.broker.errors import ManagementError

from .tables import cases, rows

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

STATISTICS = 30.0  # seconds, at most, until the management API shows what has changed; by default it asks every 5

# applied: the queue shows the policy. not: it has none, as if no pattern matched its name. refused: by the API, 400.
KEYS = """
key                            value        classic          quorum           stream
dead-letter-exchange           amq.fanout   applied          applied          not
dead-letter-routing-key        failed       applied          applied          not
dead-letter-strategy           at-most-once  not             applied          not
delivery-limit                 3            not              applied          not
expires                        600000       applied          applied          not
initial-cluster-size           1            not              not              applied
max-age                        1h           not              not              applied
max-in-memory-bytes            1000         applied | 4.0 not  applied        not
max-in-memory-length           10           applied | 4.0 not  applied        not
max-length                     10           applied          applied          not
max-length-bytes               1000000      applied          applied          applied
message-ttl                    600000       applied          applied          not
overflow                       drop-head    applied          applied          not
queue-leader-locator           balanced     not | 4.0 applied  applied        applied
queue-master-locator           min-masters  applied | 4.3 refused  not | 4.3 refused  not | 4.3 refused
queue-mode                     lazy         applied          not              not
queue-version                  2            applied          applied          applied
stream-max-segment-size-bytes  1000000      not              not              applied
stream-filter-size-bytes       32           refused | 4.0 applied  refused | 4.0 applied  refused | 4.0 applied
target-group-size              1            refused | 4.0 not  refused | 4.0 applied  refused | 4.0 not
consumer-timeout               60000        refused | 4.0 applied  refused | 4.0 applied  refused | 4.0 applied
ha-mode                        all          applied | 4.0 refused  not | 4.0 refused  not | 4.0 refused
max-priority                   5            refused          refused          refused
single-active-consumer         true         refused          refused          refused
exclusive                      true         refused          refused          refused
auto-delete                    true         refused          refused          refused
no-such-key                    any          refused          refused          refused
"""

HELD = {
    **{
        f"{key} on a {place}": "QQDECL-07"
        for key, place in [("max-age", "quorum queue"), ("queue-mode", "quorum queue")]
    },
    "ha-mode on a classic queue": "POLICY-07",
    "queue-master-locator on a classic queue": "POLICY-08",
    "max-in-memory-length on a classic queue": "POLICY-16",
    "queue-leader-locator on a classic queue": "POLICY-16",
    "no-such-key on a classic queue": "POLICY-06",
    "max-priority on a classic queue": "POLICY-10",
    "exclusive on a classic queue": "POLICY-10",
    "auto-delete on a classic queue": "POLICY-10",
    "single-active-consumer on a classic queue": "POLICY-17",
}

TYPES = ("classic", "quorum", "stream")

each = ("key", "value", "queue_type")


@pytest.fixture(scope="module")
def policies(broker, vhosts, route):
    """What became of each key: `policies["expires", "stream"]` is "applied" or "not", or why it was refused."""
    vhost = vhosts.take()
    outcomes = {}
    with pika.BlockingConnection(pika.URLParameters(route(broker.endpoint.url(vhost)))) as connection:
        channel = connection.channel()
        for key, value in rows(KEYS):
            try:
                broker.management.set_policy(vhost, key, f"^{key} ", {key: value})
            except ManagementError as error:
                outcomes.update({(key, queue_type): str(error) for queue_type in TYPES})
            else:
                for queue_type in TYPES:
                    channel.queue_declare(f"{key} {queue_type}", durable=True, arguments={"x-queue-type": queue_type})
    outcomes.update(_shown(broker.management, vhost))
    yield outcomes
    vhosts.give_back(vhost)


@retry(
    retry=retry_if_result(lambda shown: None in shown.values()),
    wait=wait_fixed(0.2),
    stop=stop_after_delay(STATISTICS),
    retry_error_callback=lambda state: state.outcome.result(),
)
def _shown(management, vhost):
    """Each queue's key and type, with "applied", "not", or None while the broker does not show its policies yet."""
    queues = management.get(f"queues/{vhost}?columns=name,policy,effective_policy_definition")
    outcomes = {}
    for queue in queues:
        key, queue_type = queue["name"].split(" ")
        known = "effective_policy_definition" in queue
        outcomes[key, queue_type] = ("applied" if queue.get("policy") else "not") if known else None
    return outcomes


class TestPolicyKey:
    """RabbitMQ: one key in the definition of a policy whose pattern matches the queue's name."""

    @behaviour("POLICY-11")
    @lie(None, because="a policy is set and shown over HTTP, and lies are told on AMQP connections")
    @pytest.mark.parametrize(each, cases(KEYS, "applied", HELD))
    def test_is_applied_to_a_queue_of_a_type_that_has_it(self, policies, key, value, queue_type):
        """An operator sets it for queues that programs have declared without it."""
        assert policies.get((key, queue_type)) == "applied"

    @behaviour("POLICY-11")
    @lie(None, because="a policy is set and shown over HTTP, and lies are told on AMQP connections")
    @pytest.mark.parametrize(each, cases(KEYS, "not", HELD))
    def test_is_not_applied_to_a_queue_of_another_type(self, policies, key, value, queue_type):
        """No error says so: such a queue shows no policy, and obeys none, although the pattern matches its name."""
        assert policies.get((key, queue_type)) == "not"

    @behaviour("POLICY-11", "POLICY-12")
    @lie(None, because="a policy is set and shown over HTTP, and lies are told on AMQP connections")
    @pytest.mark.parametrize(each, cases(KEYS, "refused", HELD))
    def test_is_refused_with_400_if_no_queue_type_can_have_it_by_policy(self, policies, key, value, queue_type):
        """An operator hears at once that this cannot be set so, or no longer."""
        assert "answered 400" in policies[key, queue_type]
        assert "Validation failed" in policies[key, queue_type]


@pytest.fixture
def set_policy(broker, vhost):
    """Sets a policy in this test's vhost: `set_policy("limit", "^work$", {"max-length": 1})`."""
    return lambda *policy, **more: broker.management.set_policy(vhost, *policy, **more)


@pytest.fixture
def publish(channel):
    """Publishes each body to a queue: `publish("work", b"1", b"2")`."""

    def each_of(queue, *bodies):
        for body in bodies:
            channel.basic_publish("", queue, body)

    return each_of


class TestPolicies:
    """RabbitMQ: several policies that match the same name."""

    @behaviour("POLICY-02")
    @lie("published-twice")
    def test_are_not_merged_and_the_one_with_the_highest_priority_is_applied(self, channel, set_policy, publish, drain):
        """An urgent policy replaces all keys of the general one, not only those that it names."""
        set_policy("general", "^work$", {"max-length-bytes": 0}, priority=1)
        set_policy("urgent", "^work$", {"max-length": 2}, priority=2)
        channel.queue_declare("work", durable=True)

        publish("work", b"first", b"second", b"third")

        assert drain("work") == [b"second", b"third"]


class TestOperatorPolicy:
    """RabbitMQ: an operator policy beside a policy or an argument."""

    @behaviour("POLICY-04")
    @lie("length-limit-lost", cases="by-argument-user_lower")
    @lie("published-twice")
    @pytest.mark.parametrize(
        ("users", "operators", "kept"),
        [
            (3, 2, [b"second", b"third"]),
            (2, 3, [b"second", b"third"]),
        ],
        ids=["operator_lower", "user_lower"],
    )
    @pytest.mark.parametrize("by", ["by-policy", "by-argument"])
    def test_is_merged_and_the_lower_limit_is_applied(
        self, broker, vhost, channel, set_policy, publish, drain, by, users, operators, kept
    ):
        """A team may choose a limit below the one that its operator allows, and none above it."""
        arguments = {"x-max-length": users} if by == "by-argument" else {}
        if by == "by-policy":
            set_policy("users", "^work$", {"max-length": users})
        broker.management.set_policy(vhost, "operators", "^work$", {"max-length": operators}, operator=True)
        channel.queue_declare("work", durable=True, arguments=arguments)

        publish("work", b"first", b"second", b"third")

        assert drain("work") == kept


class TestPolicy:
    """RabbitMQ: a policy that is set while its queue is in use, or beside an argument of the queue."""

    @behaviour("POLICY-09")
    @lie("published-twice")
    def test_is_obeyed_by_a_queue_in_use_once_its_effective_policy_definition_shows_it(
        self, broker, vhost, channel, set_policy, publish, eventually, drain
    ):
        """The answer to whoever sets a policy does not wait for the queues: a script has to wait until they show it."""
        channel.queue_declare("work", durable=True)
        publish("work", b"first")
        set_policy("limit", "^work$", {"max-length": 2})

        def shown():
            return broker.management.get(f"queues/{vhost}/work").get("effective_policy_definition")

        eventually(shown, {"max-length": 2}, within=STATISTICS)
        publish("work", b"second", b"third")

        assert drain("work") == [b"second", b"third"]

    @behaviour("POLICY-20")
    @lie("published-twice")
    def test_may_exclude_queues_by_a_lookahead_in_its_pattern(self, channel, set_policy, publish, drain):
        """The pattern is a regular expression as in Perl, so "all but these" needs no list of names."""
        set_policy("limit", "^(?!audit)", {"max-length": 2})
        for queue in ("work", "audit", "audited"):
            channel.queue_declare(queue, durable=True)

        for queue in ("work", "audit", "audited"):
            publish(queue, b"first", b"second", b"third")

        assert drain("work") == [b"second", b"third"]
        assert drain("audit") == [b"first", b"second", b"third"]
        assert drain("audited") == [b"first", b"second", b"third"]

    @behaviour("DLX-11")
    @lie("dead-letter-exchange-lost")
    def test_with_a_dead_letter_exchange_yields_to_the_argument_of_the_queue(
        self, channel, bound_queue, set_policy, publish, get_without_ack, receive
    ):
        """Programs keep what they have declared; the policy is for queues that declare nothing."""
        for exchange in ("by-policy", "by-argument"):
            channel.exchange_declare(exchange, "fanout", durable=True)
        of_policy = bound_queue("by-policy")
        of_argument = bound_queue("by-argument")
        set_policy("dead letters", "^(silent|own)$", {"dead-letter-exchange": "by-policy"})
        channel.queue_declare("silent", durable=True)
        channel.queue_declare("own", durable=True, arguments={"x-dead-letter-exchange": "by-argument"})

        for queue in ("silent", "own"):
            publish(queue, queue.encode())
            tag, _ = get_without_ack(channel, queue)
            channel.basic_reject(tag, requeue=False)

        assert [delivery.body for delivery in receive(of_policy)] == [b"silent"]
        assert [delivery.body for delivery in receive(of_argument)] == [b"own"]

    @behaviour("MAXLEN-12")
    @lie("nack-confirmed")
    def test_with_reject_publish_is_replaced_by_the_next_policy_when_it_is_deleted(
        self, broker, vhost, channel, set_policy, publish, eventually, drain
    ):
        """The queue obeys the next policy at once, without being declared anew."""
        set_policy("general", "^work$", {"max-length": 1})
        set_policy("strict", "^work$", {"max-length": 1, "overflow": "reject-publish"}, priority=1)
        channel.queue_declare("work", durable=True)
        publish("work", b"kept")
        with pytest.raises(NackError):
            publish("work", b"refused")

        broker.management.delete_policy(vhost, "strict")

        def is_confirmed():
            try:
                publish("work", b"later")
            except NackError:
                return False
            return True

        eventually(is_confirmed, True)
        assert drain("work") == [b"later"]

    @lie("requeue-discards")
    @pytest.mark.parametrize(
        "queue_type",
        [
            pytest.param("classic", marks=behaviour("TTL-11")),
            pytest.param("quorum", marks=behaviour("TTL-11", "QQ-03")),
        ],
    )
    def test_with_a_message_ttl_does_not_expire_messages_published_before_it(
        self, channel, set_policy, publish, get_without_ack, eventually, message_count, drain, queue_type
    ):
        """A TTL does not empty a queue that is full already; what is new waits behind the old for its turn to go."""
        channel.queue_declare("work", durable=True, arguments={"x-queue-type": queue_type})
        publish("work", b"before")
        tag, _ = get_without_ack(channel, "work")
        set_policy("ttl", "^work$", {"message-ttl": 0})

        def new_ones_expire():
            publish("work", b"probe")
            return message_count("work")

        eventually(new_ones_expire, 0)
        channel.basic_nack(tag, requeue=True)
        publish("work", b"after")

        assert drain("work") == [b"before"]

    @behaviour("QAUTO-11")
    @lie("absence-hidden")
    @lie("queue-expiry-lost", cases="argument_shorter")
    @pytest.mark.parametrize(
        ("by_argument", "by_policy"), [(100, 60_000), (60_000, 100)], ids=["argument_shorter", "policy_shorter"]
    )
    def test_with_an_expiry_deletes_an_unused_queue_after_the_shorter_of_policy_and_argument(
        self, channel, set_policy, exists, lookup, eventually, by_argument, by_policy
    ):
        """Neither a program nor an operator can keep a queue longer than the other allows."""
        set_policy("lease", "^work$", {"expires": by_policy})
        channel.queue_declare("work", durable=True, arguments={"x-expires": by_argument})

        eventually(lambda: exists("work"), False)

        assert lookup("queue", "work") == "missing"

    @behaviour("XDEFAULT-05")
    @lie("return-swallowed")
    def test_with_an_alternate_exchange_is_not_applied_to_the_default_exchange(
        self, channel, bound_queue, set_policy, is_routed, drain
    ):
        """A misspelt queue name stays unroutable there; mandatory is the only way to hear of it."""
        others = bound_queue("amq.fanout")
        set_policy("others", "^(post)?$", {"alternate-exchange": "amq.fanout"})
        channel.exchange_declare("post", "direct", durable=True)

        assert is_routed("post", "nowhere") is True
        assert is_routed("", "nowhere at all") is False

        assert drain(others) == [b"nowhere"]
