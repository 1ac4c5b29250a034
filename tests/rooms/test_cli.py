"""The command line: the demo, its parts, and what a person is told when something is wrong."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from click import Group
from click.testing import CliRunner

from rmqspec.cli.main import cli
from rmqspec.cli.options import FileToWrite
from rmqspec.orders import REASON_HEADER, Failures, Order, parse, sample_orders

# Processes of Python start in half a second each on a busy machine.
pytestmark = pytest.mark.timeout(120)

ESCAPE = "\x1b["


def cli_of(words):
    """The command that is called so: `cli_of(("demo", "worker"))`."""
    command = cli
    for word in words:
        command = command.commands[word]
    return command


def commands(*words):
    """The words of each command, groups included."""
    yield words
    for name in getattr(cli_of(words), "commands", ()):
        yield from commands(*words, name)


COMMANDS = list(commands())
GROUPS = [words for words in COMMANDS if isinstance(cli_of(words), Group)]


def table_of(output):
    """The summary as {concept: what went through}."""
    rows = [line.split("│") for line in output.splitlines() if line.startswith("│")]
    return {row[1].strip(): row[3].strip() for row in rows if row[1].strip()}


class TestDemo:
    """`rmqspec demo`."""

    def test_accounts_for_every_order_in_its_table(self, run):
        """The numbers are those of this very run: what was published is what was settled."""
        doomed = sum(Failures(0.3, 4).hits(order.order_id) for order in sample_orders(9, 4))
        assert 0 < doomed < 9

        demo = run(
            "demo", "--orders", "9", "--workers", "2", "--failure-rate", "0.3", "--seed", "4", "--work-time", "0"
        )

        assert demo.ends() == 0, demo.output
        table = table_of(demo.output)
        assert table["Direct exchange"] == "9 orders and 1 that is none, confirmed"
        assert table["Ack and nack"] == f"{10 - doomed} acked, {doomed} nacked, 0 left"
        assert table["Dead letter exchange"] == f"{doomed} failed, 1 unreadable; {doomed + 1} there now"
        assert table["Fanout exchange"] == f"{9 - doomed} events; {9 - doomed} and {9 - doomed} delivered"
        assert table["RPC"] == "6 calls, 6 replies"

    def test_names_exchange_key_and_queue_in_its_lines(self, run):
        """Without them a person sees services that talk, and not the broker between them."""
        demo = run("demo", "--orders", "9", "--failure-rate", "0.3", "--seed", "0", "--work-time", "0")

        assert demo.ends() == 0, demo.output
        said = {" ".join(line.split()) for line in demo.lines}
        assert "producer published order 00-0001 (417.80) to orders.direct, key order" in said
        assert "notification told Linus of order 00-0001, from notifications (events.fanout)" in said
        assert "logs key order.created: 00-0001 by producer; logs.topic → logs" in said
        assert any("took order 00-0001 from orders (orders.direct, key order)" in line for line in said)
        assert any("parked in orders.failed, as unreadable: customer: Field required" in line for line in said)
        assert any(line.startswith("logs key order.failed: ") and ", simulated; " in line for line in said)

    def test_fits_into_80_columns(self, run):
        """That is how wide a new terminal is; a line that wraps hides under the next name."""
        demo = run("demo", "--orders", "9", "--failure-rate", "0.3", "--work-time", "0", COLUMNS="80")

        assert demo.ends() == 0, demo.output
        assert [line for line in demo.lines if len(line) > 80] == []

    def test_shows_correlation_id_and_reply_to_of_its_calls(self, run):
        """A reply finds its caller by the one, and its request by the other."""
        demo = run("demo", "--orders", "1", "--work-time", "0")

        assert demo.ends() == 0, demo.output
        assert "waits for replies at reply_to amq.rabbitmq.reply-to" in demo.output
        assert "answers mouse: 17 in stock, reply_to amq.rabbitmq.reply-to" in demo.output
        assert re.search(r"mouse: 17 in stock, correlation_id [0-9a-f]{8}-2", demo.output)

    def test_shows_fair_dispatch_by_one_slow_worker(self, run):
        """Three equal workers share equally under round robin too."""
        demo = run("demo", "--orders", "30", "--work-time", "0.02", "--failure-rate", "0")

        assert demo.ends() == 0, demo.output
        assert "3 workers (W3 is slow)" in demo.output
        first, second, slow = map(int, re.findall(r"W\d (\d+)", table_of(demo.output)["Work queue, fair dispatch"]))
        assert first + second + slow == 31
        assert slow < min(first, second)

    def test_counts_its_own_orders_alone_where_others_wait(self, run, orders, channel):
        """`2 orders, 1826 acked` is an account that nobody can check."""
        for order in sample_orders(5, 7):
            orders.producer.publish(order)
        channel.basic_publish("orders.dlx", "", b"an old one")

        demo = run("demo", "--orders", "2", "--failure-rate", "0", "--work-time", "0")

        assert demo.ends() == 0, demo.output
        assert "others wait here already: 5 in orders, 5 in logs, 1 in orders.failed" in demo.output
        table = table_of(demo.output)
        assert table["Direct exchange"] == "2 orders and 1 that is none, confirmed"
        assert table["Ack and nack"] == "3 acked, 0 nacked, 0 left"
        assert table["Dead letter exchange"] == "0 failed, 1 unreadable; 2 there now, 1 of them of others"
        assert table["Fanout exchange"] == "2 events; 2 and 2 delivered"
        assert table["Topic exchange"] == "2 order.completed, 2 order.created"
        assert table["Analytics"].startswith("2 orders, 844.80 in all")

    def test_repeats_with_its_seed(self, run):
        """What went wrong once can be looked at twice."""
        failed = []
        for _ in range(2):
            demo = run("demo", "--orders", "6", "--failure-rate", "0.5", "--work-time", "0")
            assert demo.ends() == 0, demo.output
            failed.append(sorted(re.findall(r"failed order (\S+)", demo.output)))

        assert failed[0] == failed[1] != []

    def test_is_plain_text_in_a_pipe(self, run):
        """Colours are for eyes; in a file they are dirt."""
        demo = run("demo", "--orders", "1", "--work-time", "0")

        assert demo.ends() == 0
        assert ESCAPE not in demo.output

    def test_starts_and_removes_a_broker_of_its_own(self, run, broker, tmp_path):
        """The first thing that a stranger pastes; nothing is left behind for whoever comes next."""
        if broker.source == "url":
            pytest.skip("not run: this run has no source of its own to start a broker from")
        demo = run(
            "demo", "--orders", "2", RABBITMQ_URL="", RABBITMQ_BROKER=broker.source, TMPDIR=str(tmp_path),
            RABBITMQ_IMAGE=getattr(broker, "image", ""),
        )  # fmt: skip

        assert demo.ends(within=100) == 0, demo.output
        assert "All orders are settled" in demo.output
        assert list(tmp_path.glob("rmqspec-node-*")) == []


class TestWorkerProcess:
    """`rmqspec demo worker`."""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl_c", "sigterm"])
    def test_finishes_the_order_in_hand_when_asked_to_stop(self, run, orders, number):
        """A deployment stops workers all day; an order that is half done would be done twice.

        However long it takes: an order was done and then given back where it took longer than a confirm may take.
        """
        for order in sample_orders(2):
            orders.producer.publish(order)
        worker = run("demo", "worker", "--work-time", "2.5", "--failure-rate", "0")
        worker.waits_for("took order 00-0001")

        assert worker.ends(number, within=10) == 0

        assert "completed order 00-0001" in worker.output
        assert "took order 00-0002" not in worker.output
        assert orders.depth("orders") == 1

    def test_is_w1_and_says_its_pid_first(self, run, orders):
        """Exercise 2 ends it with `kill -9`: nobody should have to look for the number."""
        worker = run("demo", "worker")

        worker.waits_for("is ready")

        assert worker.lines[0].split("; ")[0].split() == ["W1", "is", "ready,", "pid", str(worker._process.pid)]

    def test_has_as_many_unacked_orders_as_its_prefetch(self, run, orders, eventually):
        """Behind a slow order they wait for this worker, and no other can have them."""
        for order in sample_orders(5):
            orders.producer.publish(order)

        run("demo", "worker", "--prefetch", "3", "--work-time", "600").waits_for("took order 00-0001")

        eventually(lambda: orders.depth("orders"), 2)

    def test_parks_what_is_no_order_and_goes_on(self, run, orders, receive):
        """One message that cannot be read must not stop the queue behind it."""
        orders.channel.basic_publish("orders.direct", "order", b"nonsense")
        orders.producer.publish(next(sample_orders(1)))

        run("demo", "worker", "--work-time", "0", "--failure-rate", "0").waits_for("completed order 00-0001")

        (parked,) = receive("orders.failed")
        assert parked.body == b"nonsense"
        assert "Invalid JSON" in parked.properties.headers[REASON_HEADER]


class TestProduce:
    """`rmqspec demo produce`."""

    def test_publishes_orders_with_new_ids_at_each_run(self, run, orders, drain):
        """With the same ids nobody can tell today's order from that of an hour ago in `orders.failed`."""
        for _ in range(2):
            assert run("demo", "produce", "--orders", "1").ends() == 0

        first, second = (parse(Order, body).order_id for body in drain("orders"))

        assert first != second
        assert first[:8] == second[:8] == "00-0001-"
        assert Failures(0.5).hits(first) == Failures(0.5).hits(second) == Failures(0.5).hits("00-0001")

    def test_ends_at_sigint_where_a_script_started_it(self, environment, url):
        """A shell has what a script puts in the background ignore it; whoever then sends it by its pid means it."""
        command = [sys.executable, "-m", "rmqspec", "demo", "produce", "--orders", "100000"]
        with subprocess.Popen(
            command, env={**environment, "RABBITMQ_URL": url}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        ) as process:  # fmt: skip
            assert b"published order 00-0001" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            process.stdout.close()
            try:
                assert process.wait(20) == 130
            finally:
                process.kill()

    def test_reads_a_file_that_begins_with_a_byte_order_mark(self, run, orders, tmp_path):
        """Editors on Windows write one; the first order of such a file was refused."""
        order = next(sample_orders(1)).to_json()
        (tmp_path / "orders.jsonl").write_bytes(b"\xef\xbb\xbf" + order + b"\r\n")

        produce = run("demo", "produce", "--file", str(tmp_path / "orders.jsonl"))

        assert produce.ends() == 0, produce.output
        assert orders.depth("orders") == 1

    def test_says_one_order_in_the_singular(self, run, orders):
        """`1 orders` looks like a program that nobody has looked at."""
        produce = run("demo", "produce", "--orders", "1")

        assert produce.ends() == 0
        assert produce.lines[-1] == "1 order published and confirmed"

    def test_publishes_the_orders_of_a_file(self, run, orders, tmp_path):
        """What is wrong is told with its line, and the exit code tells a script."""
        item = {"sku": "mouse", "quantity": 1, "unit_price_cents": 1}
        good = json.dumps({"order_id": "A1", "customer": "Ada", "items": [item]})
        (tmp_path / "orders.jsonl").write_text(f"{good}\nnonsense\n{good}\n")

        produce = run("demo", "produce", "--file", str(tmp_path / "orders.jsonl"))

        assert produce.ends() == 1
        assert "line 2 is not an order" in produce.output
        assert "2 orders published and confirmed, 1 refused" in produce.output
        assert orders.depth("orders") == 2


