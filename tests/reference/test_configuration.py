"""Configuration: keys of `rabbitmq.conf` that came, changed or went with a release.

One broker is started with all keys that its release knows; other brokers are started with a key that stops them.

Spec: https://www.rabbitmq.com/docs/configure
Reference: CONF-01…03, CONF-07, CONF-08, CONSUME-16, DEFS-06, DLXALO-05, LIMITS-04, LIMITS-05, VHOST-07, PROTO-07,
PROTO-14, PUB-12, TUNE-07, ACKTIMEOUT-01, AUTH-05, XTYPES-01…06, XTYPES-08, XTYPES-11
"""

from dataclasses import replace
from urllib.parse import quote

import pika
import pytest
from pika import exceptions, frame, spec

from rmqspec.tools.broker import BrokerDied, Configuration, NotOurs
from rmqspec.tools.broker.endpoint import random_login

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq
pytestmark = pytest.mark.timeout(180)  # brokers of their own are started

# The release that knows it first, and a line.
LINES = [
    ((3, 10), "disk_free_limit.absolute = 64M"),
    ((3, 10), "frame_max = 0"),
    ((3, 10), "collect_statistics_interval = 600000"),
    ((3, 10), "handshake_timeout = 3000"),
    ((3, 10), "loopback_users = none"),
    ((3, 13), "consumer_max_per_channel = 3"),
    ((3, 13), "channel_max_per_node = 60"),
    ((3, 13, 3), "default_queue_type = quorum"),
    ((4, 0), "cluster_queue_limit = 20"),
    ((4, 1, 4), "cluster_exchange_limit = 200"),
    ((4, 1, 4), "exchange_types.local_random.enabled = false"),
    ((4, 2), "queue_types.stream.enabled = false"),
    ((4, 2), "message_interceptors.incoming.set_header_timestamp.overwrite = true"),
    ((4, 2), "message_interceptors.incoming.set_header_routing_node.overwrite = true"),
    ((4, 2), "message_interceptors.outgoing.timestamp.enabled = true"),
]
KEYS_REMOVED_IN_4_0 = (
    "classic_queue.default_version = 1",
    "cluster_formation.randomized_startup_delay_range.max = 2",
)
REFUSED_SINCE_4_2 = ("ssl_options.cacerts.1 = /nowhere.pem", "auth_backends.1 = http")
SHARDS = ("left", "right")  # queues of an exchange that hashes
NUMBERS = [str(number) for number in range(20)]  # of customers; each queue has some
AT_LEAST_ONCE = {
    "x-queue-type": "quorum",
    "x-dead-letter-exchange": "failures",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}
PLUGINS = (
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_event_exchange",
    "rabbitmq_random_exchange",
    "rabbitmq_recent_history_exchange",
)


def default_of(key):
    """The value of a key that `rabbitmq.conf` does not set, in Erlang."""
    shipped = '{ok, [{application, rabbit, Keys}]} = file:consult(code:where_is_file("rabbit.app"))'
    return f"begin {shipped}, proplists:get_value({key}, proplists:get_value(env, Keys)) end"


@pytest.fixture(scope="module")
def disposable_broker(another_broker, broker):
    """A broker with all these lines that its release knows."""
    lines = tuple(line for since, line in LINES if broker.identity.release >= since)
    return another_broker(Configuration(lines=lines, plugins=PLUGINS))


@pytest.fixture
def url(disposable_url):
    return disposable_url


class TestMemoryAndDiskUnits:
    """RabbitMQ: `64M` in a limit of memory or disk space."""

    @behaviour("CONF-07")
    @lie(None, because="the limit is read by rabbitmqctl, and lies are told on AMQP connections")
    @pytest.mark.parametrize(
        "size",
        [
            pytest.param(67_108_864, id="before_3_13", marks=rabbitmq(before="3.13")),
            pytest.param(64_000_000, id="since_3_13", marks=rabbitmq(since="3.13")),
        ],
    )
    def test_are_powers_of_two_before_3_13_and_powers_of_ten_since(self, disposable_broker, size):
        """The same file means 5 % less, and with G 7 %: the alarm comes earlier or later than before. Write MiB."""
        assert int(disposable_broker.control("eval", "rabbit_disk_monitor:get_disk_free_limit().")) == size


