"""What the lesson book draws: a recording as steps, declarations as a map."""

from rmqspec.tools.book.sequence import story
from rmqspec.tools.book.topology import topology

from .book_records import NODE, WIRE, asked, event


class TestStory:
    """Steps of a recording."""

    def test_tells_what_belongs_together_as_one_step(self):
        """Nineteen methods are noise; what a reader looks for is the message and where it went."""
        told = [f"{step.lane} {step.arrow} {step.method} {step.words}" for step in story(WIRE, 0, NODE).steps]
        told = [words.removesuffix(" ⇢ ok 0 ready, 0 consumers") for words in told]

        assert told == [
            "this test ⇄ opens a connection and a channel",
            "this test ⇄ exchange.declare orders.dlx, fanout ⇢ ok",
            "this test ⇄ queue.declare orders, x-dead-letter-exchange=orders.dlx, x-max-length=2",
            "this test ⇄ queue.declare orders.failed",
            "this test ⇄ queue.bind orders.dlx to orders.failed, key order ⇢ ok",
            "this test ⇄ basic.publish to (default), key orders, “no such customer” ⇢ ack #1",
            "worker-1 ⇄ opens a connection and a channel",
            "worker-1 ← basic.deliver #1 from (default), key orders, “no”",
            "worker-1 → basic.reject #1",
        ]

    def test_says_many_of_one_kind_as_one(self):
        """Two hundred arrows that look alike hide the one that does not."""
        events = [event("basic.publish", exchange="", routing_key="q", body=f"{n}") for n in range(200)]

        (step,) = story(events, 0, NODE).steps

        assert (step.times, step.body) == (200, "0")

    def test_says_how_much_of_a_long_one_is_missing(self):
        """A picture that ends silently in the middle tells something that is not true."""
        events = [event("basic.publish", exchange="", routing_key=f"q{n}") for n in range(400)]

        told = story(events, 1000, NODE)

        assert len(told.steps) + told.missing == 1400
        assert (told.head[0].words, told.tail[-1].words) == ("to (default), key q0", "to (default), key q399")

    def test_tells_who_closed(self):
        """The broker's refusal and the client's goodbye are one method."""
        refused = event("channel.close", "broker", reply_code=404, reply_text="NOT_FOUND"), event("channel.close-ok")

        (step,) = story(refused, 0, NODE).steps

        assert (step.arrow, step.words) == ("⇆", "404 NOT_FOUND ⇢ ok")


class TestTopology:
    """What a spec declared."""

    def test_knows_the_ways_of_messages(self):
        """A dead letter takes another way than a message that a binding fits."""
        alternate = asked(
            "exchange.declare", exchange="shop", type="direct", arguments={"alternate-exchange": "orders.dlx"}
        )

        ways = {(edge.source[1], edge.target[1], edge.style) for edge in topology([*alternate, *WIRE]).edges}

        assert ways == {
            ("shop", "orders.dlx", "alternate"),
            ("orders", "orders.dlx", "dead letter"),
            ("orders.dlx", "orders.failed", "binding"),
            ("(default exchange)", "orders", "binding"),
        }

    def test_leaves_out_what_the_broker_refused(self):
        """A refused queue was never there, however clearly it was asked for."""
        refusal = event("channel.close", "broker", reply_code=406, reply_text="PRECONDITION_FAILED")

        shown = topology([event("queue.declare", queue="refused"), refusal, *WIRE])

        assert ("queue", "refused") not in shown.nodes
        assert ("queue", "orders") in shown.nodes

    def test_learns_the_name_that_the_broker_gave(self):
        """A queue without a name gets one in the answer, and is bound by it."""
        events = [
            event("queue.declare", queue=""),
            event("queue.declare-ok", "broker", queue="amq.gen-1"),
            *asked("queue.bind", queue="amq.gen-1", exchange="amq.fanout", routing_key=""),
        ]

        (edge,) = topology(events).edges

        assert edge.ends == (("exchange", "amq.fanout"), ("queue", "amq.gen-1"))

    def test_says_what_it_leaves_out(self):
        """Forty queues in one picture are no picture."""
        events = [one for n in range(40) for one in asked("queue.declare", queue=f"q{n}")]

        assert (len(topology(events).nodes), topology(events).left_out) == (12, 28)