class TestSentence:
    """What is wrong is one sentence, and exit code 1."""

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            pytest.param({"RABBITMQ_URL": ""}, "no broker is up: start one with rmqspec rabbitup", id="no_broker"),
            pytest.param({"RABBITMQ_URL": "amqp://127.0.0.1:1"}, "no broker answers at 127.0.0.1:1", id="unreachable"),
            pytest.param({"RABBITMQ_URL": "http://x"}, "a broker's URL reads amqp://", id="no_url"),
            pytest.param({"RABBITMQ_URL": "http://x"}, "the scheme is neither amqp nor amqps", id="scheme"),
            pytest.param({"RABBITMQ_URL": "amqp://u:secret@h:99999"}, "the port is no number from 0", id="port"),
            pytest.param({"RABBITMQ_URL": "amqp://u:sec/ret@h"}, "an @ stands behind a /", id="slash_in_password"),
            pytest.param({"RABBITMQ_URL": "amqp://u@h"}, "there is a user without a password", id="no_password"),
        ],
    )
    def test_says_what_is_wrong_and_what_to_do(self, run, settings, words):
        """A traceback tells the author something, and everybody else that the thing is broken."""
        process = run("demo", "worker", **settings)

        assert process.ends() == 1
        assert process.output.count("\n") == 0
        assert words in process.output
        assert "sec" not in process.output.replace("seconds", "")

    def test_refuses_what_stands_before_a_part(self, tmp_path):
        """Who names authorities for TLS must not be connected without a look at them."""
        (authorities := tmp_path / "ca.pem").touch()

        result = CliRunner().invoke(cli, ["demo", "--ca", str(authorities), "--orders", "3", "worker"])

        assert result.exit_code == 2
        assert "before worker nobody would look at --orders, --ca" in result.output