class TestStatisticsInterval:
    """RabbitMQ: `collect_statistics_interval`, 5 seconds by default and 10 minutes here."""

    @behaviour("DEFS-06")
    @lie("message-lost")
    def test_delays_counts_over_http_and_not_those_of_a_passive_declare(
        self, disposable_broker, vhost, channel, message_count
    ):
        """A script that waits over HTTP until a queue is empty may see the past, and go on too early."""
        channel.queue_declare("work", durable=True)
        channel.basic_publish("", "work", b"order")

        by_declare = message_count("work")
        over_http = disposable_broker.management.get(f"queues/{quote(vhost, safe='')}/work")

        channel.queue_delete("work")
        assert by_declare == 1
        assert over_http["name"] == "work"
        assert over_http.get("messages", 0) == 0


class TestDeadLetterConfirmTimeout:
    """RabbitMQ: `dead_letter_worker_publisher_confirm_timeout`, 3 minutes by default and 100 ms here."""

    @pytest.fixture
    def short_timeout(self, disposable_broker):
        """Set in the running node: no line of `rabbitmq.conf` has it. Queues that are declared now take it over."""
        setting = "rabbit, dead_letter_worker_publisher_confirm_timeout"
        disposable_broker.control("eval", f"application:set_env({setting}, 100).")
        yield
        disposable_broker.control("eval", f"application:set_env({setting}, 180000).")

    @pytest.fixture
    def full_target(self, channel):
        """Makes `work`, whose dead letters go to `witness` and to `dead`, which is full: `full_target("classic")`."""

        def declare(queue_type):
            full = {"x-queue-type": queue_type, "x-max-length": 1, "x-overflow": "reject-publish"}
            channel.exchange_declare("failures", "fanout", durable=True)
            for queue, arguments in [("dead", full), ("witness", {}), ("work", AT_LEAST_ONCE)]:
                channel.queue_declare(queue, durable=True, arguments=arguments)
            channel.basic_publish("", "dead", b"in the way")
            for queue in ("dead", "witness"):
                channel.queue_bind(queue, "failures")

        yield declare
        for queue in ("work", "witness", "dead"):
            channel.queue_delete(queue)
        channel.exchange_delete("failures")

    @behaviour("DLXALO-05")
    @lie("dead-letter-exchange-lost")
    @pytest.mark.parametrize("target", ["classic", "quorum"])
    def test_is_the_time_after_which_at_least_once_repeats_a_dead_letter_that_its_full_target_rejected(
        self, short_timeout, full_target, channel, get_without_ack, receive, target
    ):
        """A dead-letter queue that is full loses nothing: the message waits in its own queue, and comes later."""
        full_target(target)
        channel.basic_publish("", "work", b"order")
        tag, _ = get_without_ack(channel, "work")

        channel.basic_reject(tag, requeue=False)
        (seen,) = receive("witness")  # and `dead` has rejected it
        in_the_way, dead = receive("dead", 2)

        assert seen.body == b"order"
        assert in_the_way.body == b"in the way"
        assert dead.body == b"order"
        assert dead.died_of == "rejected"


class TestUnlimitedFrames:
    """RabbitMQ: `frame_max = 0`, to which a client agrees."""

    @behaviour("TUNE-07")
    @lie("headers-lost")
    def test_may_hold_headers_that_are_larger_than_the_131_072_bytes_of_other_connections(self, raw_client, channel):
        """The headers of a message come in one frame, so its size is their limit; bodies are cut."""
        channel.queue_declare("work", durable=True)
        client = raw_client().open(1, frame_max=0)
        headers = {"large": "x" * 200_000}

        client.say(spec.Confirm.Select(), 1)
        client.hears("confirm.select-ok")
        client.send(
            frame.Method(1, spec.Basic.Publish(exchange="", routing_key="work")),
            frame.Header(1, 0, pika.BasicProperties(headers=headers)),
        )
        client.hears("basic.ack")
        client.say(spec.Basic.Get(queue="work", no_ack=True), 1)

        delivered = client.hears_message("basic.get-ok").headers
        channel.queue_delete("work")
        assert delivered.get("large") == headers["large"]


@pytest.fixture
def vhost(url):
    return pika.URLParameters(url).virtual_host


