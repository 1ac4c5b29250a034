"""Exports of definitions for the tests of the upgrade: a clean one, and one with something of everything."""

HASH = "cGFzc3dvcmQgaGFzaCBvZiBub2JvZHk="  # what no output may hold
SECRET_URI = "amqp://shovel:geheim@far-away"


def queue(name, kind="classic", **fields):
    arguments = {"x-queue-type": kind, **fields.pop("arguments", {})}
    return {"name": name, "vhost": "/", "durable": True, "auto_delete": False, "arguments": arguments, **fields}


def binding(source, key="", destination="orders", **arguments):
    return {
        "source": source, "vhost": "/", "destination": destination, "destination_type": "queue", "routing_key": key,
        "arguments": arguments,
    }  # fmt: skip


def exchange(name, kind, **fields):
    return {"name": name, "vhost": "/", "type": kind, "durable": True, "auto_delete": False, "arguments": {}, **fields}


def policy(name, pattern="^nothing$", priority=0, **definition):
    return {
        "name": name, "vhost": "/", "pattern": pattern, "apply-to": "queues", "priority": priority,
        "definition": {key.replace("_", "-"): value for key, value in definition.items()},
    }  # fmt: skip


def export(**parts):
    """An export of a broker that has only these."""
    empty = {
        "users": [], "vhosts": [{"name": "/"}], "permissions": [], "topic_permissions": [], "parameters": [],
        "global_parameters": [], "policies": [], "queues": [], "exchanges": [], "bindings": [],
    }  # fmt: skip
    return {"rabbit_version": "3.13.7", "rabbitmq_version": "3.13.7", **empty, **parts}


