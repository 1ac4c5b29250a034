"""`rmqspec upgrade --definitions`, held against two real brokers: what it finds comes true, row by row.

A broker of 3.10 gets one of everything that an export shows, and its neighbours that nothing concerns, each row of the
table in a vhost of its own. Its export is given to the command. Then all that is in the export is declared on a broker
of 4.3: what breaks must be refused with the code that the row names, all else must be accepted, and what changes must
behave as its row says, and not have behaved so before.

Code: rmqspec/tools/upgrade/recognisers.py, rmqspec/tools/upgrade/definitions.py, rmqspec/tools/upgrade/differences.toml
"""

import json
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial

import pika
import pytest
from click.testing import CliRunner
from pika import data
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker, ConnectionClosedByBroker

from rmqspec.cli.main import cli
from rmqspec.tools.broker import Configuration, ManagementError, Unavailable
from rmqspec.tools.broker.container import ContainerBroker
from rmqspec.tools.broker.engine import fetch
from rmqspec.tools.upgrade import Kind, Release, between

from .upgrade_exports import CONCERNED, clean, queue

pytestmark = pytest.mark.timeout(240)  # two containers boot, each of them twice

OLD, NEW = "rabbitmq:3.10-management", "rabbitmq:4.3-management"
PLUGINS = ("rabbitmq_consistent_hash_exchange", "rabbitmq_event_exchange")
# What 4.3 denies, whoever has built it: some packages permit it.
DENIED = ("deprecated_features.permit.transient_nonexcl_queues = false",)

WITHOUT_A_BROKER = {"B91"}  # an exchange of a plugin that does not ship
REFUSED_BY_OLD = {"queue 'led' in vhost 'B25'", "queue 'odd' in vhost 'B70'"}  # neighbours that 3.10 does not know
ROWS = {name: case for name, case in CONCERNED.items() if name not in WITHOUT_A_BROKER}
OF_DEFAULT_VHOST = {"B83"}  # the exchange of the events is nowhere else
ALL = {"configure": ".*", "write": ".*", "read": ".*"}
PASSWORDS = {"guest": "guest", "anna": "a password of this test"}
ORDER = ("exchanges", "policies", "parameters", "queues", "bindings", "topic_permissions")


@pytest.fixture(scope="module", autouse=True)
def floats():
    """Teaches pika to write floats, which it only reads: the letter d and eight bytes."""

    def encode(pieces, value, original=data.encode_value):
        if not isinstance(value, float):
            return original(pieces, value)
        pieces.append(struct.pack(">cd", b"d", value))
        return 9

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "encode_value", encode)
        yield


def vhost_of(name):
    return "/" if name in OF_DEFAULT_VHOST else name


def called(part, row):
    """How the report calls a row of an export."""
    place = f"in vhost {row['vhost']!r}"
    if part == "bindings":
        target = f"{row['destination_type']} {row['destination']!r}"
        return f"binding of {target} to exchange {row['source']!r} with key {row['routing_key']!r} {place}"
    if part == "topic_permissions":
        return f"user {row['user']!r} at exchange {row['exchange']!r} {place}"
    kind = {"queues": "queue", "exchanges": "exchange", "policies": "policy", "parameters": "operator policy"}[part]
    return f"{kind} {row['name']!r} {place}"


def listed(export):
    """The rows of an export that can be declared, as (part, row), in the order in which they need each other."""
    for part in ORDER:
        for row in export.get(part, []):
            if part != "parameters" or row["component"] == "operator_policy":
                yield part, row


@contextmanager
def channel_in(broker, vhost, credentials=None):
    parameters = pika.URLParameters(broker.endpoint.url(vhost))
    if credentials is not None:
        parameters.credentials = credentials
    connection = pika.BlockingConnection(parameters)
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel
    finally:
        with suppress(AMQPConnectionError):  # pika notices only here that the broker has gone
            connection.close()