class TestHandshakeTimeout:
    """RabbitMQ: `handshake_timeout`, here 3,000 ms."""

    @behaviour("PROTO-07")
    @lie("handshake-timeout-longer")
    def test_ends_connections_whose_client_has_not_opened_a_vhost(self, raw_client):
        """Who connects and stays silent, by a fault or on purpose, does not keep a socket of the broker for ever."""
        finished = raw_client().open()
        silent, greeted, logged_in, tuned = [raw_client() for _ in range(4)]
        for client in (greeted, logged_in, tuned):
            client.begin()
        for client in (logged_in, tuned):
            client.log_in()
        tuned.tune()

        for client in (silent, greeted, tuned):
            client.hears_the_end(within=10)
        logged_in.hears("connection.tune")
        logged_in.hears_the_end(within=10)

        finished.say(spec.Channel.Open(), 1)
        finished.hears("channel.open-ok")


class TestDefaultTimeout:
    """RabbitMQ: a timeout that `rabbitmq.conf` does not set."""

    @lie(None, because="the value is read by rabbitmqctl, and lies are told on AMQP connections")
    @pytest.mark.parametrize(
        ("key", "milliseconds"),
        [
            pytest.param("handshake_timeout", 10_000, id="handshake", marks=behaviour("PROTO-07")),
            pytest.param("consumer_timeout", 1_800_000, id="consumer", marks=behaviour("ACKTIMEOUT-01")),
        ],
    )
    def test_is_10_seconds_for_the_handshake_and_30_minutes_for_unacked_deliveries(
        self, disposable_broker, key, milliseconds
    ):
        """On a node that nobody has configured, a program that works on a message for an hour loses it meanwhile."""
        assert int(disposable_broker.control("eval", f"{default_of(key)}.")) == milliseconds


class TestGuest:
    """RabbitMQ: the user guest, whom `loopback_users` names by default; here it is `none`."""

    @behaviour("AUTH-05")
    @lie("connection-code-changed")
    def test_is_refused_with_403_by_default_if_the_broker_is_reached_at_another_address_than_loopback(
        self, at_another_address, restrict_guest, connection_refusal
    ):
        """A name and a password that everybody knows open the broker to its own machine alone."""
        guest, somebody = at_another_address
        assert connection_refusal(guest).code == 0

        restrict_guest()

        said = connection_refusal(guest)
        assert said.code == 403
        assert said.text.startswith("ACCESS_REFUSED - Login was refused")
        assert connection_refusal(somebody).code == 0

    @behaviour("AUTH-05")
    @lie(None, because="the broker itself is the client, and lies are told on the way to it")
    def test_may_always_connect_on_loopback(self, on_loopback, guest, restrict_guest):
        """The first login on a new machine needs no other user; a container's clients are not on its loopback."""
        restrict_guest()

        assert on_loopback(guest) == "accepted"


@pytest.fixture
def guest(disposable_broker, vhost):
    """The login of a user guest with a random password."""
    management, (_, password) = disposable_broker.management, random_login()
    management.create_user("guest", password)
    management.permit(vhost, "guest", configure=".*", write=".*", read=".*")
    yield replace(disposable_broker.endpoint, user="guest", password=password)
    management.delete_user("guest")


@pytest.fixture
def at_another_address(disposable_broker, guest):
    """The logins of guest and of another user at an address that is not loopback for the broker, and is so for us.

    A port of a container is published on our loopback, and leads to the container's own address.
    """
    if disposable_broker.source != "container":
        pytest.skip("not run: this broker listens on loopback alone; one in a container has another address too")
    return guest, disposable_broker.endpoint


@pytest.fixture
def restrict_guest(disposable_broker):
    """Sets `loopback_users` to its default: `restrict_guest()`."""

    def set_users(value):
        disposable_broker.control("eval", f"application:set_env(rabbit, loopback_users, {value}).")

    yield lambda: set_users(default_of("loopback_users"))
    set_users("[]")


@pytest.fixture
def on_loopback(disposable_broker, vhost):
    """Has the broker connect to itself on 127.0.0.1, by its own Erlang client: `on_loopback(guest)` is "accepted"."""
    port = 5672 if disposable_broker.source == "container" else disposable_broker.endpoint.port

    def connect_to_itself(who):
        url = replace(who, host="127.0.0.1", port=port).url(vhost)
        ends = "{ok, Connection} -> amqp_connection:close(Connection), accepted; {error, Why} -> Why"
        start = f'{{ok, Url}} = amqp_uri:parse("{url}"), case amqp_connection:start(Url) of {ends} end.'
        return disposable_broker.control("eval", start)

    return connect_to_itself