class TestImpossibleOption:
    """An option that Python could read, and nothing could use."""

    @pytest.mark.parametrize(
        "command",
        ["demo worker --retry nan", "demo worker --failure-rate nan", "demo worker --work-time inf",
         "demo worker --work-time 1e300", "demo worker --prefetch 0", "demo rpc-client --timeout nan",
         "demo rpc-client --timeout inf", "nemesis --seconds nan", "nemesis --work inf", "nemesis --bound nan",
         "nemesis --faults=", "rabbitup --port -1", "rabbitup --management-port 65536",
         "rabbitup --port 7000 --management-port 7000", "demo --book /nonexistent/book.html", "demo --book /",
         "nemesis --log /nonexistent/log", "book run.jsonl -o /nonexistent/book.html", "book run.jsonl --output=",
         "demo worker --timeout nan", "demo --heartbeat -1", "dead-letters list --heartbeat 65536",
         "demo --workers 101", "nemesis --participants producer=99999999999", "demo worker --retry 1,,2"],
    )  # fmt: skip
    def test_is_refused_before_anything_is_begun(self, command):
        """NaN is neither too small nor too large; it came out as a traceback in the middle of a run."""
        result = CliRunner().invoke(cli, command.split())

        assert result.exit_code == 2, result.output
        assert "Error: " in result.output
        assert "range." not in result.output.replace("in the range", "")
        assert isinstance(result.exception, SystemExit)

    @pytest.mark.parametrize("command", ["demo", "rabbitup", "nemesis", "lies tests"])
    @pytest.mark.parametrize("variable", [True, False], ids=["variable", "option"])
    def test_is_not_repeated_where_it_may_be_a_url(self, command, variable):
        """A URL in the variable beside the one that was meant holds a password, and the message goes into a log."""
        slip = "amqp://guy:secret@host"
        given = [] if variable else ["--rabbitmq-broker", slip]

        result = CliRunner().invoke(cli, [*command.split(), *given], env={"RABBITMQ_BROKER": slip if variable else ""})

        assert result.exit_code == 2
        assert "secret" not in result.output
        assert result.output.splitlines()[-1] == (
            "Error: Invalid value for '--rabbitmq-broker' (env var: 'RABBITMQ_BROKER'): it is none of auto, url, "
            "container, node, package: correct it"
        )

    def test_leaves_a_file_as_it_was_if_it_can_be_written(self, tmp_path):
        """Looking whether a book can be written must neither empty one that is there nor leave an empty one."""
        (there := tmp_path / "there.html").write_text("a book")

        for path in (there, tmp_path / "new.html"):
            FileToWrite().convert(str(path), None, None)

        assert there.read_text() == "a book"
        assert [path.name for path in tmp_path.iterdir()] == ["there.html"]

    def test_may_stand_in_a_variable(self, run):
        """It is one sentence there too."""
        process = run("demo", "worker", RABBITMQ_TIMEOUT="nan")

        assert process.ends() == 1
        assert process.lines == ["rmqspec: timeout is nan: seconds from 0.001 to 1000000 are wanted"]

    def test_may_be_an_item_of_no_letters(self, run):
        """The inventory would refuse it; there is nothing to wait for."""
        process = run("demo", "rpc-client", "")

        assert process.ends() == 2
        assert "'' can be no item" in process.output


