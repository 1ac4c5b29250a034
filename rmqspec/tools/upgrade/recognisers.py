"""Who is concerned by a difference, in what was read: a table of small pure functions.

Each function gets what is used and yields what it finds, each as a person may call it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rmqspec.tools.upgrade.policies import IN_MEMORY, Policies
from rmqspec.tools.upgrade.releases import Release
from rmqspec.tools.upgrade.used import Item, Used, arguments, definition, named, queue_type

__all__ = ["RECOGNISERS", "Recogniser"]

Find = Callable[[Used], Iterable[str]]

# Types of exchanges that the broker or its own plugins bring along.
SHIPPED = {
    "direct",
    "fanout",
    "topic",
    "headers",
    "x-consistent-hash",
    "x-event-exchange",
    "x-federation-upstream",
    "x-jms-topic",
    "x-local-random",
    "x-modulus-hash",
    "x-random",
    "x-recent-history",
}
SHIPPED_PLUGINS = re.compile(r"rabbitmq_|amqp_client$|amqp10_client$|oauth2_client$|trust_store_http$")
FOR_QUORUM_ONLY = ("x-consumer-disconnected-timeout",)


@dataclass(frozen=True, slots=True)
class Recogniser:
    """How it is found who is concerned by one difference.

    Attributes:
        id: Of the difference.
        reads: The parts that it looks at; it can say nothing unless all of them were read.
        find: Names what is concerned.
    """

    id: str
    reads: frozenset[str]
    find: Find


def transient_queues(used: Used) -> Iterator[str]:
    """Queues that are neither durable nor exclusive."""
    for queue in used.queues:
        if queue.get("durable") is False and queue.get("exclusive") is not True:
            yield named("queue", queue)


def quorum_queues_without_limit(used: Used) -> Iterator[str]:
    """Quorum queues that may have neither a delivery limit nor a place for their dead letters."""
    policies = Policies(used)
    for queue in used.queues_of("quorum"):
        own = {name.removeprefix("x-"): value for name, value in arguments(queue).items()}
        if any(_loses_at_the_limit({**settings, **own}) for settings in policies.of(queue)):
            yield named("queue", queue)


def _loses_at_the_limit(settings: Mapping[str, Any]) -> bool:
    if "delivery-limit" in settings:
        return False
    exchange = settings.get("dead-letter-exchange")
    # By the default exchange, without a key of its own, a message comes back to its queue: a cycle, which ends it.
    return not exchange and (exchange is None or not settings.get("dead-letter-routing-key"))


def negative_delivery_limits(used: Used) -> Iterator[str]:
    """Quorum queues whose argument or policy sets a delivery limit below zero."""
    policies = Policies(used)
    for queue in used.queues_of("quorum"):
        limits = [arguments(queue).get("x-delivery-limit"), *(one.get("delivery-limit") for one in policies.of(queue))]
        if any(isinstance(limit, int) and limit < 0 for limit in limits):
            yield named("queue", queue)


def zero_max_priorities(used: Used) -> Iterator[str]:
    """Classic queues with x-max-priority 0."""
    for queue in used.queues_of("classic"):
        if _is_number(arguments(queue).get("x-max-priority"), 0):
            yield named("queue", queue)


def queues_of_version_1(used: Used) -> Iterator[str]:
    """Classic queues whose argument asks for version 1; a policy with it is accepted."""
    for queue in used.queues_of("classic"):
        if _is_number(arguments(queue).get("x-queue-version"), 1):
            yield named("queue", queue)


def transient_exchanges(used: Used) -> Iterator[str]:
    """Exchanges that are not durable."""
    for exchange in used.exchanges:
        if exchange.get("durable") is False and exchange.get("name"):
            yield named("exchange", exchange)


def many_hashes(used: Used) -> Iterator[str]:
    """Bindings of topic exchanges with three or more words that are a #."""
    for binding in used.bindings_at("topic"):
        if str(binding.get("routing_key", "")).split(".").count("#") > 2:
            yield _binding(binding)


def empty_keys(used: Used) -> Iterator[str]:
    """Bindings of topic exchanges with an empty key."""
    return (_binding(binding) for binding in used.bindings_at("topic") if binding.get("routing_key") == "")


def floats_in_headers(used: Used) -> Iterator[str]:
    """Bindings of headers exchanges that match a float."""
    for binding in used.bindings_at("headers"):
        if any(isinstance(value, float) for value in arguments(binding).values()):
            yield _binding(binding)


def heavy_weights(used: Used) -> Iterator[str]:
    """Bindings of x-consistent-hash exchanges with a weight above 10,000."""
    for binding in used.bindings_at("x-consistent-hash"):
        weight = str(binding.get("routing_key", ""))
        if re.fullmatch(r"\d{1,18}", weight, re.ASCII) and int(weight) > 10_000:
            yield _binding(binding)


