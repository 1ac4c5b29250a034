"""A broker in a container: found through Docker, started through Testcontainers.

It is the first choice where an engine answers, for any version can be had that way. Docker gives a container another
host port after each restart, publishes ports to the whole network unless told otherwise, keeps volumes, and has four
ways to refuse. So ports are chosen beforehand and stay, everything is on loopback and removed at the end, and each
refusal has its own sentence.

Spec: https://docs.docker.com/engine/network/port-publishing/
Code: rmqspec/tools/broker/container.py, rmqspec/tools/broker/engine.py, rmqspec/tools/broker/reaper.py
"""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

import pytest
from testcontainers.core.config import testcontainers_config

from rmqspec.tools.broker import Choice, NoBroker, Unavailable, find, rabbitup
from rmqspec.tools.broker.container import ContainerBroker
from rmqspec.tools.broker.endpoint import greet
from rmqspec.tools.broker.engine import engine, local_image, prepare
from rmqspec.tools.broker.find import image_for
from rmqspec.tools.broker.ports import ReservedPort
from rmqspec.tools.broker.reaper import OWNER_LABEL, remove_containers

from .echo import serving

pytestmark = pytest.mark.timeout(240)  # containers boot inside: each takes up to ten seconds where others run too

NOWHERE = "rmqspec.invalid/nowhere:none"  # the domain .invalid is promised never to exist

SAYS_ITS_PORT = """
import sys
from rmqspec.tools.broker.container import ContainerBroker
print(ContainerBroker(sys.argv[1]).endpoint.port, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def networks(docker):
    """The engine's networks before the tests."""
    return {network.id for network in docker.networks.list()}


@pytest.fixture(scope="module")
def container(image, networks):
    with contextlib.closing(ContainerBroker(image)) as one:
        yield one


@pytest.fixture(scope="module")
def pair(container):
    """Two containers that run at the same time."""
    with contextlib.closing(container.another()) as other:
        yield container, other


@pytest.fixture
def process(image):
    """Another process, which starts a container."""
    command = [sys.executable, "-c", SAYS_ITS_PORT, image]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, start_new_session=True, text=True, **pipes) as started:
        yield started
        started.kill()


@pytest.fixture
def traces(docker):
    """Notes a container by its port; what it returns tells how many containers and volumes of it are still there."""

    def note(port):
        (box,) = [box for box in owned(docker) if bindings(box)["5672/tcp"][0]["HostPort"] == str(port)]
        volumes = {mount["Name"] for mount in box.attrs["Mounts"]}
        assert volumes != set()
        return lambda: (
            sum(other.id == box.id for other in owned(docker)),
            sum(volume.name in volumes for volume in docker.volumes.list()),
        )

    return note


@pytest.fixture
def daemon(tmp_path, monkeypatch):
    """A socket where the engine's would be; nobody listens on it yet."""
    address = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{address}")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(address))
        yield server


@pytest.fixture
def context(tmp_path, monkeypatch):
    """Makes a Docker context the one in use: `context("unix:///elsewhere.sock")`."""

    def use(host, name="elsewhere"):
        folder = tmp_path / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
        folder.mkdir(parents=True)
        meta = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}}}
        (folder / "meta.json").write_text(json.dumps(meta))
        (tmp_path / "config.json").write_text(json.dumps({"currentContext": name}))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        monkeypatch.delenv("DOCKER_HOST", raising=False)

    return use


class Failing(BaseHTTPRequestHandler):
    """An engine that answers, and fails at what is asked in `at`."""

    protocol_version = "HTTP/1.1"
    at = ""

    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        answers = {
            "_ping": (200, {}),
            "version": (200, {"ApiVersion": "1.44", "MinAPIVersion": "1.24"}),
            "images": (200, {"Id": "sha256:1", "RepoTags": [], "Config": {}}),
            "containers/json": (200, []),
        }
        answers[self.at] = (500, {"message": "no space left on device"})
        status, body = next((answer for words, answer in answers.items() if words in self.path), (404, {}))
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self):
        self.do_GET()

    def do_DELETE(self):
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def failing_engine(monkeypatch):
    """Makes `DOCKER_HOST` an engine that fails at something: `failing_engine("create")`."""
    with contextlib.ExitStack() as stack:

        def start(at):
            port = stack.enter_context(serving(type("Engine", (Failing,), {"at": at})))
            monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")

        yield start