class TestConsumerLimit:
    """RabbitMQ: `consumer_max_per_channel`, here 3."""

    @behaviour("CONSUME-16", "CHAN-04")
    @rabbitmq(since="3.13")
    @lie("connection-code-changed")
    def test_closes_the_connection_with_530_on_one_more_consumer(self, connect, refusal, channel):
        """A program that subscribes in a loop, and never cancels, is stopped."""
        channel.queue_declare("work", durable=True)

        def consume(careless):
            for _ in range(4):
                careless.basic_consume("work", print)

        said = refusal(consume, on=connect())

        channel.queue_delete("work")
        assert said.code == 530
        assert said.closed == "connection"
        assert "reached maximum (3) of consumers per channel" in said.text


class TestChannelLimit:
    """RabbitMQ: `channel_max_per_node`, here 60."""

    @behaviour("LIMITS-04", "CHAN-04")
    @rabbitmq(since="3.13")
    @lie("connection-code-changed")
    def test_closes_the_connection_with_530_on_one_more_channel_of_the_node(self, connect, refusal, channel):
        """A leak of channels in one program costs that program, and not the node."""
        leaking = connect()

        said = refusal(lambda _: [leaking.channel() for _ in range(70)], on=leaking)

        assert said.code == 530
        assert said.closed == "connection"
        assert "number of channels opened on node" in said.text
        assert channel.is_open


class TestConnectionLimit:
    """RabbitMQ: `connection_max`, here 3, on a node with three open connections."""

    @behaviour("LIMITS-04", "LIMITS-10")
    @rabbitmq(since="3.12")
    @lie("connection-code-changed")
    def test_refuses_one_more_with_530_since_3_11_12(self, crowded):
        """The refusal says what is wrong, and leaves the open connections alone."""
        url, three = crowded

        with pytest.raises(exceptions.ProbableAccessDeniedError) as refused:
            pika.BlockingConnection(url)

        assert "(530)" in str(refused.value)
        assert "node connection limit (3) is reached" in str(refused.value)
        assert three[0].channel().is_open


@pytest.fixture
def crowded(another_broker, route):
    """How to connect to a broker that takes three connections, and the three that are open."""
    limited = another_broker(Configuration(lines=("connection_max = 3",), management=False))
    url = pika.URLParameters(route(limited.endpoint.url()))
    three = [pika.BlockingConnection(url) for _ in range(3)]
    yield url, three
    for connection in three:
        connection.close()


class TestClusterLimit:
    """RabbitMQ: how many queues and exchanges a cluster may have; here 20 and 200."""

    @lie("code-406-changed")
    @pytest.mark.parametrize(
        ("kind", "text"),
        [
            pytest.param(
                "queue", "queue limit in cluster (20) is reached", id="queue",
                marks=[rabbitmq(since="4.0"), behaviour("LIMITS-05")],
            ),
            pytest.param(
                "exchange", "exchange limit of 200 is reached", id="exchange",
                marks=[rabbitmq(since="4.1.4"), behaviour("LIMITS-05")],
            ),
        ],
    )  # fmt: skip
    def test_closes_the_channel_with_406_on_one_more(self, channel, refusal, kind, text):
        """A program that declares without end is stopped, in whatever vhost it does so."""
        made = []

        def declare(greedy):
            for number in range(201):
                getattr(greedy, f"{kind}_declare")(f"{kind} {number}", durable=True)
                made.append(f"{kind} {number}")

        said = refusal(declare)

        for name in made:
            getattr(channel, f"{kind}_delete")(name)
        assert said.code == 406
        assert said.closed == "channel"
        assert text in said.text
        assert made != []


class TestNodeDefaultQueueType:
    """RabbitMQ: `default_queue_type`, here quorum."""

    @behaviour("VHOST-07")
    @rabbitmq(since="3.13.3")
    @lie("precondition-hidden")
    def test_is_the_type_of_a_queue_without_x_queue_type(self, channel, refusal):
        """Programs that name no type get replicated queues, in every vhost."""
        channel.queue_declare("work", durable=True)

        declared_as = [
            refusal(
                lambda again, kind=kind: again.queue_declare("work", durable=True, arguments={"x-queue-type": kind})
            )
            for kind in ("quorum", "classic")
        ]

        channel.queue_delete("work")
        assert [said.code for said in declared_as] == [0, 406]