def community_exchanges(used: Used) -> Iterator[str]:
    """Exchanges of a type that the broker does not bring along."""
    for exchange in used.exchanges:
        if exchange.get("type") not in SHIPPED:
            yield f"{named('exchange', exchange)}, type {exchange.get('type')!r}"


def community_plugins(used: Used) -> Iterator[str]:
    """Enabled plugins of others, and the two that are known to bring exchange types."""
    known = {"rabbitmq_delayed_message_exchange", "rabbitmq_message_deduplication"}
    for plugin in used.plugins:
        name = str(plugin.get("name"))
        if name in known or not SHIPPED_PLUGINS.match(name):
            yield named("plugin", plugin)


def users_called_guest(used: Used) -> Iterator[str]:
    """The user as whom an anonymous client is logged in."""
    return (named("user", user) for user in used.users if user.get("name") == "guest")


def topic_permissions(used: Used) -> Iterator[str]:
    """Users with topic permissions."""
    for row in used.topic_permissions:
        yield f"user {row.get('user')!r} at exchange {row.get('exchange')!r} in vhost {row.get('vhost')!r}"


def event_bindings(used: Used) -> Iterator[str]:
    """Bindings of the exchange that rabbitmq_event_exchange publishes to."""
    return (_binding(binding) for binding in used.bindings if binding.get("source") == "amq.rabbitmq.event")


def small_frames(used: Used) -> Iterator[str]:
    """Connections that negotiated a frame_max below 8192."""
    for connection in used.connections:
        frame_max = connection.get("frame_max")
        if isinstance(frame_max, int) and 0 < frame_max < 8192:
            yield f"{_client(connection)}, frame_max {frame_max}"


def old_protocols(used: Used) -> Iterator[str]:
    """Connections over AMQP 0-8."""
    for connection in used.connections:
        if str(connection.get("protocol")).startswith("AMQP 0-8"):
            yield _client(connection)


def amqp_1_0(used: Used) -> Iterator[str]:
    """Connections over AMQP 1.0."""
    for connection in used.connections:
        if str(connection.get("protocol", "")).removeprefix("AMQP ") in ("1-0", "1.0", "1-0-0"):
            yield _client(connection)


def global_prefetch(used: Used) -> Iterator[str]:
    """Channels with a global prefetch count."""
    for channel in used.channels:
        count = channel.get("global_prefetch_count")
        if isinstance(count, int) and count > 0:
            yield f"channel {channel.get('name')!r} of user {channel.get('user')!r}"


def khepri_is_off(used: Used) -> Iterator[str]:
    """A broker whose feature flag khepri_db is not enabled, or that has none."""
    state = next(
        (flag.get("state") for flag in used.flags if flag.get("name") == "khepri_db"), "unknown to this release"
    )
    if state != "enabled":
        yield f"feature flag khepri_db: {state}"


def _in_use(feature: str) -> Find:
    """The broker's own word that a deprecated feature is in use: also where this user does not see the vhost."""
    return lambda used: (
        f"deprecated feature {feature}, in use by the broker's own account"
        for row in used.deprecated
        if row.get("name") == feature
    )


def _with_argument(names: tuple[str, ...], *types: str) -> Find:
    """Queues of these types with one of these arguments; a name that ends in - stands for all that begin so."""

    def find(used: Used) -> Iterator[str]:
        for queue in used.queues_of(*types):
            for name in arguments(queue):
                if _is_one(name, names):
                    yield f"{named('queue', queue)}, {name}"

    return find


def _with_policy_key(*keys: str) -> Find:
    def find(used: Used) -> Iterator[str]:
        for kind, policies in (("policy", used.policies), ("operator policy", used.operator_policies)):
            for policy in policies:
                for key in definition(policy):
                    if _is_one(key, keys):
                        yield f"{named(kind, policy)}, {key}"

    return find


def _is_one(name: str, names: Iterable[str]) -> bool:
    return any(name.startswith(one) if one.endswith("-") else name == one for one in names)


def _applied_otherwise(keys: tuple[str, ...], before: Release, after: Release, *types: str) -> Find:
    """Queues of these types that have another policy since a release, because it has one of these keys."""

    def find(used: Used) -> Iterator[str]:
        policies = Policies(used)
        for queue in used.queues_of(*types):
            old, new = policies.of(queue, before), policies.of(queue, after)
            if old != new:
                for key in keys:
                    if any(key in settings for settings in (*old, *new)):
                        yield f"{named('queue', queue)}, {key} by policy"

    return find


def _both(*finds: Find) -> Find:
    return lambda used: (name for find in finds for name in find(used))


