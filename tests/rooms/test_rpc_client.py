"""The caller's side of remote calls, beyond what the lesson tells.

Code: rmqspec/client/rpc.py, rmqspec/client/deadlines.py
"""

import concurrent.futures
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from rmqspec.client import RpcClient, RpcServer
from rmqspec.client.deadlines import Deadlines
from rmqspec.client.errors import (
    CallFailed,
    CallTimedOut,
    ChannelClosed,
    ConnectionLost,
    InvalidSetting,
    Unencodable,
    WrongProcess,
    WrongThread,
)
from rmqspec.tools.wire import Proxy

from .holding import held


@pytest.fixture
def served():
    """How often each request came to the server."""
    return Counter()


@pytest.fixture
def echo(url, channel, served):
    """A server that answers with the request."""
    channel.queue_declare("echo", durable=True)
    server = RpcServer(url, "echo", lambda request: served.update([bytes(request)]) or request, prefetch=100)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server
    server.stop()
    thread.join(10)


class TestRpcClient:
    """Calls."""

    def test_tells_of_a_request_amqp_cannot_carry(self, url, echo):
        """Found out in the connection's thread it would end the connection, and every other call with it."""
        with RpcClient(url) as client:
            with pytest.raises(Unencodable, match="more than 255 bytes"):
                client.call("q" * 256, b"lost")

            assert client.call("echo", b"heard") == b"heard"

    def test_fails_a_call_at_once_while_its_broker_is_down(self, disposable_broker):
        """Until the broker is back there is nobody to ask, and a caller with a deadline may ask somebody else."""
        client = RpcClient(disposable_broker.endpoint.url(), timeout=60.0)
        disposable_broker.stop()

        errors = []
        for _ in range(2):
            with pytest.raises(CallFailed) as error:
                client.call("echo", b"?")
            errors.append(str(error.value))

        client.close()
        assert "connection to the broker is lost" in errors[-1]

    def test_gives_each_of_many_callers_its_own_reply(self, url, echo):
        """All of them share one connection; the correlation id tells whose reply it is."""
        wrong = []

        def ask(client, caller):
            for number in range(20):
                question = b"%d-%d" % (caller, number)
                if client.call("echo", question) != question:
                    wrong.append(question)

        with RpcClient(url) as client:
            callers = [threading.Thread(target=ask, args=(client, number)) for number in range(16)]
            for each in callers:
                each.start()
            for each in callers:
                each.join(30)

        assert (wrong, echo.answered) == ([], 320)

    @pytest.mark.parametrize(
        ("reason", "permanent"),
        [
            (ConnectionLost("lost", 504, "CHANNEL_ERROR"), False),
            (ChannelClosed("refused", 403, "ACCESS_REFUSED"), True),
        ],
        ids=["connection", "channel"],
    )
    def test_says_whether_another_try_is_of_use(self, url, silent, reason, permanent):
        """A connection that ends with a code for mistakes is another one soon; a right that is missing is not."""
        with RpcClient(url) as client:
            call = client.send(silent, b"?", 20)
            client._link._loop.ioloop.add_callback_threadsafe(lambda: client._link.reopen_channel(reason))

            error = call.exception(10)

        assert (error.reply_code, error.permanent) == (reason.reply_code, permanent)

    def test_fails_what_is_open_when_it_is_closed(self, url, channel):
        """Whoever waits is told, and does not wait for the deadline."""
        channel.queue_declare("silent", durable=True)
        client = RpcClient(url, timeout=60.0)
        open_call = client.send("silent", b"?")

        client.close()

        with pytest.raises(CallFailed, match="closed before the reply came"):
            open_call.result(0)
        with pytest.raises(CallFailed, match="has been closed"):
            client.call("silent", b"?")


@pytest.fixture
def silent(channel):
    """A queue whose requests nobody answers."""
    channel.queue_declare("silent", durable=True)
    return "silent"


