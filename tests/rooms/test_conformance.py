"""What the maker of another broker has: a broker known by its URL alone, `--like`, `--known` and `--conformance`.

Code: rmqspec/tools/plugin/one_vhost.py, rmqspec/tools/plugin/known.py, rmqspec/tools/plugin/conformance.py
"""

import json
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest
from pika import spec

from rmqspec.client import connect
from rmqspec.tools.broker import Endpoint, Identity, NoManagement, NotOurs, Unavailable
from rmqspec.tools.broker.url import UrlBroker
from rmqspec.tools.plugin.known import Known, of_others
from rmqspec.tools.plugin.one_vhost import OneVhost
from rmqspec.tools.wire import Frames, Proxy

CONFTEST = 'pytest_plugins = ["rmqspec.tools.plugin"]\n'
INI = "[pytest]\naddopts = -p no:cacheprovider -p no:randomly -p no:random_order --dist=loadfile\n"

SPECS = """
import pytest
behaviour = pytest.mark.behaviour

class TestQueue:
    @behaviour("QUEUE-01")
    def test_holds(self, channel): channel.queue_declare("orders", durable=True)
    @behaviour("QUEUE-01")
    def test_holds_too(self): pass
    @behaviour("QUEUE-02")
    @pytest.mark.parametrize("case", ["good", "bad"])
    def test_differs(self, case): assert case == "good", "so it is here"
    @behaviour("QUEUE-03")
    def test_fails(self): assert 1 == 2
    @behaviour("QUEUE-04")
    def test_needs_a_policy(self, broker, vhost): broker.management.set_policy(vhost, "p", ".*", {"max-length": 1})
    @behaviour("QUEUE-05")
    @pytest.mark.rabbitmq(since="99.0")
    def test_is_of_the_future(self): assert False

class TestClient:
    def test_is_about_no_behaviour(self): pass
"""

KNOWN = """# what differs
QUEUE-02 = "bad cases are not done yet"
"""


@pytest.fixture
def url_alone(broker, vhost):
    """All that is known of a broker."""
    return broker.endpoint.url(vhost)


@pytest.fixture
def suite(pytester, url_alone, monkeypatch):
    """Runs pytest in a process of its own: `suite(source, "--known", "known.toml", known="…")`."""
    pytester.makeini(INI)
    monkeypatch.delenv("RABBITMQ_MANAGEMENT_URL", raising=False)
    monkeypatch.setenv("RABBITMQ_URL", url_alone)
    monkeypatch.setenv("RABBITMQ_BROKER", "")

    def run(source, *arguments, known=None, conftest="", ini=""):
        pytester.makeconftest(CONFTEST + conftest)
        pytester.makeini(INI + ini)
        pytester.makepyfile(test_it=source)
        if known is not None:
            (pytester.path / "known.toml").write_text(known)
            arguments = (*arguments, "--known", "known.toml")
        return pytester.runpytest_subprocess(*arguments)

    return run


@pytest.fixture
def conformance(suite, pytester):
    """The same with `--conformance`; returns what pytest has shown and what the file says."""

    def run(source, *arguments, **more):
        result = suite(source, "--conformance", "report.json", *arguments, **more)
        return result, json.loads((pytester.path / "report.json").read_text())

    return run


LISTENS = """
import atexit, json, sys
asked = set()

def hear(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        asked.add(arguments[1][:2])

sys.addaudithook(hear)
atexit.register(lambda: open("asked.json", "w").write(json.dumps(sorted(map(list, asked)))))
"""


NEEDS = {
    "policy": (
        "broker, vhost): broker.management.set_policy(vhost, 'p', '', {})",
        "policies are set by the management",
    ),
    "vhost": ("vhosts): vhosts.take()", "vhosts are set by the management"),
    "user": ("broker): broker.management.create_user('u', 'p')", "users are set by the management"),
    "question": ("broker): broker.management.connection_names()", "connections are asked for by the management"),
    "rabbitmqctl": ("broker): broker.control('status')", "is not controlled from here"),
    "restart": ("broker): broker.restart()", "is not started from here"),
    "another": ("disposable_broker): pass", "specs that restart or kill one are not run"),
}


