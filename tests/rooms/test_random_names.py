"""Random names: what the broker hears in place of a test's names, and what the test hears in place of the broker's.

Code: rmqspec/tools/wire/names.py
"""

import pytest
from pika import BasicProperties, frame, spec

from rmqspec.client.decoding import ours
from rmqspec.tools.wire import Direction
from rmqspec.tools.wire.frames import Frames
from rmqspec.tools.wire.names import RandomNames

LONG = "n" * 250
EXCHANGES = ("hash", "delayed", "shop")
DEATH = {"count": 2, "reason": "rejected", "queue": "orders", "exchange": "shop", "routing-keys": ["order", ""]}


@pytest.fixture
def names():
    return RandomNames()


@pytest.fixture
def heard(names):
    """What the other side hears of a method or of a message's properties: `heard(spec.Queue.Purge(queue="q"))`."""
    taps = {direction: names.tap(direction) for direction in Direction}

    def pass_on(said, direction=Direction.FROM_CLIENT):
        whole = frame.Header(1, 7, ours(said)) if isinstance(said, BasicProperties) else frame.Method(1, ours(said))
        (piece,) = Frames().feed(taps[direction](whole.marshal()))
        assert piece.frame.channel_number == 1
        return getattr(piece.frame, "properties", None) or piece.frame.method

    return pass_on


def words_of(method):
    return {name: value for name, value in vars(method).items() if isinstance(value, str)}