class TestDeadline:
    """A call's time."""

    @pytest.mark.parametrize("timeout", [-0.25, 0.0, -1e6])
    def test_may_be_past_and_harms_nobody_else(self, url, silent, timeout):
        """A negative expiration is 406: it closed the channel under all other calls."""
        with RpcClient(url) as client:
            other = client.send(silent, b"?", 20)

            with pytest.raises(CallTimedOut, match="its deadline was past when it was made"):
                client.call(silent, b"?", timeout)

            with pytest.raises(TimeoutError):
                other.result(0.2)

    @pytest.mark.parametrize("timeout", [5_000_000.0, float("inf"), float("nan")])
    def test_is_refused_if_the_broker_knows_no_such_time(self, url, silent, timeout):
        """An expiration of more than 32 bits is 406 too."""
        with RpcClient(url) as client:
            other = client.send(silent, b"?", 20)

            with pytest.raises(InvalidSetting, match="seconds up to 4,294,967 are wanted"):
                client.call(silent, b"?", timeout)

            with pytest.raises(TimeoutError):
                other.result(0.2)

    @pytest.mark.parametrize("waits", [True, False], ids=["call", "send"])
    def test_is_kept_while_a_callback_blocks_the_connection(self, url, silent, patience, waits):
        """What one caller does in a callback must not hold up the others."""
        ended = threading.Event()
        with RpcClient(url) as client, held(client):
            begin = time.monotonic()
            if waits:
                with pytest.raises(CallTimedOut):
                    client.call(silent, b"?", 0.3)
            else:
                client.send(silent, b"?", 0.3).add_done_callback(lambda _: ended.set())
                assert ended.wait(patience)
            seconds = time.monotonic() - begin

        assert 0.3 <= seconds < 4

    def test_is_kept_while_the_connection_is_lost_again_and_again(self, broker, url, silent, patience):
        """Calls that were handed to a loop which ended before it looked were open for ever, and all that followed."""
        ends, stop = [], threading.Event()

        def hammer():
            while not stop.wait(0.001):
                begin = time.monotonic()
                future = client.send(silent, b"?", 0.3)
                future.add_done_callback(lambda _, begin=begin: ends.append(time.monotonic() - begin))

        with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy, RpcClient(proxy.url(url)) as client:
            callers = [threading.Thread(target=hammer) for _ in range(4)]
            for caller in callers:
                caller.start()
            for _ in range(10):
                threading.Event().wait(0.1)  # calls are being made meanwhile
                proxy.cut()
            stop.set()
            for caller in callers:
                caller.join(patience)
            with pytest.raises(CallFailed):
                client.call(silent, b"last", 0.5)
            assert client.in_flight == 0

        assert max(ends) < 3


class TestRoutingHeaders:
    """`CC` and `BCC`, which a broker reads at each publish."""

    @pytest.mark.parametrize("value", ["other", 1, {"a": 1}, ["other"]], ids=["text", "number", "table", "list"])
    def test_do_not_leave_with_a_call(self, url, silent, echo, channel, value):
        """The broker closes the channel for what is no list (406), and everybody's calls failed; a list is obeyed."""
        channel.queue_declare("other")
        headers = {"CC": value, "BCC": value, "note": "kept"}
        with RpcClient(url) as client:
            neighbour = client.send(silent, b"?", 20)
            answer = client.call("echo", b"?", headers=headers)

            assert answer.headers == {"note": "kept"}
            assert not neighbour.done()
        assert channel.queue_purge("other").method.message_count == 0


@pytest.mark.rabbitmq(since="4.0")
class TestLargeRequest:
    """A request that is larger than the broker takes: it closes the channel (406), to which all replies come."""

    LARGE = bytes(16 * 1024 * 1024 + 1)

    def test_fails_alone(self, url, echo, served, patience):
        """Its neighbours were told that they are refused for good, though their servers had never heard of them."""
        held = threading.Event()
        with RpcClient(url) as client:
            client._link._loop.ioloop.add_callback_threadsafe(lambda: held.wait(patience))
            before = [client.send("echo", b"before %d" % number, patience) for number in range(20)]
            large = client.send("echo", self.LARGE, patience)
            behind = [client.send("echo", b"behind %d" % number, patience) for number in range(20)]
            held.set()
            error, lost = large.exception(), list(filter(None, [call.exception() for call in before]))

            assert [call.result() for call in behind] == [b"behind %d" % number for number in range(20)]

        words = "the request to 'echo' has 16777217 bytes, and the broker takes 16777216 at most"
        assert (str(error), error.reply_code, error.permanent) == (words, 406, True)
        assert {(type(error), error.permanent) for error in lost} <= {(CallFailed, False)}
        assert max(served.values()) == 1

    def test_costs_one_channel(self, url, echo):
        """Once the limit is known, nobody's replies have to be lost for it."""
        with RpcClient(url) as client:
            assert isinstance(client.send("echo", self.LARGE).exception(), CallFailed)
            assert client.call("echo", b"heard") == b"heard"
            session = client._session
            with pytest.raises(CallFailed, match="takes 16777216 at most"):
                client.send("echo", self.LARGE)

            assert client.call("echo", b"heard") == b"heard"
            assert client._session is session

    def test_that_is_given_up_takes_nobody_with_it_for_good(self, url, echo, patience):
        """What the broker has refused is then not known, so nothing that has left may leave again."""
        held = threading.Event()
        with RpcClient(url) as client:
            client._link._loop.ioloop.add_callback_threadsafe(lambda: held.wait(patience))
            large = client.send("echo", self.LARGE, patience)
            behind = client.send("echo", b"behind", patience)
            client._link._loop.ioloop.add_callback_threadsafe(large.cancel)
            held.set()

            error = behind.exception()
            assert (error and error.permanent) in (None, False)
            assert client.call("echo", b"heard") == b"heard"