# By the id of the difference: what is concerned, its name in the report, and a neighbour of it that is not.
CONCERNED = {
    "B01": (
        {"queues": [queue("fleeting", durable=False)]},
        "queue 'fleeting'",
        {"queues": [queue("lasting"), queue("mine", durable=False, exclusive=True)]},
    ),
    "B04": (
        {
            "queues": [queue("unlimited", "quorum"), queue("masked", "quorum")],
            "policies": [policy("lazy", "^masked$", queue_mode="lazy", delivery_limit=5)],  # not for quorum queues
        },
        "queue 'masked'",
        {
            "queues": [
                queue("limited", "quorum", arguments={"x-delivery-limit": 5}),
                queue("buried", "quorum", arguments={"x-dead-letter-exchange": "dlx"}),
                queue("moved", "quorum", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}),
                queue("by-policy", "quorum"),
                queue("by-operator", "quorum"),
                queue("classic"),
            ],
            "policies": [
                policy("limits", "^by-policy", delivery_limit=5),
                policy("idle", "^by-policy", priority=9, queue_mode="lazy"),  # not for quorum queues
            ],
            "parameters": [
                {
                    "component": "operator_policy", "vhost": "/", "name": "operator",
                    "value": policy("", "^by-operator", delivery_limit=7),
                }
            ],
        },
    ),
    "B06": (
        {"queues": [queue("for-ever", "quorum", arguments={"x-delivery-limit": -1})]},
        "queue 'for-ever'",
        {"queues": [queue("limited", "quorum", arguments={"x-delivery-limit": 1})]},
    ),
    "B12": (
        {"queues": [queue("hasty", "quorum", arguments={"x-consumer-timeout": 100})]},
        "queue 'hasty'",
        {"queues": [queue("other", "quorum", arguments={"x-delivery-limit": 5})]},
    ),
    "B20": ({"users": [{"name": "guest", "password_hash": HASH}]}, "user 'guest'", {"users": [{"name": "guests"}]}),
    "B22": (
        {"topic_permissions": [{"user": "anna", "vhost": "/", "exchange": "logs", "write": "x", "read": "x"}]},
        "user 'anna' at exchange 'logs'",
        {"permissions": [{"user": "anna", "vhost": "/", "configure": "", "write": "", "read": ""}]},
    ),
    "B23": (
        {"queues": [queue("old", arguments={"x-queue-version": 1})]},
        "queue 'old'",
        {"queues": [queue("new", arguments={"x-queue-version": 2})], "policies": [policy("old", queue_version=1)]},
    ),
    "B24": (
        {
            "queues": [queue("lazy", arguments={"x-queue-mode": "lazy"})],
            "policies": [policy("idle", queue_mode="lazy")],
        },
        "policy 'idle'",
        {"queues": [queue("plain")], "policies": [policy("plain", max_length=3)]},
    ),
    "B25": (
        {
            "queues": [queue("placed", arguments={"x-queue-master-locator": "min-masters"})],
            "policies": [policy("places", queue_master_locator="min-masters")],
        },
        "queue 'placed'",
        {"queues": [queue("led", arguments={"x-queue-leader-locator": "balanced"})]},
    ),
    "B26": (
        {"policies": [policy("mirrors", ha_mode="all", ha_sync_mode="automatic")]},
        "policy 'mirrors' in vhost '/', ha-mode",
        {"policies": [policy("ha-by-name", max_length=3)]},
    ),
    "B32": (
        {"bindings": [binding("amq.topic", "#.a.#.b.#")]},
        "with key '#.a.#.b.#'",
        {"bindings": [binding("amq.topic", "#.a.#"), binding("amq.topic", "a#.b#.c#"), binding("amq.direct", "#.#.#")]},
    ),
    "B34": (
        {"exchanges": [exchange("brief", "direct", durable=False)]},
        "exchange 'brief'",
        {"exchanges": [exchange("lasting", "direct")]},
    ),
    "B35": (
        {"bindings": [binding("amq.headers", destination="floats", version=1.0)]},
        "exchange 'amq.headers'",
        {"bindings": [binding("amq.headers", version=1), binding("amq.topic", "a", version=1.0)]},
    ),
    "B39": (
        {
            "queues": [
                queue("retried", "quorum", arguments={"x-delayed-retry-type": "all", "x-delayed-retry-min": 60_000})
            ]
        },
        "queue 'retried'",
        {"queues": [queue("retried-in-vain", arguments={"x-delayed-retry-min": 1000})]},
    ),
    "B40": (
        {"queues": [queue("alone", "quorum", arguments={"x-single-active-consumer": True})]},
        "queue 'alone'",
        {"queues": [queue("alone-classic", arguments={"x-single-active-consumer": True})]},
    ),
    "B64": (
        {"queues": [queue("timed", arguments={"x-consumer-timeout": 60_000})]},
        "queue 'timed'",
        {"queues": [queue("timed-quorum", "quorum", arguments={"x-consumer-timeout": 60_000})]},
    ),
    "B67": (
        {"queues": [queue("filtered", arguments={"x-stream-filter-size-bytes": 32})]},
        "queue 'filtered'",
        {"queues": [queue("stream", "stream", arguments={"x-stream-filter-size-bytes": 32})]},
    ),
    "B68": (
        {"queues": [queue("late", arguments={"x-consumer-disconnected-timeout": 9})]},
        "queue 'late'",
        {"queues": [queue("late-quorum", "quorum", arguments={"x-consumer-disconnected-timeout": 9})]},
    ),
    "B70": (
        {"queues": [queue("flat", arguments={"x-max-priority": 0})]},
        "queue 'flat'",
        {
            "queues": [
                queue("steep", arguments={"x-max-priority": 1}),
                queue("odd", arguments={"x-max-priority": False}),
            ]
        },
    ),
    "B74": (
        {
            "queues": [queue("in-memory")],
            "policies": [policy("memory", "^in-", max_in_memory_length=9, max_length=2)],
        },
        "queue 'in-memory' in vhost '/', max-in-memory-length by policy",
        {
            "queues": [queue("in-quorum", "quorum"), queue("other"), queue("never")],
            "policies": [
                policy("memory", "^in-", max_in_memory_length=9, max_length=2),
                policy("in-vain", "^never$", max_in_memory_length=9, delivery_limit=5),  # not for classic queues
            ],
        },
    ),
    "B74-2": (
        {"queues": [queue("placed")], "policies": [policy("places", "^placed$", queue_leader_locator="balanced")]},
        "queue 'placed' in vhost '/', queue-leader-locator by policy",
        {
            "queues": [queue("placed-quorum", "quorum"), queue("never"), queue("limited")],
            "policies": [
                policy("places", "^placed", queue_leader_locator="balanced"),
                policy("in-vain", "^never$", queue_leader_locator="balanced", max_in_memory_length=9),
                policy("below", "^limited$", queue_leader_locator="balanced"),
                policy("above", "^limited$", priority=9, max_length=3),
            ],
        },
    ),
    "B82": (
        {"exchanges": [exchange("hashed", "x-consistent-hash")], "bindings": [binding("hashed", "10001")]},
        "with key '10001'",
        {
            "exchanges": [exchange("hashed", "x-consistent-hash")],
            "bindings": [binding("hashed", "10000"), binding("amq.direct", "10001")],
        },
    ),
    "B83": (
        {"bindings": [binding("amq.rabbitmq.event", "queue.created")]},
        "exchange 'amq.rabbitmq.event'",
        {"bindings": [binding("amq.topic", "queue.created")]},
    ),
    "B91": (
        {"exchanges": [exchange("later", "x-delayed-message")]},
        "exchange 'later' in vhost '/', type 'x-delayed-message'",
        {"exchanges": [exchange("hashed", "x-consistent-hash"), exchange("random", "x-random")]},
    ),
}  # fmt: skip
# Of another pair than 3.10 to 4.3: each id with the releases that show it.
ELSEWHERE = {
    "B33": (
        {"bindings": [binding("amq.topic", "")]},
        "with key ''",
        {"bindings": [binding("amq.topic", "a"), binding("amq.fanout", "")]},
        ("4.2", "4.3.0"),
    ),
}


def everything():
    """One export with something of everything, and secrets beside it."""
    parts = {}
    for concerned, _, _ in CONCERNED.values():
        for part, rows in concerned.items():
            parts.setdefault(part, []).extend(rows)
    parts["parameters"] = [{"component": "shovel", "vhost": "/", "name": "s", "value": {"src-uri": SECRET_URI}}]
    return export(**parts)


def of_the_readme():
    """The export of the excerpt in README.md."""
    return export(queues=[queue("q", arguments={"x-queue-version": 1}), queue("fleeting", durable=False)])


def clean():
    """An export of somebody whom no upgrade from 3.13 concerns."""
    return export(
        users=[{"name": "anna", "password_hash": HASH, "tags": ["administrator"]}],
        queues=[
            queue("orders", "quorum", arguments={"x-delivery-limit": 5, "x-dead-letter-exchange": "orders.dlx"}),
            queue("failed"),
            queue("log", "stream", arguments={"x-max-age": "7D"}),
        ],
        exchanges=[exchange("orders.direct", "direct"), exchange("logs.topic", "topic")],
        bindings=[
            binding("orders.direct", "order"),
            binding("logs.topic", "order.#"),
            binding("amq.headers", colour="red"),
        ],
        policies=[policy("length", "^failed$", max_length=1000)],
        parameters=[{"component": "shovel", "vhost": "/", "name": "s", "value": {"src-uri": SECRET_URI}}],
    )