def without_exchange_delete(direction):
    """A tap behind which a broker does not hear of it."""
    frames = Frames()

    def hear(data):
        pieces = frames.feed(data)
        deletes = [isinstance(getattr(piece.frame, "method", None), spec.Exchange.Delete) for piece in pieces]
        return b"".join(piece.raw for piece, is_delete in zip(pieces, deletes, strict=True) if not is_delete)

    return hear


class TestUrlWithoutManagement:
    """A broker of which nothing but its AMQP URL was given."""

    def test_is_asked_nothing_at_an_address_that_was_not_given(self, suite, broker, pytester):
        """What answers at port 15672 of the same host may be the management API of quite another broker."""
        result = suite(SPECS, conftest=LISTENS)

        result.assert_outcomes(passed=4, failed=2, skipped=2)
        asked = {tuple(place) for place in json.loads((pytester.path / "asked.json").read_text())}
        at = broker.endpoint
        own = {(host, port) for host, port in asked if host == "127.0.0.1" and port >= 32_768}  # of proxies, of pika
        assert asked - own == {(at.host, at.port)}

    def test_is_said_in_the_header(self, suite, vhost):
        """Which vhost is used matters to whoever has more in it."""
        result = suite(SPECS)

        line = f"vhost: {vhost}, for all tests in turn, with random names: no --rabbitmq-management-url was given"
        assert line in result.outlines

    def test_lets_specs_use_equal_names_one_after_the_other(self, suite):
        """Without a vhost for each the second would find the message of the first, or another kind of queue."""
        source = """
            def test_makes_a_durable_queue(channel, drain):
                channel.queue_declare("orders", durable=True)
                channel.basic_publish("", "orders", b"first")
                assert channel.queue_declare("orders", passive=True).method.message_count == 1
            def test_makes_another_of_that_name(channel, drain):
                channel.queue_declare("orders", durable=False, arguments={"x-max-length": 1}, exclusive=True)
                assert drain("orders") == []
        """

        suite(source).assert_outcomes(passed=2)

    def test_leaves_what_was_in_the_vhost(self, suite, broker, vhost, channel, drain):
        """A queue that happens to have the name of a spec's is somebody's, and so is the message in it."""
        channel.queue_declare("orders", durable=True)
        channel.basic_publish("", "orders", b"of somebody else")
        exchanges = broker.management.exchanges(vhost)
        source = """
            def test_uses_the_name(channel, drain):
                channel.exchange_declare("shop", "topic", durable=True)
                channel.queue_declare("orders", durable=True)
                channel.queue_bind("orders", "shop", "#")
                channel.basic_publish("shop", "", b"a spec's")
                assert drain("orders") == [b"a spec's"]
                channel.queue_purge("orders")
            def test_deletes_what_it_has_not_made(channel):
                channel.queue_delete("orders")
        """

        suite(source).assert_outcomes(passed=2)

        assert drain("orders") == [b"of somebody else"]
        assert broker.management.exchanges(vhost) == exchanges
        assert [queue["name"] for queue in broker.management.get(f"queues/{vhost}")] == ["orders"]

    def test_deletes_queues_of_connections_that_were_cut_and_those_that_the_broker_named(self, suite, broker, vhost):
        """A vhost with ten thousand queues of tests is a broker that is slow."""
        source = """
            import socket, pytest
            from pika.exceptions import AMQPConnectionError
            def test_is_cut(channel, connect):
                channel.queue_declare("")
                other = connect()
                other.channel().queue_declare("own", exclusive=True)
                other._impl._transport._sock.shutdown(socket.SHUT_RDWR)
                with pytest.raises(AMQPConnectionError):
                    other.process_data_events()
        """

        suite(source).assert_outcomes(passed=1)

        assert broker.management.get(f"queues/{vhost}") == []

    def test_leaves_out_with_a_reason_what_needs_more(self, suite):
        """A spec that cannot be asked has not failed, and what is missing can be given."""
        result = suite("\n".join(f"def test_needs_{name}({body}" for name, (body, _) in NEEDS.items()), "-rs")

        result.assert_outcomes(skipped=len(NEEDS))
        result.stdout.fnmatch_lines_random([f"SKIPPED*not run: *{missing}*" for _, missing in NEEDS.values()])

    def test_gives_workers_of_xdist_their_turn(self, suite, pytester):
        """Two specs at once would get each other's messages from amq.fanout, whatever their queues are called."""
        source = """
            import os, time
            def test_is_alone(channel, receive):
                channel.queue_declare("q")
                channel.queue_bind("q", "amq.fanout")
                with open("turns", "a") as file: file.write(f"begin {os.getpid()}\\n")
                for number in range(50): channel.basic_publish("amq.fanout", "", b"%d" % number)
                assert [one.body for one in receive("q", 50)] == [b"%d" % number for number in range(50)]
                with open("turns", "a") as file: file.write(f"end {os.getpid()}\\n")
        """
        pytester.makepyfile(test_other=source)

        suite(source, "-n", "2").assert_outcomes(passed=2)

        turns = [line.split() for line in (pytester.path / "turns").read_text().splitlines()]
        assert [word for word, _ in turns] == ["begin", "end", "begin", "end"]
        assert (turns[0][1], turns[2][1]) == (turns[1][1], turns[3][1])

    @pytest.mark.parametrize("option", ["--late=0.01", "--lie=body-falsified", "--record=run.jsonl"])
    def test_goes_with_whoever_else_stands_in_the_wire(self, suite, option):
        """They hear the names of the spec, as they do with a vhost for each."""
        source = """
            def test_publishes(channel, drain):
                channel.queue_declare("orders")
                channel.basic_publish("", "orders", b"one")
                assert drain("orders") == [b"one"]
        """

        result = suite(source, option)

        result.assert_outcomes(**({"failed": 1} if "lie" in option else {"passed": 1}))

    def test_is_refused_within_tls(self, monkeypatch):
        """Nobody can change names there, and specs would use whatever queues have their names."""
        monkeypatch.setattr("rmqspec.tools.broker.url.greet", lambda _: Identity("Another", "1.0", "elsewhere"))

        with pytest.raises(Unavailable) as refused:
            UrlBroker("amqps://mq.example.com")

        assert refused.value.reason == "nobody can read within TLS what tests declare in a vhost that they share"
        assert "--rabbitmq-management-url" in refused.value.remedy

    def test_says_when_login_or_vhost_are_refused(self, broker, vhost):
        """Without asking first, every single test would fail with the same 403."""
        at = broker.endpoint
        where = f"{at.host}:{at.port}"

        with pytest.raises(Unavailable, match="refused the login") as login:
            UrlBroker(f"amqp://{at.user}:secret@{where}/{vhost}")
        with pytest.raises(Unavailable, match="has no vhost 'nowhere'"):
            UrlBroker(f"{at.url().removesuffix('%2F')}nowhere")

        assert "secret" not in str(login.value)

    def test_deletes_queues_though_the_broker_deletes_no_exchange(self, url_alone, broker, vhost):
        """A partial broker may answer to one and not to the other, and the connection is over with the first."""
        at = Endpoint.parse(url_alone)
        with Proxy(at.host, at.port) as deaf, Proxy(at.host, deaf.port) as renaming:
            deaf.taps = lambda _, direction: without_exchange_delete(direction)
            shared = OneVhost(UrlBroker(deaf.url(url_alone)))
            shared.stand_in(renaming)
            with closing(connect(renaming.url(url_alone), "a test")) as connection:
                connection.channel().exchange_declare("shop")
                connection.channel().queue_declare("orders")

            shared.tidy()

        assert broker.management.get(f"queues/{vhost}") == []
        assert shared.left == {"exchange": "the broker has not answered exchange_delete within 2 s"}

    def test_knows_whether_the_broker_declares_queues(self, url_alone, vhost):
        """One that hangs greets whoever comes, and so would pass for one that is well."""
        at = Endpoint.parse(url_alone)
        with Proxy(at.host, at.port) as proxy:
            shared = OneVhost(UrlBroker(proxy.url(url_alone)))
            well = shared.is_alive()
            proxy.half_open()

            assert (well, shared.is_alive()) == (True, False)

    def test_tells_what_was_not_given(self, url_alone):
        """Whoever uses the broker of a run in a program of his own gets an error that says what to give."""
        used = UrlBroker(url_alone)

        with pytest.raises(NoManagement, match="--rabbitmq-management-url"):
            used.management.vhosts()
        with pytest.raises(NotOurs):
            used.another()