class TestWindow:
    """How much may be open."""

    def test_bounds_the_calls_that_are_open(self, url, silent):
        """A caller that sends faster than anybody answers fills its memory."""
        with RpcClient(url, window=2) as client:
            calls = [client.send(silent, b"?", 0.5) for _ in range(2)]
            with pytest.raises(CallFailed, match="was not sent: 2 calls are open"):
                client.send(silent, b"?", 0.1)

            assert all(isinstance(call.exception(2), CallTimedOut) for call in calls)
            assert isinstance(client.send(silent, b"?", 0.1).exception(1), CallTimedOut)

    def test_keeps_what_the_broker_does_not_read(self, broker, url, silent):
        """Calls that have expired must not stay in the socket's buffer, 300 MB of them."""

        def begin(_):
            try:
                return client.send(silent, bytes(1_000_000), 0.2)
            except CallFailed:  # on a busy machine no room came free before its deadline; it was never in the buffer
                return None

        with (
            Proxy(broker.endpoint.host, broker.endpoint.port) as proxy,
            RpcClient(proxy.url(url), window_bytes=20_000_000) as client,
        ):
            proxy.throttle(1)
            calls = list(filter(None, map(begin, range(40))))

            assert len(calls) >= 20
            assert all(isinstance(call.exception(5), CallFailed) for call in calls)
            assert client._loop.unsent < 3_000_000
            proxy.heal()


class TestCallback:
    """What runs in the client's own threads."""

    @pytest.mark.parametrize(
        "wait",
        [
            lambda client: client.call("silent", b"?", 1),
            lambda client: client.send("silent", b"?", 1).result(),
            lambda client: client.close(),
            lambda client: concurrent.futures.wait([client.send("silent", b"?", 1)]),
            lambda client: list(concurrent.futures.as_completed([client.send("silent", b"?", 1)])),
        ],
        ids=["call", "result", "close", "wait", "as_completed"],
    )
    @pytest.mark.parametrize("queue", ["nowhere", "silent"], ids=["returned", "expired"])
    def test_raises_if_it_waits_for_its_own_thread(self, url, silent, patience, wait, queue):
        """It would wait for the very thread that runs it, for ever, and with it everybody else."""
        errors, called = [], threading.Event()

        def callback(_):
            try:
                wait(client)
            except WrongThread as error:
                errors.append(str(error))
            called.set()

        with RpcClient(url) as client:
            added = threading.Event()  # a callback that comes after the answer would run here
            client._link._loop.ioloop.add_callback_threadsafe(lambda: added.wait(patience))
            client.send(queue, b"?", 0.5).add_done_callback(callback)
            added.set()
            assert called.wait(patience)

        assert "in a callback" in errors[0]

    @pytest.mark.parametrize("queue", ["nowhere", "silent", "echo"], ids=["returned", "expired", "answered"])
    @pytest.mark.parametrize(
        "error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), ValueError("a bug")], ids=repr
    )
    def test_that_raises_ends_nothing(self, url, silent, echo, patience, queue, error):
        """`sys.exit()` in there ended the thread of the connection, or the one that keeps everybody's deadlines."""

        def fail(_):
            called.set()
            raise error

        called = threading.Event()
        with RpcClient(url) as client:
            added = threading.Event()
            client._link._loop.ioloop.add_callback_threadsafe(lambda: added.wait(patience))
            client.send(queue, b"?", 0.5).add_done_callback(fail)
            added.set()
            assert called.wait(patience)

            ended = threading.Event()
            client.send(silent, b"?", 0.1).add_done_callback(lambda _: ended.set())
            assert ended.wait(patience)
            assert client.call("echo", b"heard", patience) == b"heard"

    def test_gets_an_error_of_its_own(self, url, silent):
        """One object for all would collect the traces of all, and grow without bound."""
        client = RpcClient(url)
        calls = [client.send(silent, b"?", 20) for _ in range(2)]
        client.close()

        assert calls[0].exception(1) is not calls[1].exception(1)
        late = []
        for _ in range(2):
            with pytest.raises(CallFailed, match="has been closed") as error:
                client.send(silent, b"?")
            late.append(error.value)
        assert late[0] is not late[1]


