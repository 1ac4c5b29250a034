"""The broker that stays: started once with rabbitup, used from every terminal, ended with rabbitdown.

It outlives the process that started it, so what was started stands in a file. All that can go wrong goes wrong between
that file and the world: the broker died and the file is still there, the port belongs to somebody else, or "down" ends
a broker that another person, or another checkout, has started.

Code: rmqspec/tools/broker/rabbitup.py
"""

import json
import os
import signal
import socket
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from rmqspec import client
from rmqspec.cli.rabbitup import rabbit_down, rabbit_up
from rmqspec.tools.broker import DEFAULT_IMAGE, Choice, Management, NoBroker, Unavailable, rabbitup
from rmqspec.tools.broker.endpoint import Endpoint, greet
from rmqspec.tools.broker.engine import engine, local_image
from rmqspec.tools.broker.installation import installed_here
from rmqspec.tools.broker.ports import LOOPBACK, ReservedPort
from rmqspec.tools.broker.reaper import OWNER_LABEL

pytestmark = [
    pytest.mark.timeout(240),  # brokers boot inside: each takes up to ten seconds where others run too
    # A broker that stays is a child that is still running when the object that started it is not needed any more.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]


@pytest.fixture(scope="module", params=["node", "container"])
def choice(request):
    """Each source that can give a broker here."""
    try:
        image = request.getfixturevalue("image") if request.param == "container" else DEFAULT_IMAGE
        if request.param == "node":
            installed_here()
    except Unavailable as reason:
        pytest.skip(f"not run: {reason}")
    return Choice(broker=request.param, image=image)


@pytest.fixture(scope="module")
def image():
    """The one of the environment, or one that is here already, or the default."""
    return os.environ.get("RABBITMQ_IMAGE") or local_image() or DEFAULT_IMAGE


@pytest.fixture(scope="module")
def ports():
    """Two for the broker of this module and two for another; nobody else is given them while they are held."""
    held = [ReservedPort() for _ in range(4)]
    yield [port.number for port in held]
    for port in held:
        port.release()


@pytest.fixture(scope="module")
def up(choice, ports, tmp_path_factory):
    """What `rabbitup` does, for a person who has nothing running yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield lambda: rabbitup.up(choice, *ports[:2], silently)
        rabbitup.down()


@pytest.fixture
def standing(up):
    """The broker that is up. A test that ends it need not start it again: the next one does."""
    return up()[0]


def silently(words):
    """Takes no notice of the progress."""


def containers(port):
    """Those of rmqspec that publish this port, or would if they ran."""
    docker = engine()
    owned = docker.containers.list(all=True, ignore_removed=True, filters={"label": OWNER_LABEL})
    docker.close()
    return [box for box in owned if f"'{port}'" in str(box.attrs["HostConfig"]["PortBindings"])]


def processes(directory):
    return [process for process in psutil.process_iter(["environ"]) if directory in str(process.info["environ"])]


def power_cut(standing):
    """Ends the server and nothing else: a container is still there, and the port mapper of a node still runs."""
    servers = [process for process in processes(standing.directory or "no node") if process.name() == "beam.smp"]
    for victim in servers or containers(standing.endpoint.port):
        victim.kill()
    psutil.wait_procs(servers)


def count(standing):
    """How many there are of it: containers, or port mappers."""
    if standing.kind == "container":
        return len(containers(standing.endpoint.port))
    return len([process for process in processes(standing.directory) if process.name() == "epmd"])


class TestUp:
    def test_lets_guy_in_at_the_ports_that_were_asked_for(self, standing, ports):
        """The seed of this project names user, password and ports, and every tutorial has 5672 and 15672."""
        assert standing.endpoint.management_url == f"http://{LOOPBACK}:{ports[1]}"
        assert Management(standing.endpoint).whoami() == "guy"
        client.connect(f"amqp://guy:yug@{LOOPBACK}:{ports[0]}/", "guy").close()

    def test_changes_nothing_while_it_is_up(self, standing, up):
        """It is typed again by whoever does not remember, and their queues must still be there."""
        Management(standing.endpoint).create_vhost("kept")

        again, fresh = up()

        assert (again, fresh, rabbitup.current()) == (standing, False, standing)
        assert "kept" in Management(standing.endpoint).vhosts()

    def test_replaces_a_broker_that_died(self, standing, up):
        """After a reboot the file is still there and the broker is not; nobody should have to know of the file."""
        Management(standing.endpoint).create_vhost("lost")
        power_cut(standing)
        assert rabbitup.current() is None

        again, fresh = up()

        assert (again, fresh, count(again)) == (standing, True, 1)
        assert "lost" not in Management(again.endpoint).vhosts()

    def test_keeps_its_file_from_other_users(self, standing):
        """The login stands in it."""
        file = rabbitup.state_directory() / "rabbitup.json"

        assert oct(file.stat().st_mode & 0o777) == "0o600"
        assert '"yug"' in file.read_text()

    def test_leaves_nothing_when_it_is_interrupted(self, choice, ports, run, environment, eventually):
        """A broker that somebody gave up waiting for would take the port from the next one."""
        port, management_port = map(str, ports[2:])
        where = [f"--rabbitmq-broker={choice.broker}", f"--rabbitmq-image={choice.image}"]
        process = run("rabbitup", "--port", port, "--management-port", management_port, *where)
        file = Path(environment["XDG_STATE_HOME"], "rmqspec", "rabbitup.json")
        eventually(file.exists, True, within=30)

        process.ends(signal.SIGINT, within=60)

        assert [path.name for path in file.parent.iterdir()] == ["rabbitup.lock"]
        assert processes(f"{file.parent}/") == []
        assert choice.broker == "node" or containers(port) == []

    def test_leaves_nothing_when_it_is_interrupted_as_it_is_noted(self, choice, ports, tmp_path, monkeypatch):
        """The note would name a broker that there is not."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        write = rabbitup._write

        def write_and_be_interrupted(standing):
            write(standing)
            raise KeyboardInterrupt

        monkeypatch.setattr(rabbitup, "_write", write_and_be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            rabbitup.up(choice, *ports[2:], print)

        assert [path.name for path in rabbitup.state_directory().iterdir()] == ["rabbitup.lock"]

    @pytest.mark.parametrize("choice", ["node"], indirect=True)
    def test_leaves_nothing_when_it_is_interrupted_as_a_node_is_prepared(self, choice, ports, tmp_path, monkeypatch):
        """The login would stay in the node's configuration."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        prepare = rabbitup.Node.prepare

        def prepare_and_be_interrupted(node):
            prepare(node)
            raise KeyboardInterrupt

        monkeypatch.setattr(rabbitup.Node, "prepare", prepare_and_be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            rabbitup.up(choice, *ports[2:], print)

        assert [path.name for path in rabbitup.state_directory().iterdir()] == ["rabbitup.lock"]


class TestTakenPort:
    @pytest.mark.parametrize("which", [0, 1], ids=["amqp", "management"])
    def test_is_refused_with_who_holds_it(self, which, ports, tmp_path, monkeypatch):
        """`Address already in use` starts a search with tools that few remember; the answer is one look away."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        me = psutil.Process()
        with socket.create_server((LOOPBACK, 0)) as holder:
            wanted = [*ports[2:]]
            wanted[which] = holder.getsockname()[1]

            with pytest.raises(rabbitup.AlreadyTaken) as refused:
                rabbitup.up(Choice(broker="node"), *wanted, silently)

        assert str(refused.value) == (
            f"port {wanted[which]} is taken by {me.name()} (pid {me.pid}, user {me.username()}): "
            "stop that, or choose another port"
        )

    def test_is_refused_if_it_is_wanted_twice(self, tmp_path, monkeypatch):
        """It took half a minute, and ended in a dump of Erlang's."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

        with pytest.raises(rabbitup.AlreadyTaken, match="cannot both have port 7000"):
            rabbitup.up(Choice(broker="node"), 7000, 7000, silently)


class TestOtherPort:
    """`rabbitup --port` while a broker is up at another one."""

    def test_is_answered_with_where_the_broker_is(self, standing, up, ports):
        """Silently taken for done, a script would go on with a port at which nobody listens."""
        asked = CliRunner().invoke(rabbit_up, ["--port", str(ports[2])])
        same = CliRunner().invoke(rabbit_up, ["--port", str(ports[0])])

        assert asked.exit_code == 1
        assert f"it is up at {ports[0]}: for --port {ports[2]} run rmqspec rabbitdown first" in asked.output
        assert (same.exit_code, CliRunner().invoke(rabbit_up).exit_code) == (0, 0)


class TestState:
    """The file in which it stands what is up."""

    @pytest.mark.parametrize(
        "written", [b"", b"{", b"{}", b"null", b"[]", b"\xff", b'{"kind": "node", "endpoint": {"x": 1}}'],
        ids=["empty", "half", "no_fields", "null", "list", "no_text", "other_version"],
    )  # fmt: skip
    def test_may_be_no_whole_one(self, written, tmp_path, monkeypatch):
        """A full disk left an empty one, and then not even `rabbitdown` worked."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        rabbitup.state_directory().mkdir()
        (rabbitup.state_directory() / "rabbitup.json").write_bytes(written)

        assert rabbitup.current() is None
        down = CliRunner().invoke(rabbit_down)

        assert (down.exit_code, down.output) == (
            0, "The note of what was up was not whole; whatever rabbitup had started is down.\n",
        )  # fmt: skip
        assert rabbitup.down() is None

    @pytest.mark.parametrize("place", ["a_file", "a_directory_as_note"])
    def test_that_cannot_be_used_is_one_sentence(self, place, ports, tmp_path, monkeypatch):
        """A home directory that is full or read-only is the user's to mend, and a traceback does not say so."""
        (tmp_path / "a_file").touch()
        (tmp_path / "a_directory_as_note/rmqspec/rabbitup.json").mkdir(parents=True)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / place))

        with pytest.raises(rabbitup.StateUnusable, match="let XDG_STATE_HOME name a directory"):
            rabbitup.up(Choice(broker="node"), *ports[2:], silently)
        with pytest.raises(rabbitup.StateUnusable, match="what is up cannot be noted: /"):
            rabbitup.down()
        assert rabbitup.current() is None