class TestRandomNames:
    @pytest.mark.parametrize(
        ("method", "arguments"),
        [
            (spec.Queue.Declare(queue="a"), ["queue"]),
            (spec.Queue.Bind(queue="a", exchange="b", routing_key="c"), ["queue", "exchange", "routing_key"]),
            (spec.Queue.Unbind(queue="a", exchange="b", routing_key="c"), ["queue", "exchange", "routing_key"]),
            (spec.Queue.Purge(queue="a"), ["queue"]),
            (spec.Queue.Delete(queue="a"), ["queue"]),
            (spec.Exchange.Declare(exchange="a"), ["exchange"]),
            (
                spec.Exchange.Bind(destination="a", source="b", routing_key="c"),
                ["destination", "source", "routing_key"],
            ),
            (spec.Exchange.Delete(exchange="a"), ["exchange"]),
            (spec.Basic.Publish(exchange="", routing_key="a"), ["routing_key"]),
            (spec.Basic.Publish(exchange="a", routing_key="b.#"), ["exchange", "routing_key"]),
            (spec.Basic.Consume(queue="a", consumer_tag="t"), ["queue"]),
            (spec.Basic.Get(queue="a"), ["queue"]),
        ],
        ids=lambda value: value.NAME if hasattr(value, "NAME") else "-".join(value),
    )
    def test_stand_in_front_of_all_names_and_routing_keys(self, heard, names, method, arguments):
        """One that is forgotten names a queue that is not there, or worse, one that is somebody's."""
        expected = words_of(method) | {name: names.prefix + getattr(method, name) for name in arguments}

        assert words_of(heard(method)) == expected

    @pytest.mark.parametrize(
        ("said", "name"),
        [
            (spec.Queue.DeclareOk("{}orders", 0, 0), "queue"),
            (spec.Basic.Deliver("t", 1, False, "{}shop", "{}order"), "exchange"),
            (spec.Basic.GetOk(1, False, "", "{}orders", 0), "routing_key"),
            (spec.Basic.Return(312, "NO_ROUTE", "{}shop", "{}order"), "routing_key"),
            (spec.Channel.Close(404, "NOT_FOUND - no queue '{}orders' in vhost '/'", 50, 10), "reply_text"),
        ],
        ids=["declare-ok", "deliver", "get-ok", "return", "close"],
    )
    def test_are_taken_off_what_the_broker_says(self, heard, names, said, name):
        """Specs compare names, keys and reply texts."""
        words = getattr(said, name)
        vars(said).update({key: value.format(names.prefix) for key, value in words_of(said).items()})

        told = heard(said, Direction.FROM_BROKER)

        assert getattr(told, name) == words.format("")
        assert names.prefix not in str(vars(told))

    def test_make_an_empty_routing_key_one_word(self, heard, names):
        """It has no words, and `#` matches it while `*` does not; with a dot behind it would have two."""
        key = heard(spec.Basic.Publish(exchange="shop", routing_key="")).routing_key

        assert key == names.prefix.removesuffix(".")
        assert heard(spec.Basic.Deliver("t", 1, False, "", key), Direction.FROM_BROKER).routing_key == ""

    def test_leave_an_empty_key_beside_an_empty_queue(self, heard):
        """The protocol has it stand for the queue that was declared last."""
        assert heard(spec.Queue.Bind(queue="", exchange="shop", routing_key="")).routing_key == ""
        assert heard(spec.Queue.Bind(queue="q", exchange="shop", routing_key="")).routing_key != ""

    def test_leave_the_keys_of_bindings_to_exchanges_of_further_types(self, heard, names):
        """Of a consistent hash exchange they are weights, and a local random exchange allows none."""
        heard(spec.Exchange.Declare(exchange="hash", type="x-consistent-hash"))
        heard(spec.Exchange.Declare(exchange="delayed", type="x-delayed-message"))
        heard(spec.Exchange.Declare(exchange="shop", type="topic"))

        keys = {
            name: heard(spec.Queue.Bind(queue="q", exchange=name, routing_key="1")).routing_key for name in EXCHANGES
        }

        assert keys == {"hash": "1", "delayed": f"{names.prefix}1", "shop": f"{names.prefix}1"}
        assert heard(spec.Exchange.Bind(destination="q", source="hash", routing_key="1")).routing_key == "1"
        assert heard(spec.Queue.Unbind(queue="q", exchange="hash", routing_key="1")).routing_key == "1"

    def test_leave_a_name_that_is_no_utf_8(self, names):
        """A spec that wants to see how a broker refuses it must not lose its connection to the proxy."""
        whole = frame.Method(1, spec.Queue.Declare(queue="abc")).marshal().replace(b"abc", b"a\xffc")

        assert names.tap(Direction.FROM_CLIENT)(whole) == whole

    @pytest.mark.parametrize("name", ["", "amq.topic", "amq.rabbitmq.reply-to", LONG])
    def test_leave_names_that_nobody_can_change(self, heard, name):
        """Those of the broker are the same in each vhost, and a longer one would not fit into its frame."""
        assert heard(spec.Queue.Purge(queue=name)).queue == name

    def test_leave_names_that_the_broker_has_given(self, heard):
        """A reply goes to such a queue through the default exchange, by its name."""
        heard(spec.Queue.Declare(queue=""))
        heard(spec.Queue.DeclareOk("generated-7", 0, 0), Direction.FROM_BROKER)

        assert heard(spec.Basic.Publish(exchange="", routing_key="generated-7")).routing_key == "generated-7"

    def test_stand_in_arguments_that_name_exchanges_or_keys(self, heard, names):
        """And nowhere else: an overflow behaviour is no name."""
        arguments = {
            "x-dead-letter-exchange": "dlx",
            "x-dead-letter-routing-key": "dead",
            "x-overflow": "drop-head",
            "x-max-length": 1,
        }

        said = heard(spec.Queue.Declare(queue="q", arguments=arguments)).arguments
        alternate = heard(spec.Exchange.Declare(exchange="e", arguments={"alternate-exchange": "a"})).arguments

        changed = {name: names.prefix + arguments[name] for name in list(arguments)[:2]}
        assert said == arguments | changed
        assert alternate == {"alternate-exchange": f"{names.prefix}a"}

    def test_leave_arguments_of_another_type(self, heard):
        """A spec may say something wrong on purpose, and wants to hear what the broker says to that."""
        arguments = {"x-dead-letter-exchange": 7, "x-dead-letter-routing-key": None}

        assert heard(spec.Queue.Declare(queue="q", arguments=arguments)).arguments == arguments

    def test_stand_in_the_keys_of_cc_and_bcc(self, heard, names):
        """They route as the routing key does; RabbitMQ leaves CC in the message."""
        said = heard(BasicProperties(headers={"CC": ["a", ""], "BCC": ["b"], "other": ["c"]}, reply_to="replies"))

        word = names.prefix.removesuffix(".")
        assert said.headers == {"CC": [f"{names.prefix}a", word], "BCC": [f"{names.prefix}b"], "other": ["c"]}
        assert said.reply_to == "replies"
        assert heard(said, Direction.FROM_BROKER).headers == {"CC": ["a", ""], "BCC": ["b"], "other": ["c"]}

    def test_stand_in_an_x_death_that_is_published_again(self, heard, names):
        """The broker counts on in it, and finds cycles by it: it must know its queues."""
        headers = {"x-death": [DEATH], "x-first-death-queue": "orders", "x-first-death-reason": "rejected"}

        said = heard(BasicProperties(headers=headers))

        (death,) = said.headers["x-death"]
        word = names.prefix.removesuffix(".")
        assert (death["queue"], death["exchange"]) == (f"{names.prefix}orders", f"{names.prefix}shop")
        assert death["routing-keys"] == [f"{names.prefix}order", word]
        assert (said.headers["x-first-death-queue"], death["count"]) == (f"{names.prefix}orders", 2)
        assert heard(said, Direction.FROM_BROKER).headers == headers

    def test_pass_all_else_byte_for_byte(self, names):
        """Bodies, heartbeats, and what is no frame at all: a spec may send nonsense on purpose."""
        stream = b"".join(
            (
                b"AMQP\x00\x00\x09\x01",
                frame.Heartbeat().marshal(),
                frame.Method(1, spec.Basic.Ack(delivery_tag=1)).marshal(),
                frame.Header(1, 6, BasicProperties(content_type="text/plain")).marshal(),
                frame.Body(1, b"orders").marshal(),
                b"\x09no frame",
            )
        )
        tap = names.tap(Direction.FROM_CLIENT)

        passed = b"".join(tap(stream[at : at + 5]) for at in range(0, len(stream), 5)) + tap(b"")

        assert passed == stream

    def test_are_noted_as_they_were_declared(self, heard, names):
        """What is not noted is not deleted; a passive declare makes nothing."""
        heard(spec.Exchange.Declare(exchange="shop"))
        heard(spec.Queue.Declare(queue="orders"))
        heard(spec.Queue.Declare(queue="others", passive=True))
        heard(spec.Exchange.Declare(exchange="amq.topic"))
        heard(spec.Queue.DeclareOk("amq.gen-1", 0, 0), Direction.FROM_BROKER)

        assert list(names.declared) == [
            ("exchange", f"{names.prefix}shop"),
            ("queue", f"{names.prefix}orders"),
            ("queue", "amq.gen-1"),
        ]

    def test_are_others_for_each_test(self):
        """What one has left cannot be met by another, though the broker does not delete it."""
        assert len({RandomNames().prefix for _ in range(100)}) == 100