class TestLike:
    """`--like 4.3`."""

    @pytest.mark.parametrize(("like", "run"), [("3.10", "before_4_0"), ("4.3", "since_4_0 since_4_3")])
    def test_reads_version_markers_as_of_that_version(self, suite, like, run):
        """A broker's own version says nothing of what it is compatible with: version 2 of another is no RabbitMQ 2."""
        source = """
            import pytest
            @pytest.mark.rabbitmq(before="4.0")
            def test_before_4_0(): pass
            @pytest.mark.rabbitmq(since="4.0")
            def test_since_4_0(): pass
            @pytest.mark.rabbitmq(since="4.3.0")
            def test_since_4_3(): pass
            @pytest.mark.rabbitmq(since="4.3.1")
            def test_since_4_3_1(): pass
        """

        result = suite(source, "--like", like, "-rp")

        passed = [line.partition("::test_")[2] for line in result.outlines if line.startswith("PASSED")]
        assert passed == run.split()
        assert f"read as RabbitMQ {like} (--like)" in result.outlines

    def test_refuses_what_is_no_version(self, suite):
        """Read as 0 it would run all specs of the past, and all would fail."""
        result = suite(SPECS, "--like=4")

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: --like 4: a version of RabbitMQ is wanted, such as 4.3 or 4.3.1"])


