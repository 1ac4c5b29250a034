"""A private node: the server that is installed here, as any user, beside whatever else runs.

Whoever has RabbitMQ on the machine needs no container. But a node that met the system's own, listened to the network,
or stayed behind after Ctrl-C would do harm that nobody asked for. So it has a directory, ports, a cookie and a port
mapper of its own, and it ends with the run, by whatever death the run ends.

Spec: https://www.rabbitmq.com/docs/configure#supported-environment-variables
Code: rmqspec/tools/broker/node.py, rmqspec/tools/broker/reaper.py
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from rmqspec import client
from rmqspec.tools.broker import BrokerDied, Configuration, NotOurs, Unavailable
from rmqspec.tools.broker.endpoint import greet
from rmqspec.tools.broker.installation import Installation, installed_here
from rmqspec.tools.broker.node import NodeBroker
from rmqspec.tools.broker.reaper import OWNER_VARIABLE, kill_owned
from rmqspec.tools.broker.shared import SharedBroker

pytestmark = pytest.mark.timeout(240)  # nodes boot inside: each takes up to ten seconds where others run too

SAYS_ITS_DIRECTORY = """
import sys
from rmqspec.tools.broker.installation import installed_here
from rmqspec.tools.broker.node import NodeBroker
print(NodeBroker(installed_here()).node.directory, flush=True)
sys.stdin.read()
"""

NEVER_ASKS_HOW_IT_ENDED = """
import os, subprocess, sys
print(subprocess.Popen(["sleep", "600"], env={**os.environ, "RMQSPEC_OWNER": sys.argv[1]}).pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def installed():
    try:
        return installed_here()
    except Unavailable as reason:
        pytest.skip(f"not run: {reason}")


@pytest.fixture(scope="module")
def pair(installed):
    """Two nodes that run at the same time."""
    with contextlib.closing(NodeBroker(installed)) as one, contextlib.closing(one.another()) as other:
        yield one, other


@pytest.fixture
def node(pair):
    return pair[0]


@pytest.fixture
def process(installed, tmp_path):
    """Another process, which starts a node; its temporary files are in `tmp_path`."""
    command, environment = [sys.executable, "-c", SAYS_ITS_DIRECTORY], {**os.environ, "TMPDIR": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, start_new_session=True, text=True, **pipes) as started:
        yield started
        started.kill()


def processes(directory):
    """The processes of the nodes whose directories are this one, or in it."""
    return [process for process in psutil.process_iter() if owner(process).startswith(str(directory))]


def owner(process):
    try:
        return process.environ().get(OWNER_VARIABLE, "")
    except psutil.Error:
        return ""


def left_in(directory):
    return len(processes(directory)), len(list(directory.glob("rmqspec-node-*")))


class TestNodeBroker:
    def test_runs_beside_others(self, broker, pair):
        """Two runs on one machine, or the eight workers of one run, must not meet in a port, a name or a cookie."""
        endpoints = [each.endpoint for each in (broker, *pair)]

        assert len({at.port for at in endpoints}) == len({at.management_url for at in endpoints}) == 3
        assert [greet(at).product for at in endpoints] == ["RabbitMQ"] * 3
        assert len({(each.node.directory / ".erlang.cookie").read_text() for each in pair}) == 2

    def test_shares_nothing_with_the_other(self, pair):
        """Nodes that had found each other would form a cluster, and one would show the vhosts of both."""
        one, other = pair

        one.management.create_vhost("mine-alone")

        assert "mine-alone" in one.management.vhosts()
        assert "mine-alone" not in other.management.vhosts()

    def test_listens_on_loopback_only(self, node):
        """A broker on every interface is one that the whole network may log in to; so is Erlang's own port."""
        listening = {
            connection.laddr
            for process in processes(node.node.directory)
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }

        assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}
        assert {node.endpoint.port, node.node.distribution, node.node.mapper} <= {at.port for at in listening}

    def test_closes_its_directory_to_others(self, node):
        """The login stands in the configuration, and whoever has the cookie may run code in the node."""
        assert oct(node.node.directory.stat().st_mode & 0o777) == "0o700"
        assert node.endpoint.password in (node.node.directory / "rabbitmq.conf").read_text()

    @pytest.mark.parametrize("end", [NodeBroker.stop, NodeBroker.kill], ids=["a-restart", "a-power-cut"])
    def test_comes_back_as_it_was_after(self, node, end, request):
        """A client that reconnects has the old address and the old login, and expects its durable queues."""
        vhost = request.node.callspec.id
        node.management.create_vhost(vhost)
        end(node)
        with pytest.raises(ConnectionRefusedError):
            greet(node.endpoint)

        node.start()

        assert node.management.whoami() == node.endpoint.user
        assert vhost in node.management.vhosts()
        client.connect(node.endpoint.url(vhost), "reconnected").close()

    def test_leaves_nothing_after_ctrl_c(self, process, tmp_path):
        """The terminal sends Ctrl-C to the whole group. The process waits for its reaper, so all is gone when it is."""
        directory = Path(process.stdout.readline().strip())
        assert (directory.parent, left_in(tmp_path)[1]) == (tmp_path, 1)

        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)

        assert left_in(tmp_path) == (0, 0)

    def test_leaves_nothing_after_ctrl_c_while_it_boots(self, process, tmp_path, eventually):
        """The most likely moment of all: somebody sees that it takes long, and gives up."""
        eventually(lambda: left_in(tmp_path)[0] > 1, True, within=60)

        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)

        assert left_in(tmp_path) == (0, 0)

    def test_leaves_nothing_after_a_crash(self, process, tmp_path, eventually):
        """After SIGKILL no teardown runs in the process itself; only somebody who watches it can clean up."""
        assert process.stdout.readline() != ""

        os.killpg(process.pid, signal.SIGKILL)

        eventually(lambda: left_in(tmp_path), (0, 0), within=30)

    def test_passes_on_the_last_words_of_a_server_that_ends(self, installed, tmp_path, monkeypatch):
        """A server that cannot boot says why, in the log of a directory that is about to be deleted."""
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        script = tmp_path / "rabbitmq-server"
        script.write_text("#!/bin/sh\necho 'the disk is full'\nexit 3\n")
        script.chmod(0o700)

        with pytest.raises(BrokerDied) as death:
            NodeBroker(Installation(script))

        assert str(death.value) == "rabbitmq-server ended with status 3; its last words:\n    the disk is full"
        assert left_in(tmp_path) == (0, 0)

    def test_leaves_nothing_after_close(self, pair):
        """A run a day for a year would otherwise fill the disk with nodes that nobody remembers."""
        _, other = pair
        directory = other.node.directory
        assert processes(directory) != []

        other.close()

        assert (processes(directory), directory.exists()) == ([], False)
        other.close()  # as the end of a fixture does, where a test was first