class TestOutput:
    """Where nothing can be written, or not everything."""

    @pytest.mark.parametrize("command", ["demo --orders 1 --work-time 0", "dead-letters list", "--help", "lies --list"])
    def test_is_one_sentence_if_the_disk_is_full(self, environment, url, orders, channel, command):
        """A traceback of the terminal's library says that the thing is broken, and not that the disk is."""
        channel.basic_publish("orders.dlx", "", b"a dead letter")
        with open("/dev/full", "w") as full:  # noqa: PTH123
            done = subprocess.run(
                [sys.executable, "-m", "rmqspec", *command.split()],
                env={**environment, "RABBITMQ_URL": url}, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
                timeout=60,
            )  # fmt: skip

        assert done.returncode == 1
        assert done.stderr == "rmqspec: the output cannot be written (No space left on device)\n"

    @pytest.mark.parametrize("command", ["demo produce --orders 1", "demo worker"])
    @pytest.mark.parametrize("output", ["full", "closed"])
    def test_decides_nothing_where_the_work_counts(self, environment, url, orders, eventually, command, output):
        """Python's own words about the output, and its exit code 120, say that the orders were not done."""
        buffered = {name: value for name, value in environment.items() if name != "PYTHONUNBUFFERED"}
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing if output == "closed" else "/dev/full", "wb") as stdout:  # noqa: PTH123
            process = subprocess.Popen(
                [sys.executable, "-m", "rmqspec", *command.split()],
                env={**buffered, "RABBITMQ_URL": url}, stdout=stdout, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        if "worker" in command:
            eventually(lambda: orders.channel.queue_declare("orders", passive=True).method.consumer_count, 1, within=20)
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)

        assert process.returncode == 0, said
        full = ["rmqspec: the output could not be written (No space left on device)"] if output == "full" else []
        assert [line for line in said.splitlines() if "published" not in line] == full

    @pytest.mark.parametrize("command", ["demo --orders 2 --work-time 0", "dead-letters list", "dead-letters show 1"])
    def test_is_ascii_where_the_terminal_knows_no_more(self, run, channel, orders, command):
        """What it has no letters for is written in those that it has, and arrows are not `\\u2192`."""
        order = next(sample_orders(1)).model_copy(update={"customer": "Zoë", "order_id": "Zoë"})
        channel.basic_publish("orders.dlx", "", order.to_json())

        process = run(*command.split(), PYTHONIOENCODING="ascii")

        assert process.ends() == 0, process.output
        assert process.output.isascii()
        assert "\\u2192" not in process.output
        assert "\\u2026" not in process.output
        if "show" in command:
            assert json.loads(process.output)["order"] == "Zoë"