def declare(broker, part, row):
    """Declares a row of an export, and returns the code of the refusal; 0 if it was accepted."""
    try:
        if part in DECLARED_OVER_HTTP:
            DECLARED_OVER_HTTP[part](broker.management, row)
        else:
            with channel_in(broker, row["vhost"]) as channel:
                DECLARED_OVER_AMQP[part](channel, row)
    except (ChannelClosedByBroker, ConnectionClosedByBroker) as error:
        return error.reply_code
    except ManagementError as error:
        return error.status
    return 0


def declare_queue(channel, row):
    options = {key: row[key] for key in ("durable", "auto_delete", "arguments")}
    channel.queue_declare(row["name"], exclusive=row.get("exclusive", False), **options)


def declare_exchange(channel, row):
    options = {key: row[key] for key in ("durable", "auto_delete", "arguments")}
    channel.exchange_declare(row["name"], row["type"], **options)


def bind(channel, row):
    channel.queue_bind(row["destination"], row["source"], row["routing_key"], row["arguments"])


def set_policy(management, row):
    management.set_policy(
        row["vhost"],
        row["name"],
        row["pattern"],
        row["definition"],
        priority=row["priority"],
        apply_to=row["apply-to"],
    )


def set_operator_policy(management, row):
    value = row["value"]
    management.set_policy(
        row["vhost"], row["name"], value["pattern"], value["definition"], apply_to=value["apply-to"], operator=True
    )


def permit_topics(management, row):
    management.permit_topics(row["vhost"], row["user"], row["exchange"], row["write"], row["read"])


DECLARED_OVER_AMQP = {"queues": declare_queue, "exchanges": declare_exchange, "bindings": bind}
DECLARED_OVER_HTTP = {"policies": set_policy, "parameters": set_operator_policy, "topic_permissions": permit_topics}


def make_users(broker, vhosts):
    for name, password in PASSWORDS.items():
        broker.management.create_user(name, password)
        for vhost in vhosts:
            broker.management.permit(vhost, name, **ALL)


def in_vhost(parts, vhost):
    """Rows of the table, moved into a vhost; with the queues that their bindings lead to."""
    moved = {part: [{**row, "vhost": vhost} for row in parts.get(part, [])] for part in ORDER}
    names = {row["name"] for row in moved["queues"]}
    missing = {row["destination"] for row in moved["bindings"]} - names
    moved["queues"] += [{**queue(name), "vhost": vhost} for name in sorted(missing)]
    if moved["topic_permissions"]:
        topic = {"name": "logs", "type": "topic", "durable": True, "auto_delete": False, "arguments": {}}
        moved["exchanges"].append({**topic, "vhost": vhost})
    return moved


@pytest.fixture(scope="module")
def brokers(docker):
    """A broker of 3.10 and one of 4.3, which boot at the same time."""
    for image in (OLD, NEW):
        try:
            fetch(docker, image)
        except Unavailable as reason:
            pytest.skip(f"not run: {reason}")
    with ThreadPoolExecutor() as pool:
        starting = [
            pool.submit(ContainerBroker, OLD, Configuration(plugins=PLUGINS)),
            pool.submit(ContainerBroker, NEW, Configuration(lines=DENIED, plugins=PLUGINS)),
        ]
    failed = [one.exception() for one in starting if one.exception()]
    started = [one.result() for one in starting if not one.exception()]
    try:
        if failed:
            raise failed[0]
        yield started
    finally:
        for one in started:
            one.close()


@pytest.fixture(scope="module")
def old(brokers):
    return brokers[0]


@pytest.fixture(scope="module")
def new(brokers):
    return brokers[1]


@pytest.fixture(scope="module")
def clean_export(old):
    """What 3.10 exports while it has nothing but a vhost that no upgrade concerns."""
    old.management.create_vhost("clean")
    refused = [called(part, row) for part, row in listed(in_vhost(clean(), "clean")) if declare(old, part, row)]
    assert refused == []
    return old.management.get("definitions")