def two_free_ports():
    ports = ReservedPort(), ReservedPort()
    for port in ports:
        port.release()
    return [port.number for port in ports]


@contextlib.contextmanager
def somebody():
    """Root may do everything, also where files forbid it; for a moment it is user nobody."""
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def refusal(call, *arguments):
    with pytest.raises(Unavailable) as refused:
        call(*arguments)
    assert "\n" not in str(refused.value)  # one sentence for the screen
    return refused.value.reason, refused.value.remedy


def owned(docker):
    return docker.containers.list(all=True, ignore_removed=True, filters={"label": OWNER_LABEL})


def bindings(box):
    return box.attrs["HostConfig"]["PortBindings"]


class TestContainerBroker:
    def test_has_ports_of_its_own_on_loopback(self, pair):
        """Docker publishes to every interface by default, past most firewalls."""
        published = [binding for each in pair for (binding,) in bindings(each._container).values()]

        assert {binding["HostIp"] for binding in published} == {"127.0.0.1"}
        assert len({binding["HostPort"] for binding in published}) == 4
        assert [greet(each.endpoint).product for each in pair] == ["RabbitMQ", "RabbitMQ"]

    def test_makes_no_network(self, container, networks):
        """Each network takes a subnet, and Docker has about thirty of them to give."""
        container._container.reload()

        joined = container._container.attrs["NetworkSettings"]["Networks"].values()

        assert {network["NetworkID"] for network in joined} <= networks

    @pytest.mark.parametrize("end", [ContainerBroker.stop, ContainerBroker.kill], ids=["restart", "power-cut"])
    def test_keeps_address_and_data_through_a(self, container, end, request):
        """Docker's own choice of a port would change, and every client would knock at the old one for ever."""
        vhost = request.node.callspec.id
        container.management.create_vhost(vhost)
        end(container)
        with pytest.raises(OSError, match=r"refused|reset|hung up"):
            greet(container.endpoint)

        container.start()

        assert greet(container.endpoint) == container.identity
        assert vhost in container.management.vhosts()

    def test_is_removed_by_close_with_its_volume(self, pair, traces):
        """A volume that stays is a hundred megabytes that only `docker system df` shows."""
        _, other = pair
        left = traces(other.endpoint.port)
        assert left() == (1, 1)

        other.close()

        assert left() == (0, 0)
        other.close()  # as the end of a fixture does, where a test was first

    def test_is_removed_after_ctrl_c(self, process, traces):
        """The terminal sends Ctrl-C to the whole group. The process waits for its reaper, so all is gone when it is."""
        left = traces(process.stdout.readline().strip())

        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)

        assert left() == (0, 0)

    def test_is_removed_after_a_crash(self, process, traces, eventually):
        """After SIGKILL no teardown runs in the process itself, and Docker keeps what it was told to keep."""
        left = traces(process.stdout.readline().strip())

        os.killpg(process.pid, signal.SIGKILL)

        eventually(left, (0, 0), within=60)