def _consuming_with(argument: str, *types: str) -> Find:
    """Consumers with this argument, of queues of these types; a queue that is gone has none."""

    def find(used: Used) -> Iterator[str]:
        of_queue = {(queue.get("vhost"), queue.get("name")): queue_type(queue) for queue in used.queues}
        for consumer in used.consumers:
            queue = of if isinstance(of := consumer.get("queue"), dict) else {}
            if argument in arguments(consumer) and of_queue.get((queue.get("vhost"), queue.get("name"))) in types:
                yield f"consumer {consumer.get('consumer_tag')!r} of {named('queue', queue)}"

    return find


def _with_plugin(wanted: str) -> Find:
    return lambda used: (named("plugin", plugin) for plugin in used.plugins if plugin.get("name") == wanted)


def _binding(binding: Item) -> str:
    target = f"{binding.get('destination_type', 'queue')} {binding.get('destination')!r}"
    return (
        f"binding of {target} to exchange {binding.get('source')!r} with key {binding.get('routing_key')!r} "
        f"in vhost {binding.get('vhost')!r}"
    )


def _client(connection: Item) -> str:
    properties = connection.get("client_properties")
    told = properties if isinstance(properties, dict) else {}
    product = " ".join(str(told[key]) for key in ("product", "version") if key in told)
    return f"connection {connection.get('name')!r} of user {connection.get('user')!r}" + (
        f", {product}" if product else ""
    )


def _is_number(value: object, number: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value == number


def _table() -> Iterator[Recogniser]:
    policies = ("policies", "operator_policies")
    classic, quorum, stream = "classic", "quorum", "stream"
    rows: tuple[tuple[str, tuple[str, ...], Find], ...] = (
        ("B01", ("queues",), transient_queues),
        ("B01", ("deprecated",), _in_use("transient_nonexcl_queues")),
        ("B02", ("channels",), global_prefetch),
        ("B04", ("queues", *policies), quorum_queues_without_limit),
        ("B06", ("queues", *policies), negative_delivery_limits),
        ("B12", ("queues",), _with_argument(("x-consumer-timeout",), classic, quorum)),
        ("B18", ("connections",), small_frames),
        ("B20", ("users",), users_called_guest),
        ("B22", ("topic_permissions",), topic_permissions),
        ("B23", ("queues",), queues_of_version_1),
        (
            "B24",
            ("queues", *policies),
            _both(_with_argument(("x-queue-mode",), classic), _with_policy_key("queue-mode")),
        ),
        (
            "B25",
            ("queues", *policies),
            _both(_with_argument(("x-queue-master-locator",), classic), _with_policy_key("queue-master-locator")),
        ),
        ("B25", ("deprecated",), _in_use("queue_master_locator")),
        ("B26", policies, _with_policy_key("ha-")),
        ("B26", ("deprecated",), _in_use("classic_queue_mirroring")),
        ("B28", ("queues", "consumers"), _consuming_with("x-stream-filter", stream)),
        ("B32", ("bindings", "exchanges"), many_hashes),
        ("B33", ("bindings", "exchanges"), empty_keys),
        ("B34", ("exchanges",), transient_exchanges),
        ("B35", ("bindings", "exchanges"), floats_in_headers),
        ("B39", ("queues",), _with_argument(("x-delayed-retry-",), quorum)),
        ("B40", ("queues",), _with_argument(("x-single-active-consumer",), quorum)),
        ("B50", ("flags",), khepri_is_off),
        ("B59", ("connections",), old_protocols),
        ("B60", ("queues", "consumers"), _consuming_with("x-credit", classic, quorum, stream)),
        ("B64", ("queues",), _with_argument(("x-consumer-timeout",), classic, stream)),
        ("B66", ("queues", "consumers"), _consuming_with("x-stream-filter", classic, quorum)),
        ("B67", ("queues",), _with_argument(("x-stream-filter-size-bytes",), classic, quorum)),
        ("B68", ("queues",), _with_argument(("x-delayed-retry-", *FOR_QUORUM_ONLY), classic, stream)),
        ("B70", ("queues",), zero_max_priorities),
        ("B73", ("plugins",), _with_plugin("rabbitmq_auth_backend_oauth2")),
        ("B74", ("queues", *policies), _applied_otherwise(IN_MEMORY, Release(3, 12, 6), Release(3, 12, 7), classic)),
        (
            "B74-2",
            ("queues", *policies),
            _applied_otherwise(("queue-leader-locator",), Release(3, 13, 7), Release(4, 0, 0), classic),
        ),
        ("B82", ("bindings", "exchanges"), heavy_weights),
        ("B83", ("bindings",), event_bindings),
        ("B83", ("plugins",), _with_plugin("rabbitmq_event_exchange")),
        ("B84", ("connections",), amqp_1_0),
        ("B85", ("plugins",), _with_plugin("rabbitmq_stomp")),
        ("B91", ("exchanges",), community_exchanges),
        ("B91", ("plugins",), community_plugins),
    )
    for name, reads, find in rows:
        yield Recogniser(name, frozenset(reads), find)


RECOGNISERS = tuple(_table())