@pytest.fixture(scope="module")
def whole_export(old, clean_export):
    """What 3.10 exports when it has one of everything."""
    vhosts = {vhost_of(name) for name in ROWS}
    for vhost in vhosts - {"/"}:
        old.management.create_vhost(vhost)
    make_users(old, vhosts)
    refused = set()
    for name, (concerned, _, neighbour) in ROWS.items():
        both = {part: [*concerned.get(part, []), *neighbour.get(part, [])] for part in ORDER}
        rows = listed(in_vhost(both, vhost_of(name)))
        refused |= {called(part, row) for part, row in rows if declare(old, part, row)}
    assert refused == REFUSED_BY_OLD
    return old.management.get("definitions")


@pytest.fixture(scope="module")
def ask(old, new, tmp_path_factory):
    """Asks the command about an export: `ask(export)` is its exit code and its answer."""

    def about(export):
        file = tmp_path_factory.mktemp("export") / "rabbit.json"
        file.write_text(json.dumps(export))
        versions = (old.identity.version, new.identity.version)
        ended = CliRunner().invoke(cli, ["upgrade", *versions, "--definitions", str(file), "--json"])
        return ended.exit_code, json.loads(ended.output)

    return about


@pytest.fixture(scope="module")
def found(ask, whole_export):
    """The findings of the export with everything: {id: what is concerned, by name}."""
    return {row["id"]: row["concerned"] for row in ask(whole_export)[1]["rows"]}


@pytest.fixture(scope="module")
def crossed(old, new):
    """The differences between the two brokers, by id."""
    rows = between(Release.parse(old.identity.version), Release.parse(new.identity.version))
    return {row.id: row for row in rows}


@pytest.fixture(scope="module")
def outcomes(new, whole_export):
    """What became of each row of the export on 4.3: {its name: (its part, the code of the refusal or 0)}."""
    vhosts = {row["name"] for row in whole_export["vhosts"]}
    for vhost in vhosts - {"/"}:
        new.management.create_vhost(vhost)
    make_users(new, vhosts)
    return {called(part, row): (part, declare(new, part, row)) for part, row in listed(whole_export)}


class TestCleanExport:
    """The export of a broker that the upgrade does not concern."""

    def test_has_no_finding_and_exit_code_0(self, ask, clean_export):
        """Only what comes true may stop a pipeline."""
        code, answer = ask(clean_export)

        assert answer["rows"] == []
        assert code == 0

    def test_is_accepted_as_a_whole(self, outcomes, clean_export):
        """Nothing found would be worth little if the new broker refused it all the same."""
        names = [called(part, row) for part, row in listed(clean_export)]

        assert {name: outcomes[name][1] for name in names} == dict.fromkeys(names, 0)
        assert len(names) > 5


class TestExportWithEverything:
    """The export of a broker with one of everything that can be recognised in an export."""

    def test_has_a_finding_for_each_difference_between_the_two_brokers(self, ask, found, crossed, whole_export):
        """An export of a real broker is written otherwise than one that was made for a test."""
        assert set(found) == ROWS.keys() & crossed.keys()
        assert ask(whole_export)[0] == 1

    def test_is_refused_where_it_breaks_with_the_code_of_the_row_and_accepted_elsewhere(self, found, crossed, outcomes):
        """A finding too many costs work; one that is missing is met in production."""
        breaks = {
            thing: crossed[name]
            for name, things in found.items()
            for thing in things
            if crossed[name].kind is Kind.BREAKS and name not in AFTER
        }

        def expected(thing, part):
            rows = [row for name, row in breaks.items() if name == thing or name.startswith(f"{thing}, ")]
            if not rows:
                return 0
            return 400 if part == "policies" else int(re.search(r"\b[45]\d\d\b", rows[0].after)[0])

        seen = {thing: code for thing, (_, code) in outcomes.items()}
        assert seen == {thing: expected(thing, part) for thing, (part, _) in outcomes.items()}
        assert sorted({code for code in seen.values() if code}) == [400, 406, 541]

    def test_has_a_check_below_for_each_finding_that_is_no_refusal_of_a_declaration(self, found, crossed):
        """A row that nobody looks at may say anything."""
        others = {name for name in found if crossed[name].kind is not Kind.BREAKS}

        assert others - AFTER.keys() == set()

    def test_has_the_same_findings_of_a_vhost_as_the_export_of_that_vhost_alone(self, ask, old, found, whole_export):
        """3.10 writes the vhost at policies and not at queues; a queue with a limit would pass for one without."""
        rows = {row["id"]: row["concerned"] for row in ask(old.management.get("definitions/B04"))[1]["rows"]}

        assert rows["B04"] == [name for name in found["B04"] if name.endswith("in vhost 'B04'")]
        assert len(rows["B04"]) == 2