class TestEngine:
    def test_says_that_there_is_none(self, monkeypatch):
        """The plainest case: Docker is not installed, and that is no fault of anybody."""
        monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")

        reason, remedy = refusal(engine)

        assert reason == "no Docker engine listens on this machine (no socket)"
        assert remedy == "install Docker and start it"

    def test_says_that_it_refuses_this_user(self, daemon, tmp_path):
        """It runs, so installing it again is of no use; a membership in a group is."""
        daemon.listen()
        (tmp_path / "docker.sock").chmod(0)

        with somebody():
            reason, remedy = refusal(engine)

        assert reason == "the Docker engine refuses this user"
        assert remedy == "add the user to the group docker, or use another"

    def test_says_that_it_does_not_answer(self, daemon):
        """A daemon that was stopped leaves its socket file behind."""
        reason, remedy = refusal(engine)

        assert reason.startswith("the Docker engine does not answer (")
        assert reason.endswith("Connection refused)")
        assert remedy == "start it, and check DOCKER_HOST and `docker context ls`"

    def test_says_that_the_image_cannot_be_had(self, docker):
        """Behind a company's firewall the engine runs and no registry answers."""
        reason, remedy = refusal(ContainerBroker, NOWHERE)

        assert reason.startswith(f"the image {NOWHERE} is not on this machine and cannot be pulled (")
        assert remedy == "pull it once where a registry answers, or name another with --rabbitmq-image"

    def test_needs_no_credential_helper_for_the_next_source(self, docker, monkeypatch, tmp_path):
        """A Docker that was moved from a desktop names a helper that is not installed here; pulling then fails."""
        (tmp_path / "config.json").write_text('{"credsStore": "nowhere"}')
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

        reason, _ = refusal(ContainerBroker, NOWHERE)

        assert "docker-credential-nowhere" in reason

    def test_does_without_the_cleanup_image_where_it_cannot_be_had(self, image, monkeypatch):
        """Testcontainers fails at its own image first; what it would remove is removed by a process of ours."""
        monkeypatch.setattr(testcontainers_config, "ryuk_disabled", False)
        monkeypatch.setattr(testcontainers_config, "ryuk_image", NOWHERE)

        prepare(image)

        assert testcontainers_config.ryuk_disabled

    def test_is_the_one_of_the_docker_context_in_use(self, docker, context):
        """`docker ps` asks that one, and so does Testcontainers."""
        context("unix:///nonexistent.sock")

        reason, _ = refusal(engine)

        assert reason == "no Docker engine listens on this machine (no socket)"

    @pytest.mark.parametrize("asked", ["create", "images"])
    def test_that_fails_at_something_is_passed_over(self, failing_engine, asked, tmp_path, monkeypatch):
        """A full disk is as good as no engine: the next source is tried, and nobody reads a traceback."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
        failing_engine(asked)
        choice = Choice(broker="container")

        for start in (find, lambda choice, progress: rabbitup.up(choice, *two_free_ports(), progress)):
            with pytest.raises(NoBroker) as refused:
                start(choice, lambda words: None)

            assert refused.value.refusals[0].reason == "the Docker engine failed (no space left on device)"
        assert not (tmp_path / "rmqspec" / "rabbitup.json").exists()

    def test_of_the_context_is_asked_to_remove_too(self, docker, context):
        """Another engine would be asked for the containers there, find none, and the broker would stay for ever."""
        context("unix:///nonexistent.sock")

        reason, _ = refusal(remove_containers, "nobody's")

        assert reason == "no Docker engine listens on this machine (no socket)"


class TestImage:
    def test_is_one_that_is_here_where_the_default_cannot_be_pulled(self, image, monkeypatch):
        """Behind a firewall a learner has pulled some version once, and need not know which one is the default."""
        monkeypatch.delenv("RABBITMQ_IMAGE", raising=False)
        said = []

        chosen = image_for(replace(Choice(), image=NOWHERE), said.append)

        assert chosen == local_image()
        assert said == [f"{NOWHERE} cannot be pulled: using {chosen}, which is here"]

    def test_is_the_one_that_was_named_or_none(self, docker):
        """Another version than the one that was asked for would prove something else."""
        choice = Choice.settle({"image": NOWHERE}, {})

        reason, remedy = refusal(image_for, choice, print)

        assert reason.startswith(f"the image {NOWHERE} is not on this machine and cannot be pulled (")
        assert remedy == "pull it once where a registry answers, or name another with --rabbitmq-image"