class TestSource:
    def test_is_no_broker_that_runs_elsewhere(self, ports, tmp_path, monkeypatch):
        """RABBITMQ_BROKER=url is for the tests; here it left a screen without a reason."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

        with pytest.raises(NoBroker, match="a broker that runs elsewhere is not started here") as refused:
            rabbitup.up(Choice(broker="url"), *ports[2:], silently)

        assert "--rabbitmq-url, or RABBITMQ_URL" in str(refused.value)

    def test_that_was_passed_over_is_named(self, ports, tmp_path, monkeypatch):
        """Somebody who has Docker, and gets the old version of a package, wants to know why."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
        monkeypatch.delenv("RABBITMQ_BROKER", raising=False)
        try:
            installed_here()
        except Unavailable as reason:
            pytest.skip(f"not run: {reason}")

        started = CliRunner().invoke(rabbit_up, ["--port", str(ports[2]), "--management-port", str(ports[3])])
        CliRunner().invoke(rabbit_down)

        assert started.exit_code == 0, started.output
        assert "is up (node)" in started.output
        assert "passed over: container (no Docker engine listens on this machine (no socket))" in started.output


class TestDown:
    def test_removes_what_was_started_and_nothing_else(self, standing, choice, ports, broker, tmp_path, monkeypatch):
        """Two checkouts, or two people at one machine, have a broker each."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        other, _ = rabbitup.up(choice, *ports[2:], silently)

        assert rabbitup.down() == other

        with pytest.raises(ConnectionRefusedError):
            greet(other.endpoint)
        assert [path.name for path in rabbitup.state_directory().iterdir()] == ["rabbitup.lock"]
        assert processes(f"{tmp_path}/rmqspec/") == []
        assert choice.broker == "node" or containers(ports[2]) == []
        assert None not in (standing.identity(), greet(broker.endpoint))

    def test_removes_what_was_started_also_where_its_note_is_not_whole(self, standing, up, choice, ports, eventually):
        """What was started is known by its label, or by its directory, also without the note."""
        (rabbitup.state_directory() / "rabbitup.json").write_text("")

        rabbitup.down()

        with pytest.raises(ConnectionRefusedError):
            greet(standing.endpoint)
        assert choice.broker == "node" or containers(ports[0]) == []

    def test_says_that_nothing_was_up(self, tmp_path, monkeypatch):
        """Down is typed twice as easily as up, and is no error then."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

        assert (rabbitup.down(), rabbitup.current()) == (None, None)

    def test_says_that_the_engine_of_the_container_is_gone(self, tmp_path, monkeypatch):
        """Docker was stopped meanwhile: a traceback would not say that the note of the broker is kept."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
        (note := tmp_path / "rmqspec" / "rabbitup.json").parent.mkdir()
        endpoint = asdict(Endpoint(LOOPBACK, 1, "guy", "yug", f"http://{LOOPBACK}:1"))
        note.write_text(json.dumps({"kind": "container", "endpoint": endpoint, "directory": ""}))

        with pytest.raises(rabbitup.StateUnusable) as refused:
            rabbitup.down()

        assert str(refused.value) == (
            "the container that rabbitup started cannot be removed: no Docker engine listens on this machine (no "
            f"socket); install Docker and start it, or delete {note} if it is gone"
        )
        assert note.exists()
