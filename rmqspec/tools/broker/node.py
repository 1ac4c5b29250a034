"""A private RabbitMQ node: this machine's server, on loopback, beside whatever else runs.

Directory, cookie, node name, ports, login and even the Erlang port mapper are its own, so it meets no other node and
any user can start it. Source of the variables: https://www.rabbitmq.com/docs/configure#supported-environment-variables
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rmqspec.tools.broker.applications import needed_applications
from rmqspec.tools.broker.base import STARTED, Broker, wait_until_ready
from rmqspec.tools.broker.configuration import PLAIN, Configuration
from rmqspec.tools.broker.endpoint import Endpoint, Identity, random_login
from rmqspec.tools.broker.errors import ControlError
from rmqspec.tools.broker.installation import Installation
from rmqspec.tools.broker.ports import LOOPBACK, ReservedPort
from rmqspec.tools.broker.reaper import OWNER_VARIABLE, kill_owned, watch

__all__ = ["Node", "NodeBroker"]

STOP_TIMEOUT = 60.0  # seconds for an orderly stop; a busy node needs one or two

DEFAULTS = """\
listeners.tcp.default = {host}:{amqp}
default_user = {user}
default_pass = {password}
loopback_users = none
log.console = true
log.file = false
"""
MANAGEMENT = """\
management.tcp.ip = {host}
management.tcp.port = {management}
"""


@dataclass(frozen=True, slots=True)
class Node:
    """The files and processes of one node.

    Attributes:
        installation: The server to run.
        directory: All that belongs to the node; whoever may read it knows the login.
        endpoint: Its addresses, both on loopback, and its login.
        distribution: The port that Erlang's own protocol listens on.
        mapper: The port of the node's own epmd.
        configuration: What the server is started with beyond the defaults.
        applications: What it needs of those that are installed; nothing for all of them.
    """

    installation: Installation
    directory: Path
    endpoint: Endpoint
    distribution: int
    mapper: int
    configuration: Configuration = PLAIN
    applications: tuple[Path, ...] = ()

    def prepare(self) -> None:
        """Writes the configuration and the files that it names, for this user alone."""
        self.directory.chmod(0o700)
        fields = {
            "host": self.endpoint.host,
            "amqp": self.endpoint.port,
            "management": self.endpoint.management_url.rpartition(":")[2],
            "user": self.endpoint.user,
            "password": self.endpoint.password,
        }
        files, more = self.directory / "files", self.configuration
        files.mkdir(mode=0o700)
        for name, content in more.files.items():
            (files / name).touch(mode=0o600)
            (files / name).write_bytes(content)
        added = more.text(str(files), f"{self.endpoint.host}:{self.endpoint.tls_port}")
        lines = DEFAULTS + (MANAGEMENT if more.management else "")
        (self.directory / "rabbitmq.conf").write_text(lines.format(**fields) + added)
        (self.directory / "enabled_plugins").write_text(more.enabled_plugins)
        if more.advanced:
            (self.directory / "advanced.config").write_text(more.advanced)
        self._plugins.mkdir()
        for application in self._in_front:
            if application.parent == self.installation.plugins:
                (self._plugins / application.name).symlink_to(application)

    def launch(self) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
        """Starts the server and its port mapper, in sessions of their own: no Ctrl-C reaches them."""
        epmd = [self.installation.find("epmd"), "-port", str(self.mapper), "-address", LOOPBACK]
        with self.log.open("ab") as log:
            mapper = self._spawn(epmd, log.fileno())
            return self._spawn([str(self.installation.server)], log.fileno()), mapper

    def wait(self, server: subprocess.Popen[bytes], starts: int = 1) -> Identity:
        """Waits until the server answers.

        Args:
            server: The process.
            starts: How often it was started: each start ends with a line in the log.

        Raises:
            BrokerDied: It ended before.
        """

        def started() -> bool:
            return self.log.read_text(errors="replace").count(STARTED) >= starts

        return wait_until_ready(self.endpoint, started, lambda: self._epitaph(server))

    def control(self, *arguments: str) -> str:
        """Runs ``rabbitmqctl``, which stands beside the server, against this node."""
        command = [str(self.installation.server.with_name("rabbitmqctl")), "--quiet", *arguments]
        done = subprocess.run(  # noqa: S603  (the installation's own program)
            command, env=self._environment(), cwd=self.directory, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ControlError(f"rabbitmqctl {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout.strip()

    def remove(self) -> None:
        """Kills what still runs and deletes the directory."""
        kill_owned(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _plugins(self) -> Path:
        return self.directory / "plugins"

    @property
    def _in_front(self) -> tuple[Path, ...]:
        """What comes first on the code path; nothing where the directory cannot stand in a list of directories."""
        return () if ":" in str(self.directory) else self.applications

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.directory / "console.log"

    def _spawn(self, command: list[str], log: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  (the installation's own programs)
            command,
            env=self._environment(),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _environment(self) -> dict[str, str]:
        """A whole environment: the caller's RABBITMQ_* would reconfigure the node."""
        here = self.directory
        libraries = ":".join(map(str, self.installation.libraries))
        applications = [str(place / "ebin") for place in self._in_front]
        return {
            OWNER_VARIABLE: str(here),
            "PATH": self.installation.search_path,
            "HOME": str(here),  # Erlang's cookie lives here
            "LANG": "C.UTF-8",
            **({"LD_LIBRARY_PATH": libraries} if libraries else {}),
            "ERL_EPMD_PORT": str(self.mapper),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": f"rmqspec-{self.endpoint.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(here / "data"),
            "RABBITMQ_LOG_BASE": str(here / "log"),
            "RABBITMQ_CONFIG_FILE": str(here / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(here / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",  # the system's own, in /etc
            "RABBITMQ_PID_FILE": str(here / "pid"),
            "RABBITMQ_DIST_PORT": str(self.distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(
                ["-kernel inet_dist_use_interface {127,0,0,1}", *(["-pa", *applications] if applications else [])]
            ),
            **({"RABBITMQ_PLUGINS_DIR": str(self._plugins)} if applications else {}),
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the server, so that signals and the pid are its
        }

    def _epitaph(self, server: subprocess.Popen[bytes]) -> str | None:
        if server.poll() is None:
            return None
        last = self.log.read_text(errors="replace").strip().splitlines()[-12:]
        return "\n    ".join([f"rabbitmq-server ended with status {server.returncode}; its last words:", *last])


class NodeBroker(Broker):
    """A private node for the time of one run.

    Args:
        installation: The server to run.
        source: ``node``, or ``package`` where the server was unpacked for it.
        configuration: What it is started with beyond the defaults.

    Raises:
        BrokerDied: It did not come up.
    """

    def __init__(self, installation: Installation, source: str = "node", configuration: Configuration = PLAIN) -> None:
        self.source, self._installation = source, installation
        applications = needed_applications(installation, configuration)
        self.description = {"node": "a private node", "package": "a private node from unpacked packages"}[source]
        self._ports = [ReservedPort() for _ in range(5 if configuration.tls else 4)]
        self._processes: tuple[subprocess.Popen[bytes], ...] = ()
        self._starts = 0
        amqp, management, distribution, mapper, *tls = (port.number for port in self._ports)
        directory = Path(tempfile.mkdtemp(prefix="rmqspec-node-"))
        watch("directory", str(directory))
        api = f"http://{LOOPBACK}:{management}" if configuration.management else ""
        self.endpoint = Endpoint(LOOPBACK, amqp, *random_login(), api, tls_port=sum(tls))
        self.node = Node(installation, directory, self.endpoint, distribution, mapper, configuration, applications)
        try:
            self.node.prepare()
            self.start()
        except BaseException:  # also Ctrl-C while it boots
            self.close()
            raise

    def another(self, configuration: Configuration = PLAIN) -> Broker:
        """Another node of the same server."""
        return NodeBroker(self._installation, self.source, configuration)

    def start(self) -> None:
        """Starts the node again, at the same ports and with the data that it had."""
        self._processes = self.node.launch()
        self._starts += 1
        self.__dict__["identity"] = self.node.wait(self._processes[0], self._starts)

    def stop(self) -> None:
        """SIGTERM, on which RabbitMQ stops in good order."""
        self._processes[0].send_signal(signal.SIGTERM)
        self._processes[0].wait(STOP_TIMEOUT)
        self._bury()

    def kill(self) -> None:
        """SIGKILL to the server and all its helpers."""
        self._processes[0].kill()
        self._bury()

    def control(self, *arguments: str) -> str:
        """Runs ``rabbitmqctl``."""
        return self.node.control(*arguments)

    def close(self) -> None:
        """Kills the node and deletes its directory."""
        self._bury()
        self.node.remove()
        for port in self._ports:
            port.release()

    def _bury(self) -> None:
        kill_owned(self.node.directory)
        for process in self._processes:
            process.wait()
        self._processes = ()