class TestKnown:
    """`--known FILE`."""

    @pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
    def test_lets_what_is_listed_fail(self, suite, workers):
        """A maker wants to see what is new, not each day what is not done yet."""
        known = KNOWN + '"test_it.py::TestQueue::test_fails" = "one is not two here"\n'

        result = suite(SPECS, *workers, known=known)

        result.assert_outcomes(passed=4, xfailed=2, skipped=2)
        assert result.ret == pytest.ExitCode.OK

    def test_lets_no_spec_fail_for_what_another_has_left(self, suite):
        """A spec that fails in the middle closes nothing, and Python complains of that in the next one."""
        source = """
            import socket, gc
            def test_fails():
                socket.socket()
                assert False
            def test_is_innocent(): gc.collect()
        """

        result = suite(source, known='"test_it.py::test_fails" = "why"', ini="filterwarnings = error\n")

        result.assert_outcomes(xfailed=1, passed=1)

    def test_takes_node_ids_of_any_length(self, pytester):
        """A broker without transactions differs in a file; another in one case of a table."""
        name = "test_takes_node_ids_of_any_length.py"  # pytester names it after this test
        keys = [name, f"{name}::TestX", f"{name}::TestX::test_y", f"{name}::TestX::test_y[1]", "X-01"]
        others = [f"{name}::TestX::test", f"{name}::TestX::test_y[2]", "X-0", "test_y"]
        file = pytester.path / "known.toml"
        file.write_text("".join(f'"{key}" = "why"\n' for key in keys + others))
        source = """
            import pytest
            class TestX:
                @pytest.mark.behaviour("X-01")
                @pytest.mark.parametrize("case", [1])
                def test_y(self, case): pass
        """
        (item,) = pytester.getitems(dedent(source))

        assert [entry.key for entry in Known(file).of(item)] == keys

    @pytest.mark.parametrize(
        ("ini", "workers", "code"),
        [("strict_xfail = true", (), 1), ("strict = true", ("-n", "2"), 1), ("", (), 0)],
        ids=["strict-xfail", "strict", "lenient"],
    )
    def test_reports_an_entry_whose_specs_all_hold(self, suite, ini, workers, code):
        """A list that nobody takes from hides the day on which something breaks again."""
        result = suite(SPECS, *workers, "-k", "holds", known='\nQUEUE-01 = "once"\n', ini=ini)

        assert "KNOWN, BUT HOLDS: QUEUE-01 (known.toml, line 2): take it out" in result.outlines
        assert result.ret == code

    def test_does_not_report_an_entry_of_which_a_part_was_run(self, suite):
        """The rest may well differ."""
        result = suite(SPECS, "-k", "differs and good", known=KNOWN, ini="strict = true")

        assert "KNOWN, BUT" not in result.stdout.str()
        result.assert_outcomes(passed=1, deselected=7)

    @pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
    def test_names_the_line_of_an_entry_that_names_nothing(self, suite, workers):
        """A name with a typing error would excuse nothing, and nobody would know why."""
        keys = ["QUEUE-99", "test_it.py::TestQueue::test_is_gone", "test_gone.py"]

        result = suite(SPECS, *workers, known=KNOWN + "".join(f'"{key}" = "typed in haste"\n' for key in keys))

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        shown = result.stdout.str() + result.stderr.str()
        for line, key in enumerate(keys, 3):
            assert f"known.toml, line {line}: no spec has '{key}': correct it, or leave it out" in shown

    def test_may_name_specs_that_a_run_leaves_out(self, suite, pytester):
        """One file of the suite is run with the list of the whole suite."""
        other = pytester.makepyfile(test_other='import pytest\n@pytest.mark.behaviour("OTHER-01")\ndef test_x(): pass')
        known = f'OTHER-01 = "elsewhere"\n"{other.name}::test_x" = "elsewhere"\n'

        result = suite(SPECS, "test_it.py", "-k", "holds", known=known)

        assert result.ret == pytest.ExitCode.OK

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('A-01 = "x"\nA-02 = 3', 'line 2: A-02 has no reason: write A-02 = "why"'),
            ('A-01 = " "', "line 1: A-01 has no reason"),
            ('A-01 = "x"\nA-01 = "y"\n', "line 2"),
            ("A-01: x", "line 1"),
            ('[A-01]\nwhy = "x"', "A-01 is a heading, or the begin of a name with a dot"),
            (
                'test_it.py = "x"',
                "test_it is a heading, or the begin of a name .*: put the whole name in quotes",
            ),
            (b"\xff\xfe", "it is no text in UTF-8"),
        ],
        ids=["number", "blank", "twice", "no-toml", "heading", "dot", "binary"],
    )
    def test_refuses_an_entry_without_a_reason(self, tmp_path, text, words):
        """In a year nobody knows whether it was a defect or a decision."""
        file = tmp_path / "known.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

        with pytest.raises(ValueError, match=words):
            Known(file)

    def test_may_begin_with_a_byte_order_mark(self, tmp_path):
        """Some editors write it, and nobody sees it."""
        file = tmp_path / "known.toml"
        file.write_text(KNOWN, encoding="utf-8-sig")

        assert list(Known(file).entries) == ["QUEUE-02"]

    @pytest.mark.parametrize(
        ("text", "words"),
        [(None, "it cannot be read (No such file or directory)"), ("A-01 = 1", "line 1: A-01 has no reason: *")],
        ids=["missing", "wrong"],
    )
    def test_is_read_before_anything_is_started(self, suite, pytester, text, words):
        """A broker may take half a minute to boot."""
        if text:
            (pytester.path / "list.toml").write_text(text)

        result = suite(SPECS, "--known", "list.toml")

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: --known list.toml: {words}"])
        assert result.stdout.str() == ""


