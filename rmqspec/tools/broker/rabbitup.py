"""A broker that stays: started by ``rabbitup``, found by the services, ended by ``rabbitdown``.

What was started stands in a file in the user's state directory, readable by the user alone.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import platformdirs
import psutil
from filelock import FileLock

from rmqspec.tools.broker.applications import needed_applications
from rmqspec.tools.broker.base import Progress
from rmqspec.tools.broker.configuration import PLAIN
from rmqspec.tools.broker.endpoint import Endpoint, Identity, greet
from rmqspec.tools.broker.errors import BrokerDied, BrokerError, NoBroker, Unavailable
from rmqspec.tools.broker.find import Choice, image_for, in_short
from rmqspec.tools.broker.installation import installed_here
from rmqspec.tools.broker.node import Node
from rmqspec.tools.broker.ports import LOOPBACK, ReservedPort, is_free
from rmqspec.tools.broker.reaper import OWNER_LABEL, kill_owned, remove_containers
from rmqspec.tools.broker.uninterrupted import uninterrupted

__all__ = ["AlreadyTaken", "Standing", "StateUnusable", "current", "down", "up"]

USER, PASSWORD = "guy", "yug"
UNKNOWN = "unknown"


class AlreadyTaken(BrokerError):
    """Somebody else listens on a port that is wanted."""


class StateUnusable(BrokerError):
    """What is up can be neither noted nor looked up."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A broker that was started by ``rabbitup``.

    Attributes:
        kind: ``container``, ``node`` or ``package``; ``unknown`` where the note of it is not whole.
        endpoint: Its addresses and its login.
        directory: A node's own directory; empty for a container.
        passed_over: The sources that could not give one when it was started, each with its reason.
    """

    kind: str
    endpoint: Endpoint
    directory: str = ""
    passed_over: tuple[str, ...] = field(default=(), compare=False)

    def identity(self) -> Identity | None:
        """What it announces, or None if it does not answer."""
        try:
            return greet(self.endpoint)
        except OSError:
            return None


def state_directory() -> Path:
    """Where it is noted what is up."""
    return platformdirs.user_state_path("rmqspec")


def current() -> Standing | None:
    """The broker that ``rabbitup`` started and that answers, if any; none either where nothing can be looked up."""
    try:
        standing = _read()
    except StateUnusable:
        return None
    return standing if standing and standing.identity() else None


def up(choice: Choice, port: int, management_port: int, progress: Progress) -> tuple[Standing, bool]:
    """Starts a broker that stays, unless one is up already.

    Args:
        choice: Where it is to come from.
        port: For AMQP, on 127.0.0.1.
        management_port: For the management UI, on 127.0.0.1.
        progress: Told in words what is going on.

    Returns:
        The broker, and whether it was started now.

    Raises:
        AlreadyTaken: Somebody else has one of the ports; the text says who. Or both are the same.
        StateUnusable: What is up cannot be noted.
        NoBroker: No source can give one.
    """
    if port == management_port:
        raise AlreadyTaken(f"AMQP and management cannot both have port {port}: name two")
    with _locked():
        if standing := current():
            return standing, False
        _remove(_read())  # it was started and is dead
        for wanted in (port, management_port):
            if not is_free(wanted):
                raise AlreadyTaken(f"port {wanted} is taken by {_holder(wanted)}: stop that, or choose another port")
        endpoint = Endpoint(LOOPBACK, port, USER, PASSWORD, f"http://{LOOPBACK}:{management_port}")
        return _start(choice, endpoint, progress), True


def down() -> Standing | None:
    """Ends what ``rabbitup`` started, with its data, and nothing else; returns what that was, if anything.

    Raises:
        StateUnusable: The directory of the note cannot be used.
    """
    with _locked():
        standing = _read()
        _remove(standing)
        return standing


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """One at a time."""
    with _usable():
        state_directory().mkdir(parents=True, exist_ok=True)
        lock = FileLock(state_directory() / "rabbitup.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _usable() -> Iterator[None]:
    """What goes wrong with the files of the state is one sentence."""
    try:
        yield
    except OSError as error:
        words = f"what is up cannot be noted: {error.filename or state_directory()}: {error.strerror or error}"
        raise StateUnusable(f"{words}; let XDG_STATE_HOME name a directory that one may write") from error


def _start(choice: Choice, endpoint: Endpoint, progress: Progress) -> Standing:
    starters = {"container": _start_container, "node": _start_node, "package": _start_node}
    refusals = []
    for source in choice.sources:
        if source == "url":
            if choice.broker == "url":
                words = "a broker that runs elsewhere is not started here"
                refusals.append(
                    Unavailable("url", words, "name it to the commands with --rabbitmq-url, or RABBITMQ_URL")
                )
            continue
        try:
            standing = starters[source](source, choice, endpoint, progress)
        except Unavailable as refusal:
            refusals.append(refusal)
        except BrokerDied as death:
            refusals.append(Unavailable(source, f"it was started and did not come up: {death}", "see its words above"))
        else:
            return replace(standing, passed_over=in_short(refusals))
    raise NoBroker(refusals)


def _start_container(source: str, choice: Choice, endpoint: Endpoint, progress: Progress) -> Standing:
    from rmqspec.tools.broker.container import when_ready
    from rmqspec.tools.broker.engine import engine, trouble

    with trouble():
        image = image_for(choice, progress)
    progress(f"starting a container of {image}")
    client = engine()

    def run() -> None:
        container = uninterrupted(
            lambda: client.containers.run(
                image,
                detach=True,
                labels={OWNER_LABEL: _label()},
                environment={"RABBITMQ_DEFAULT_USER": endpoint.user, "RABBITMQ_DEFAULT_PASS": endpoint.password},
                ports={
                    "5672/tcp": (endpoint.host, endpoint.port),
                    "15672/tcp": (endpoint.host, int(endpoint.management_url.rpartition(":")[2])),
                },
            )
        )
        when_ready(endpoint, container)

    try:
        with trouble():
            return _settled(Standing(source, endpoint), run)
    finally:
        client.close()


def _start_node(source: str, _: Choice, endpoint: Endpoint, progress: Progress) -> Standing:
    from rmqspec.tools.broker.package import unpacked

    installation = unpacked(progress) if source == "package" else installed_here()
    progress(f"starting a node of {installation.server}")
    directory, applications = _node_directory(), needed_applications(installation, PLAIN)
    internal = ReservedPort(), ReservedPort()
    distribution, mapper = (port.number for port in internal)
    node = Node(installation, directory, endpoint, distribution, mapper, applications=applications)

    def run() -> None:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        node.prepare()
        server, _mapper = node.launch()
        node.wait(server)

    try:
        return _settled(Standing(source, endpoint, str(directory)), run)
    finally:
        for port in internal:
            port.release()


def _settled(standing: Standing, run: Callable[[], None]) -> Standing:
    try:
        _write(standing)
        run()
    except BaseException:  # also Ctrl-C while it boots, or right when it was noted
        with contextlib.suppress(StateUnusable):  # the next rabbitup or rabbitdown says it again
            _remove(standing)
        raise
    return standing


def _remove(standing: Standing | None) -> None:
    if standing is None:
        return
    if standing.kind in ("container", UNKNOWN):
        _remove_container(standing.kind == UNKNOWN)
    if standing.directory:
        kill_owned(Path(standing.directory))
        shutil.rmtree(standing.directory, ignore_errors=True)
    with _usable():
        _file().unlink(missing_ok=True)


def _remove_container(doubtful: bool) -> None:
    from rmqspec.tools.broker.engine import trouble

    try:
        with trouble():
            remove_containers(_label())
    except Unavailable as refusal:
        if not doubtful:  # else it was none: there was no engine
            raise StateUnusable(
                f"the container that rabbitup started cannot be removed: {refusal.reason}; {refusal.remedy}, or delete "
                f"{_file()} if it is gone"
            ) from refusal


def _label() -> str:
    """One engine may serve several people, and each has a broker of their own."""
    return f"rabbitup of {state_directory()}"


def _node_directory() -> Path:
    return state_directory() / "rabbitup-node"


def _file() -> Path:
    return state_directory() / "rabbitup.json"


def _write(standing: Standing) -> None:
    half = _file().with_suffix(".half")  # whoever reads the file meanwhile finds it whole or not at all
    with _usable():
        half.touch(mode=stat.S_IRUSR | stat.S_IWUSR)
        half.write_text(json.dumps(asdict(standing)))
        half.replace(_file())


def _read() -> Standing | None:
    with _usable():
        if not _file().exists():
            return None
        written = _file().read_bytes()
    try:
        fields = json.loads(written)
        return Standing(fields["kind"], Endpoint(**fields["endpoint"]), fields["directory"])
    except (ValueError, TypeError, KeyError):  # half written by another program, or of another version
        return Standing(UNKNOWN, Endpoint(LOOPBACK, 0, USER, PASSWORD, ""), str(_node_directory()))


def _holder(port: int) -> str:
    """Who listens on a port, as far as this user may know."""
    try:
        listeners = [c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.pid]
        process = psutil.Process(listeners[0].pid)
        return f"{process.name()} (pid {process.pid}, user {process.username()})"
    except (IndexError, psutil.Error):
        return "a process of another user"