class TestReplies:
    """Where replies come to."""

    def test_come_to_a_new_queue_on_each_channel(self, broker, url, echo, eventually):
        """A broker that has not noticed the loss keeps the old exclusive queue locked (405), for two heartbeats."""
        with (
            Proxy(broker.endpoint.host, broker.endpoint.port) as proxy,
            RpcClient(proxy.url(url), exclusive_queue=True) as client,
        ):
            first = client.reply_to
            proxy.half_open()
            proxy.heal()
            client._link._loop.ioloop.add_callback_threadsafe(client._link._loop.cut)
            eventually(lambda: client.connected and client.reply_to != first, True)

            assert client.call("echo", b"heard") == b"heard"

    def test_come_though_the_channel_was_lost_before_the_request_left(self, url, echo, eventually, monkeypatch):
        """Encoded for the last channel it names an address that is gone, and a channel that is closed (504)."""
        with RpcClient(url, exclusive_queue=True) as client:
            enter, link, first = client._enter, client._link, client.reply_to

            def lose(call):
                link._loop.ioloop.add_callback_threadsafe(
                    lambda: link.reopen_channel(ChannelClosed("refused", 406, ""))
                )
                eventually(lambda: client.connected and client.reply_to != first, True)
                enter(call)

            monkeypatch.setattr(client, "_enter", lose)

            assert client.call("echo", b"heard") == b"heard"

    def test_bring_their_headers(self, url, echo):
        """A trace that ends at the call says nothing of what the server did."""
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        with RpcClient(url) as client:
            reply = client.call("echo", b"?", headers={"traceparent": trace, "tenant": 7})

        assert (reply, reply.headers) == (b"?", {"traceparent": trace, "tenant": 7})


class TestFork:
    """A process that was forked from the client's."""

    def test_is_told_at_the_first_use(self, url, silent, monkeypatch):
        """The connection and its thread stayed behind; a call would wait for its deadline, a send for nothing."""
        with RpcClient(url) as client:
            with monkeypatch.context() as child:
                child.setattr("rmqspec.client.process._here", object())
                with pytest.raises(WrongProcess, match="'rpc-client' was opened in process"):
                    client.call(silent, b"?")
                begin = time.monotonic()
                client._link.close()
            assert (client.connected, time.monotonic() - begin < 1) == (True, True)

    def test_is_told_where_it_waits_for_an_open_call(self, url, silent, monkeypatch):
        """No reply comes there; the wait lasted until the deadline, and said that the server might be away."""
        with RpcClient(url) as client:
            call = client.send(silent, b"?", 30)
            with monkeypatch.context() as child:
                child.setattr("rmqspec.client.process._here", object())
                for wait in (call.result, call.exception, lambda: concurrent.futures.wait([call])):
                    with pytest.raises(WrongProcess):
                        wait()
            assert not call.done()

    def test_ends_nothing_by_closing_what_it_has_inherited(self, url, silent):
        """A `with` block ends in the child too, where a lock may be held by a thread that is not there."""
        program = (
            "import os, sys, warnings; warnings.simplefilter('ignore')\n"
            "from rmqspec.client import RpcClient\n"
            f"client = RpcClient({url!r})\n"
            "client._outbox._guard.acquire()\n"
            "if os.fork() == 0:\n"
            "    client.close(); os._exit(7)\n"
            "print(os.waitstatus_to_exitcode(os.wait()[1]), client.connected); sys.stdout.flush(); os._exit(0)\n"
        )
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)

        assert ended.stdout == "7 True\n"

    def test_is_told_though_a_lock_was_held(self, url, silent):
        """Whoever forks while another thread publishes has its locks, held by a thread that is not there."""
        program = (
            "import os, sys, threading, warnings; warnings.simplefilter('ignore')\n"
            "from rmqspec.client import RpcClient\n"
            "from rmqspec.client.errors import WrongProcess\n"
            f"client = RpcClient({url!r})\n"
            "client._outbox._guard.acquire()\n"
            "if os.fork() == 0:\n"
            "    try: client.send('silent', b'?')\n"
            "    except WrongProcess: os._exit(7)\n"
            "print(os.waitstatus_to_exitcode(os.wait()[1])); sys.stdout.flush(); os._exit(0)\n"
        )
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)

        assert ended.stdout == "7\n"


class TestDeadlines:
    """`Deadlines`."""

    def test_forget_what_is_done(self):
        """Calls end long before their deadlines, thousands a second; kept until then they would fill the memory."""

        class Done:
            def done(self):
                return True

        deadlines = Deadlines("deadlines", id)
        for number in range(10_000):
            deadlines.add(time.monotonic() + 1_000 + number, Done())

        assert len(deadlines._heap) <= 1_024
        deadlines.close()