class TestGarageMq:
    """What GarageMQ is known to do otherwise: `tests/makers/garagemq.toml`."""

    def test_differs_in_specs_that_exist(self):
        """A spec that gets another name is looked for in vain when `tox -e garagemq` is run the next time."""
        root = Path(__file__).parents[2]
        keys = Known(root / "tests" / "makers" / "garagemq.toml").entries.keys()

        assert sorted(keys - of_others(root, set(), keys)) == [], "correct their names in tests/makers/garagemq.toml"


class TestOption:
    """Options of a run for makers."""

    @pytest.mark.parametrize("option", ["--like", "--known", "--conformance", "--record"])
    def test_is_refused_if_it_is_empty(self, suite, option):
        """A variable of a pipeline that is not set would be the same as no option: no list, no report."""
        result = suite(SPECS, f"{option}=")

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*argument {option}: it is empty; leave the option out, or name something"])

    @pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e9"])
    def test_patience_is_refused_where_nobody_can_wait_so_long(self, suite, seconds):
        """Each spec would fail at its first connection, one by one."""
        result = suite(SPECS, f"--patience={seconds}")

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: --patience is *: a number from 0.01 to 1e+06 is wanted (seconds)"])


AT_ONCE = """
from rmqspec.tools.plugin import conformance
conformance.RESTART = 0.0
"""