class TestHelp:
    """`--help`."""

    def test_puts_tls_and_time_outs_apart(self):
        """Of a worker's dozen options a learner needs four; the others hid them."""
        lines = CliRunner().invoke(cli, ["demo", "worker", "--help"]).output.splitlines()

        headings = [line for line in lines if line and not line.startswith(" ")][1:]
        assert headings == ["Options:", "Connection:", "TLS:", "Time-outs:"]
        assert "--ca FILE" in "\n".join(lines[lines.index("TLS:") :])
        assert "--heartbeat SECONDS" in lines[lines.index("Time-outs:") + 1]

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_lists_nothing_without_a_word_under_its_options(self, command):
        """An argument that stands there bare, `[ID]`, looks as if its explanation had been forgotten."""
        lines = CliRunner().invoke(cli, [*command, "--help"]).output.splitlines()

        options = lines[lines.index("Options:") + 1 :]
        names = [line.split()[0] for line in options if re.match(r"  \S", line)]
        of_commands = getattr(cli_of(command), "commands", ())
        assert [name for name in names if not name.startswith("-") and name not in of_commands] == []

    @pytest.mark.parametrize(
        "command", [words for words in commands() if isinstance(cli_of(words), Group)], ids=" ".join
    )
    def test_lists_each_command_with_a_whole_sentence(self, command):
        """Five of ten ended in three dots, where the sentence would have said what they are for."""
        output = CliRunner().invoke(cli, [*command, "--help"]).output

        rows = output.partition("Commands:\n")[2].splitlines()
        assert len(rows) == len(cli_of(command).commands)
        assert [row for row in rows if not row.endswith(".") or row.endswith("...")] == []

    def test_holds_no_marks_of_its_maker(self):
        """A backspace tells click not to wrap a paragraph; written with a backslash it is shown."""
        shown = CliRunner().invoke(cli, ["demo", "produce", "--help"]).output

        assert "\\b" not in shown
        assert '{"order_id": "A1", "customer": "Ada", "items": [{"sku"' in shown

    @pytest.mark.parametrize(
        "command",
        ["", "demo", "demo worker", "demo notification", "demo analytics", "demo logs", "demo produce",
         "demo rpc-server", "demo rpc-client", "rabbitup", "rabbitdown", "catalogue", "compare", "upgrade",
         "dead-letters", "dead-letters list", "dead-letters show", "dead-letters replay", "dead-letters purge"],
    )  # fmt: skip
    def test_explains(self, command):
        """The command's own page is the documentation that is always at hand."""
        result = CliRunner().invoke(cli, [*command.split(), "--help"])

        assert result.exit_code == 0
        assert result.output.startswith("Usage: ")
        assert all(line.strip() for line in result.output.splitlines()[2:3])