class TestKillOwned:
    """What ends the processes of a node."""

    def test_waits_for_no_process_that_has_ended(self, tmp_path):
        """One whose parent never asks how it ended stays a zombie: in many a container each close took ten seconds."""
        command = [sys.executable, "-c", NEVER_ASKS_HOW_IT_ENDED, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
            child = psutil.Process(int(parent.stdout.readline()))
            began = time.monotonic()

            kill_owned(tmp_path)

            assert time.monotonic() - began < 5.0
            assert child.status() == psutil.STATUS_ZOMBIE


class TestSharedBroker:
    """A worker of pytest-xdist uses the broker of the whole run, and a second one of its own."""

    def test_is_left_alone_by_who_shares_it(self, broker):
        """The first worker that is done would otherwise end the broker of all the others."""
        shared = SharedBroker(SharedBroker.letter(broker, "an image"))
        for end in (shared.start, shared.stop, shared.kill, shared.restart):
            with pytest.raises(NotOurs):
                end()

        shared.close()

        assert greet(broker.endpoint) == broker.identity == shared.identity

    def test_passes_on_that_another_one_died(self, broker):
        """A spec of a configuration that stops the node is one with workers and without."""
        shared = SharedBroker(SharedBroker.letter(broker, "rabbitmq:4.3-management"))

        with pytest.raises(BrokerDied):
            shared.another(Configuration(lines=("no.such.key = 1",), management=False))