class TestConformance:
    """`--conformance FILE`."""

    @pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
    def test_has_a_verdict_for_each_behaviour(self, conformance, workers):
        """One word for an id, and beneath it the specs that it comes from."""
        _, report = conformance(SPECS, *workers, known=KNOWN)

        assert {name: one["verdict"] for name, one in report["behaviours"].items()} == {
            "QUEUE-01": "holds",
            "QUEUE-02": "differs as known",
            "QUEUE-03": "fails",
            "QUEUE-04": "not run",
            "QUEUE-05": "not run",
        }
        assert report["verdicts"] == {"holds": 1, "differs as known": 1, "fails": 1, "not run": 2}
        assert [one["node"] for one in report["without_id"]] == ["test_it.py::TestClient::test_is_about_no_behaviour"]
        assert report["complete"] is True

    def test_has_reasons(self, conformance):
        """What the list says, and what was seen: the list may have grown old."""
        _, report = conformance(SPECS, known=KNOWN)

        good, bad = report["behaviours"]["QUEUE-02"]["specs"]
        assert good == {"node": "test_it.py::TestQueue::test_differs[good]", "verdict": "holds"}
        assert (bad["verdict"], bad["reason"]) == ("differs as known", "bad cases are not done yet")
        assert bad["seen"].startswith("AssertionError: so it is here")
        assert report["behaviours"]["QUEUE-03"]["specs"][0]["reason"] == "assert 1 == 2"
        assert report["behaviours"]["QUEUE-04"]["specs"][0]["reason"].startswith(
            "policies are set by the management API"
        )
        assert report["behaviours"]["QUEUE-05"]["specs"][0]["reason"].startswith(
            "not in this version: since RabbitMQ 99"
        )

    def test_says_what_was_asked(self, conformance, broker):
        """Two reports are compared by it."""
        _, report = conformance(SPECS, "--like", "4.3")

        assert report["schema"] == 1
        assert report["broker"] == {
            "product": "RabbitMQ",
            "version": broker.identity.version,
            "platform": broker.identity.platform,
            "read_as": "4.3",
        }
        assert report["suite"].keys() == {"rmqspec", "pika"}

    def test_is_summed_up_in_the_terminal(self, conformance, broker):
        """Counts without a percentage, then what fails, what differs and what is missing, by reasons."""
        result, _ = conformance(SPECS, known=KNOWN)

        lines = result.outlines
        begin = next(at for at, line in enumerate(lines) if line.strip("= ") == "conformance")
        assert lines[begin + 1 : begin + 11] == [
            str(broker.identity),
            "1 holds, 1 differs as known, 1 fails, 2 not run (behaviours)",
            "1 holds, 0 differs as known, 0 fails, 0 not run (specs without an id: our own clients)",
            "",
            "FAILS:",
            "  assert 1 == 2",
            "      QUEUE-03 (test_it.py::TestQueue::test_fails)",
            "",
            "DIFFERS AS KNOWN:",
            "  bad cases are not done yet",
        ]
        assert "%" not in "\n".join(lines[begin + 1 :])

    def test_says_in_which_spec_a_broker_has_died(self, conformance):
        """What comes after it says nothing of the broker: it was not asked."""
        source = """
            import pytest
            from dataclasses import replace
            @pytest.mark.behaviour("A-01")
            def test_kills_it(broker):
                broker.endpoint = replace(broker.endpoint, port=1)  # as if nobody listened any more
                raise ConnectionError("reset by peer")
            @pytest.mark.behaviour("A-02")
            def test_comes_after(): assert False
            @pytest.mark.behaviour("A-03")
            def test_is_known(): assert False
        """

        result, report = conformance(source, known='A-03 = "so it is"', conftest=AT_ONCE)

        (killer,), (after,), (known,) = (report["behaviours"][name]["specs"] for name in ("A-01", "A-02", "A-03"))
        assert killer["verdict"] == "fails"
        assert report["stopped_answering_in"] == ["test_it.py::test_kills_it"]
        words = "the broker has not answered since test_it.py::test_kills_it"
        assert (after["verdict"], after["reason"]) == ("not run", words)
        assert (known["verdict"], known["reason"]) == ("not run", words)
        assert "THE BROKER STOPPED ANSWERING IN:" in result.outlines

    def test_waits_once_for_a_broker_that_hangs_and_is_started_again(self, conformance):
        """A broker that greets and declares no queue would fail all specs to come."""
        hangs = """
from rmqspec.tools.plugin.one_vhost import OneVhost
alive = iter([True, False, False, True])
OneVhost.is_alive = lambda self: next(alive, True)
"""
        source = """
            def test_is_well(): pass
            def test_makes_it_hang(): pass
            def test_comes_after(): pass
        """

        result, report = conformance(source, conftest=hangs)

        result.assert_outcomes(passed=3)
        assert report["stopped_answering_in"] == ["test_it.py::test_makes_it_hang"]

    def test_never_shows_the_password(self, conformance, broker, pytester):
        """A report is published; what a spec fails with may hold a URL."""
        source = """
            import pytest
            @pytest.mark.behaviour("A-01")
            def test_fails(url): assert url == ""
        """

        conformance(source)

        assert f":{broker.endpoint.password}@" not in (pytester.path / "report.json").read_text()

    @pytest.mark.parametrize(
        ("name", "there", "words"),
        [
            ("nowhere/report.json", None, "it cannot be written there (No such file or directory)"),
            ("a-file/report.json", None, "it cannot be written there (Not a directory)"),
            ("/proc/report.json", None, "it cannot be written there (No such file or directory)"),
            (".", None, "it cannot be written there (Is a directory)"),
            ("notes.txt", "what I want to keep", "it is there, and no such report: name another file"),
            ("other.json", '{"schema": 1}', "it is there, and no such report: name another file"),
            ("known.toml", KNOWN, "this is the file of --known: name another one"),
            ("./run.jsonl", None, "this is the file of --record: name another one"),
        ],
    )
    def test_is_refused_at_once_where_it_would_be_lost_or_something_else_with_it(
        self, suite, pytester, name, there, words
    ):
        """A slip in a command line costs the list of a year; a place that is none costs the run."""
        (pytester.path / "a-file").write_text("x")
        if there:
            (pytester.path / name).write_text(there)

        result = suite(SPECS, f"--conformance={name}", "--record=run.jsonl", known=KNOWN)

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: --conformance *: {words}*"])
        assert not there or (pytester.path / name).read_text() == there

    def test_replaces_an_older_one(self, conformance, pytester):
        """The same command is run each night."""
        conformance(SPECS, "-k", "holds")

        _, report = conformance(SPECS, "-k", "fails")

        assert list(report["behaviours"]) == ["QUEUE-03"]

    def test_that_cannot_be_written_at_the_end_is_said(self, suite):
        """The disk is full by then, and a traceback hides what the run has shown."""
        result = suite(SPECS, "-k", "holds", "--conformance=/dev/full")

        assert "THE REPORT COULD NOT BE WRITTEN: /dev/full (No space left on device)" in result.outlines
        assert "1 holds, 0 differs as known, 0 fails, 0 not run (behaviours)" in result.outlines
        assert result.ret == pytest.ExitCode.USAGE_ERROR

    def test_is_incomplete_after_an_interruption(self, conformance):
        """Half a run looks like a whole one otherwise, and better than it is."""
        source = """
            import os, signal, pytest
            @pytest.mark.behaviour("A-01")
            def test_holds(): pass
            def test_is_interrupted(): os.kill(os.getpid(), signal.SIGINT)
            @pytest.mark.behaviour("A-02")
            def test_is_not_reached(): pass
        """

        _, report = conformance(source)

        assert (report["complete"], list(report["behaviours"])) == (False, ["A-01"])