class Visit:
    """A channel in the vhost of one row, on one of the two brokers; nothing is waited for longer than `within`."""

    def __init__(self, broker, vhost, channel, eventually, within):
        self.broker, self.vhost, self.channel = broker, vhost, channel
        self.eventually = partial(eventually, within=within)

    def publish(self, queue, *bodies, exchange="", **properties):
        for body in bodies:
            self.channel.basic_publish(exchange, queue, body, pika.BasicProperties(**properties))

    def count(self, queue):
        return self.channel.queue_declare(queue, passive=True).method.message_count

    def deliveries_of_a_rejected_message(self, queue, most=25):
        """How often a message comes that is rejected each time; three seconds without one are the end."""
        consumer = self.channel.connection.channel()
        consumer.basic_qos(prefetch_count=1)
        self.publish(queue, b"poison")
        count = 0
        for method, _, _ in consumer.consume(queue, inactivity_timeout=3):
            if method is None:
                break
            count += 1
            consumer.basic_reject(method.delivery_tag, requeue=count < most)
            if count == most:
                break
        consumer.close()
        return count

    def list_queues(self, column):
        """A column of `rabbitmqctl list_queues`, by queue; statistics of the management API would lag behind."""
        rows = self.broker.control("list_queues", "-p", self.vhost, "--formatter", "json", "name", column)
        return {row["name"]: row[column] for row in json.loads(rows)}


AFTER = {}


def row(name):
    """Registers what holds on the new broker, and not on the old one, for a row of the table."""

    def register(check):
        AFTER[name] = check
        return check

    return register


@row("B04")
def deletes_the_message_after_20_failures(at):
    """Also where a policy seems to limit it: one of its keys is not for quorum queues, so it is not applied."""
    assert at.deliveries_of_a_rejected_message("unlimited") == 21
    assert at.deliveries_of_a_rejected_message("masked") == 21


@row("B06")
def has_no_limit(at):
    assert at.deliveries_of_a_rejected_message("for-ever") == 25


@row("B12")
def cancels_a_consumer_at_the_timeout_of_its_queue(at):
    cancelled = []
    at.channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    at.publish("hasty", b"first")
    at.channel.basic_consume("hasty", lambda *_: None, consumer_tag="hanging")

    def so_far():
        at.channel.connection.process_data_events(time_limit=0)
        return cancelled

    at.eventually(so_far, ["hanging"])


class Anonymous(pika.PlainCredentials):
    """No user and no password."""

    def response_for(self, start):
        return "ANONYMOUS", b""


@row("B20")
def logs_anybody_in_as_guest(at):
    try:
        with channel_in(at.broker, at.vhost, Anonymous("", "")) as channel:
            channel.queue_declare("mine", exclusive=True)
            channel.basic_publish("", "mine", b"who?", pika.BasicProperties(user_id="guest"))
            logged_in_as = "guest"
    except AMQPConnectionError:
        logged_in_as = "nobody"

    assert logged_in_as == "guest"


@row("B22")
def checks_the_keys_in_cc(at):
    codes = []
    for copies in ([], ["another"]):
        with channel_in(at.broker, at.vhost, ANNA) as channel:
            try:
                channel.basic_publish("logs", "x", b"news", pika.BasicProperties(headers={"CC": copies}))
                codes.append(0)
            except ChannelClosedByBroker as error:
                codes.append(error.reply_code)

    assert codes == [0, 403]