class TestDisabledType:
    """RabbitMQ: a type of queues or exchanges that the configuration disables."""

    @behaviour("XTYPES-06", "CHAN-03")
    @rabbitmq(since="4.1.4")
    @lie("precondition-hidden")
    def test_of_exchanges_closes_the_channel_with_406(self, refusal):
        """A type that an operator does not want in a cluster is refused before anybody depends on it."""
        said = refusal(lambda channel: channel.exchange_declare("spread", "x-local-random", durable=True))

        assert said.code == 406
        assert said.closed == "channel"
        assert "x-local-random exchange is disabled by configuration" in said.text

    @behaviour("STREAM-01", "CHAN-04")
    @rabbitmq(since="4.2")
    @lie("arguments-lost")
    def test_of_queues_closes_the_connection_with_541(self, connect, refusal, channel):
        """One declaration of a stream costs the program all its channels."""
        arguments = {"x-queue-type": "stream"}

        said = refusal(lambda wrong: wrong.queue_declare("log", durable=True, arguments=arguments), on=connect())

        assert said.code == 541
        assert said.closed == "connection"
        assert "of type 'rabbit_stream_queue'" in said.text
        assert channel.is_open


class TestMessageInterceptor:
    """RabbitMQ: `message_interceptors`, which let the broker add headers to messages."""

    @behaviour("PUB-12")
    @rabbitmq(since="4.2")
    @lie("delivered-headers-lost")
    def test_adds_the_time_and_node_of_the_publish_and_the_time_of_the_delivery(self, channel, receive):
        """How long a message waited can be measured without a change of the programs."""
        channel.queue_declare("work", durable=True)
        channel.basic_publish("", "work", b"letter", pika.BasicProperties(headers={"own": 1}))

        (delivery,) = receive("work")

        channel.queue_delete("work")
        added = {"timestamp_in_ms", "x-routed-by", "x-opt-rabbitmq-sent-time"}
        assert set(delivery.headers) - {"x-delivery-count", "x-acquired-count"} == added | {"own"}


class TestConsistentHashBindingWeight:
    """RabbitMQ: the weight of a binding of an `x-consistent-hash` exchange."""

    @behaviour("XTYPES-01")
    @rabbitmq(before="4.2")
    @lie("second-message-lost")
    def test_may_be_above_10_000_before_4_2(self, channel, drain, hashing):
        """The ring needs memory for each unit of weight, on each node: a mistake that nobody sees."""
        channel.queue_bind("work", "spread", "10001")

        for body in (b"1", b"2"):
            channel.basic_publish("spread", "any", body)

        assert drain("work") == [b"1", b"2"]

    @behaviour("XTYPES-01", "CHAN-03")
    @rabbitmq(since="4.3")
    @lie("precondition-hidden")
    def test_above_10_000_closes_the_channel_with_406_since_4_3(self, channel, refusal, drain, hashing):
        """Weights only have to be in proportion: 1 and 2 share out the messages as 10,000 and 20,000 do."""
        channel.queue_bind("work", "spread", "1")

        said = refusal(lambda careless: careless.queue_bind("work", "spread", "10001"))

        assert said.code == 406
        assert said.closed == "channel"
        assert "The binding key must not exceed 10000" in said.text
        channel.basic_publish("spread", "any", b"1")
        assert drain("work") == [b"1"]


class TestConsistentHashRouting:
    """RabbitMQ: which of its queues an `x-consistent-hash` exchange routes a message to."""

    @behaviour("XTYPES-02")
    @lie("key-lost")
    def test_is_to_the_same_queue_for_the_same_routing_key_while_the_bindings_stay(self, shards, queues_of):
        """Messages of one customer stay in order, although several consumers share the work."""
        shards()

        first, second = [[queues_of(number) for number in NUMBERS] for _ in range(2)]

        assert first == second
        assert sorted({*map(tuple, first)}) == [("left",), ("right",)]

    @behaviour("XTYPES-03")
    @lie("headers-lost", cases="header")
    @lie("message-id-lost", cases="property")
    @pytest.mark.parametrize(
        ("argument", "named", "having"),
        [
            ("hash-header", "customer", lambda value: pika.BasicProperties(headers={"customer": value})),
            ("hash-property", "message_id", lambda value: pika.BasicProperties(message_id=value)),
        ],
        ids=["header", "property"],
    )
    def test_is_by_a_header_or_property_instead_of_the_routing_key_if_the_exchange_names_one(
        self, shards, queues_of, argument, named, having
    ):
        """The key stays free for other exchanges; messages without that header or property all go to one queue."""
        shards({argument: named})

        by_value = [queues_of("any", having(number)) for number in NUMBERS]
        with_other_keys = [queues_of(number, having(number)) for number in NUMBERS]
        without = {tuple(queues_of(number)) for number in NUMBERS}

        assert sorted({*map(tuple, by_value)}) == [("left",), ("right",)]
        assert with_other_keys == by_value
        assert len(without) == 1

    @behaviour("XTYPES-04")
    @lie("one-binding-per-queue")
    def test_is_not_changed_by_a_second_binding_of_the_same_queue(self, channel, shards, queues_of):
        """Who binds a queue again with another weight has changed nothing: unbind it first."""
        shards()
        before = [queues_of(number) for number in NUMBERS]

        channel.queue_bind("left", "spread", "9")

        assert [queues_of(number) for number in NUMBERS] == before


@pytest.fixture
def shards(channel):
    """Makes `spread` of type `x-consistent-hash` with these arguments, and binds each of SHARDS with weight 1."""

    def make(arguments=None):
        channel.exchange_declare("spread", "x-consistent-hash", durable=True, arguments=arguments)
        for queue in SHARDS:
            channel.queue_declare(queue, durable=True)
            channel.queue_bind(queue, "spread", "1")

    yield make
    for queue in SHARDS:
        channel.queue_delete(queue)
    channel.exchange_delete("spread")


@pytest.fixture
def queues_of(channel, drain):
    """Publishes one message to `spread`, and says which of SHARDS got it: `queues_of("key", properties)`."""

    def publish(key, properties=None):
        channel.basic_publish("spread", key, b"order", properties)
        return [queue for queue in SHARDS if drain(queue)]

    return publish


class TestRandomExchange:
    """RabbitMQ: an exchange of type `x-random`, of the plugin `rabbitmq_random_exchange`."""

    @behaviour("XTYPES-05")
    @lie("second-message-lost")
    def test_delivers_each_message_to_one_of_its_queues_whatever_the_key(self, channel, drain, dice):
        """Work is shared out with a queue for each worker; messages of one customer do not stay in order."""
        bodies = [b"%02d" % number for number in range(40)]  # the same queue each time: once in 10**11 runs

        for body in bodies:
            channel.basic_publish("dice", "customer 7", body)

        left, right = drain("left"), drain("right")
        assert sorted(left + right) == bodies
        assert left != []
        assert right != []


@pytest.fixture
def dice(channel):
    """The exchange `dice` of type `x-random`, with two queues that are bound by other keys than anybody publishes."""
    channel.exchange_declare("dice", "x-random", durable=True)
    for queue in SHARDS:
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, "dice", f"key of {queue}")
    yield
    for queue in SHARDS:
        channel.queue_delete(queue)
    channel.exchange_delete("dice")


class TestRecentHistoryExchange:
    """RabbitMQ: an exchange of type `x-recent-history`, of the plugin `rabbitmq_recent_history_exchange`."""

    @behaviour("XTYPES-08")
    @lie("headers-lost")
    def test_delivers_its_last_messages_to_a_queue_that_is_bound_except_those_with_no_store(
        self, channel, drain, history
    ):
        """A client that comes later sees at once what was said last, and not what was for the moment only."""
        history(2)
        for body in (b"1", b"2", b"3"):
            channel.basic_publish("history", "", body)
        passing = pika.BasicProperties(headers={"x-recent-history-no-store": True})
        channel.basic_publish("history", "", b"is typing", passing)

        channel.queue_bind("work", "history")

        assert drain("work") == [b"2", b"3"]


@pytest.fixture
def history(channel):
    """Makes the exchange `history` of type `x-recent-history`, of this length, and the queue `work`: `history(2)`."""

    def make(length):
        channel.exchange_declare(
            "history", "x-recent-history", durable=True, arguments={"x-recent-history-length": length}
        )
        channel.queue_declare("work", durable=True)

    yield make
    channel.queue_delete("work")
    channel.exchange_delete("history")


@pytest.fixture
def hashing(channel):
    """The exchange `spread` of type `x-consistent-hash`, and the queue `work`."""
    channel.exchange_declare("spread", "x-consistent-hash", durable=True)
    channel.queue_declare("work", durable=True)
    yield
    channel.queue_delete("work")
    channel.exchange_delete("spread")