@row("B24")
def keeps_as_much_in_memory_of_a_lazy_queue_as_of_others(at):
    for name in ("lazy", "plain"):
        at.publish(name, *[b"letter"] * 10)

    in_memory = at.list_queues("messages_ram")

    assert in_memory["lazy"] == in_memory["plain"]


@row("B34")
def keeps_a_transient_exchange_at_a_restart(at):
    at.broker.kill()  # quicker than a stop in good order, and no more is lost of what is durable
    at.broker.start()

    with channel_in(at.broker, at.vhost) as channel:
        try:
            channel.exchange_declare("brief", passive=True)
            kept = True
        except ChannelClosedByBroker:
            kept = False

    assert kept


@row("B35")
def matches_no_integer_with_a_float(at):
    at.publish("", b"integer", exchange="amq.headers", headers={"version": 1})
    at.publish("", b"float", exchange="amq.headers", headers={"version": 1.0})

    assert at.count("floats") == 1


@row("B39")
def delays_a_rejected_message(at):
    at.channel.queue_declare("at-once", durable=True, arguments={"x-queue-type": "quorum"})
    for name in ("retried", "at-once"):
        at.publish(name, b"failed")
        at.eventually(lambda name=name: at.count(name), 1)
        method, _, _ = at.channel.basic_get(name)
        at.channel.basic_reject(method.delivery_tag, requeue=True)
    at.eventually(lambda: at.count("at-once"), 1)

    assert at.count("retried") == 0


@row("B40")
def activates_a_consumer_of_higher_priority(at):
    got = []
    for priority in (1, 10):
        consumer = at.channel.connection.channel()
        consumer.basic_consume(
            "alone",
            lambda _, method, *__, priority=priority: got.append(priority),
            auto_ack=True,
            arguments={"x-priority": priority},
        )
    at.publish("alone", b"work")

    def so_far():
        at.channel.connection.process_data_events(time_limit=0)
        return got

    at.eventually(so_far, [10])


@row("B70")
def has_two_levels(at):
    at.publish("flat", b"low", priority=0)
    at.publish("flat", b"high", priority=1)

    _, _, first = at.channel.basic_get("flat", auto_ack=True)

    assert first == b"high"


@row("B74")
def applies_no_policy_with_max_in_memory_length(at):
    assert at.list_queues("policy")["in-memory"] == ""


@row("B74-2")
def applies_the_policy_with_queue_leader_locator(at):
    assert at.list_queues("policy")["placed"] == "places"


@row("B83")
def names_a_module_as_the_type_of_a_queue(at):
    at.channel.queue_purge("orders")
    at.channel.queue_declare("made", exclusive=True, arguments={"x-queue-type": "classic"})
    at.eventually(lambda: at.count("orders"), 1)

    _, properties, _ = at.channel.basic_get("orders", auto_ack=True)

    assert properties.headers.get("type") == "rabbit_classic_queue"


ANNA = pika.PlainCredentials("anna", PASSWORDS["anna"])
# The restart comes last: what else is in these vhosts may not survive it.
each = pytest.mark.parametrize("name", sorted(AFTER, key=lambda name: (name == "B34", name)))


class TestRow:
    """A difference that the command has found, after and before the upgrade."""

    @each
    def test_holds_on_the_new_broker(self, name, found, outcomes, new, eventually):
        """The report says what will happen; here it happens."""
        if name not in found:
            pytest.skip(f"not run: {name} is no difference of these two releases")
        with channel_in(new, vhost_of(name)) as channel:
            AFTER[name](Visit(new, vhost_of(name), channel, eventually, within=10))

    @each
    def test_does_not_hold_on_the_old_broker(self, name, found, old, eventually):
        """What was so before the upgrade is no difference, and a check that passes everywhere shows nothing."""
        if name not in found:
            pytest.skip(f"not run: {name} is no difference of these two releases")
        with channel_in(old, vhost_of(name)) as channel:
            visit = Visit(old, vhost_of(name), channel, eventually, within=2)
            with pytest.raises((AssertionError, pytest.fail.Exception)):
                AFTER[name](visit)