class TestQueueCreatedEvent:
    """RabbitMQ: the event `queue.created` of the plugin `rabbitmq_event_exchange`."""

    @behaviour("XTYPES-11")
    @lie("delivered-headers-lost")
    @pytest.mark.parametrize(
        "queue_type",
        [
            pytest.param(None, id="before_3_12", marks=rabbitmq(before="3.12")),
            pytest.param("rabbit_classic_queue", id="since_3_13", marks=rabbitmq(since="3.13")),
        ],
    )
    def test_has_no_type_before_3_12_and_names_a_module_since_3_13(self, event_channel, eventually, queue_type):
        """A program that compares the type with `classic` sees no classic queue any more."""
        event_channel.queue_declare("events", exclusive=True)
        event_channel.queue_bind("events", "amq.rabbitmq.event", "queue.created")

        event_channel.queue_declare("made", exclusive=True, arguments={"x-queue-type": "classic"})

        eventually(lambda: event_channel.queue_declare("events", passive=True).method.message_count, 1)
        _, properties, _ = event_channel.basic_get("events", auto_ack=True)
        headers = properties.headers or {}
        assert headers.get("name") == "made"
        assert headers.get("type") == queue_type


class TestConnectionCreatedEvent:
    """RabbitMQ: the event `connection.created` of the plugin `rabbitmq_event_exchange`."""

    @behaviour("PROTO-14")
    @lie("client-properties-lost")
    def test_shows_the_connection_name_of_a_client(self, url, event_channel, eventually):
        """An operator sees which program a connection belongs to; its address and port say little."""
        queue = event_channel.queue_declare("", exclusive=True).method.queue
        event_channel.queue_bind(queue, "amq.rabbitmq.event", "connection.created")
        parameters = pika.URLParameters(url)
        parameters.client_properties = {"connection_name": "till 7"}

        with pika.BlockingConnection(parameters):
            eventually(lambda: event_channel.queue_declare(queue, passive=True).method.message_count, 1)

        _, properties, _ = event_channel.basic_get(queue, auto_ack=True)
        assert (properties.headers or {}).get("user_provided_name") == "till 7"


@pytest.fixture
def event_channel(disposable_broker, route):
    """A channel in the vhost `/`, the only one that has the exchange of the events."""
    with pika.BlockingConnection(pika.URLParameters(route(disposable_broker.endpoint.url()))) as connection:
        yield connection.channel()


class TestConfigurationLine:
    """RabbitMQ: a line of `rabbitmq.conf` with which a node of a later release does not start."""

    @behaviour("CONF-01", "CONF-02")
    @rabbitmq(since="4.0")
    @lie(None, because="a broker that does not start says nothing that could be falsified")
    @pytest.mark.parametrize("line", KEYS_REMOVED_IN_4_0, ids=["classic_queue_version_1", "startup_delay"])
    def test_with_a_key_that_4_0_removed_stops_the_node_since_4_0(self, boot, line):
        """The upgrade ends with a node that is down: start the new release with that file, without data, to try it."""
        with pytest.raises(BrokerDied, match="prelaunch"):
            boot(line)

    @behaviour("CONF-03", "CONF-08")
    @rabbitmq(since="4.2")
    @lie(None, because="a broker that does not start says nothing that could be falsified")
    @pytest.mark.parametrize("line", REFUSED_SINCE_4_2, ids=["cacerts", "backend_without_plugin"])
    def test_with_a_removed_key_or_a_backend_whose_plugin_is_not_enabled_stops_the_node_since_4_2(self, boot, line):
        """Before, the node started and refused all logins; now it says at its start what is missing."""
        with pytest.raises(BrokerDied, match="application_start_failure"):
            boot(line)

    @behaviour("CONF-01", "CONF-02", "CONF-03", "CONF-08")
    @rabbitmq(before="4.0")
    @lie(None, because="that a broker starts cannot be falsified on the way")
    def test_with_any_of_these_does_not_stop_the_node_before_4_0(self, boot):
        """Such lines stand in files that were written years ago, and nobody has looked at them since."""
        boot(*KEYS_REMOVED_IN_4_0, *REFUSED_SINCE_4_2)


@pytest.fixture
def boot(broker, another_broker):
    """Starts a broker with these lines, and ends it again."""

    def start(*lines):
        try:
            broker.another(Configuration(lines=lines, management=False)).close()
        except NotOurs as reason:
            pytest.skip(f"not run: {reason}")

    return start
