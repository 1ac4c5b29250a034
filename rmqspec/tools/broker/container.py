"""A broker in a container, through Testcontainers.

Docker gives a container a new host port after each restart, so that a client could not find its broker again; the
ports are therefore chosen here, on loopback, and stay.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, cast

from rmqspec.tools.broker.base import STARTED, Broker, wait_until_ready
from rmqspec.tools.broker.configuration import PLAIN, Configuration
from rmqspec.tools.broker.endpoint import Endpoint, Identity, random_login
from rmqspec.tools.broker.engine import prepare
from rmqspec.tools.broker.errors import ControlError
from rmqspec.tools.broker.ports import LOOPBACK, ReservedPort
from rmqspec.tools.broker.reaper import OWNER_LABEL, remove_containers, watch
from rmqspec.tools.broker.uninterrupted import uninterrupted

if TYPE_CHECKING:
    from docker.models.containers import Container

__all__ = ["ContainerBroker", "when_ready"]

PLACE = "/etc/rabbitmq"  # of the configuration within an image
STOP_TIMEOUT = 60  # seconds that the engine waits before it kills a container that is asked to stop


class ContainerBroker(Broker):
    """A container for the time of one run.

    Args:
        image: An image with the management plugin enabled, as ``rabbitmq:4-management``.
        configuration: What it is started with beyond the defaults.

    Raises:
        Unavailable: No engine, or no image.
        BrokerDied: The container started and did not come up.
    """

    source = "container"

    def __init__(self, image: str, configuration: Configuration = PLAIN) -> None:
        from testcontainers.core.container import DockerContainer

        prepare(image)
        self.image, self.description = image, f"a container of {image}"
        self._starts = 0
        self._label = secrets.token_hex(8)
        inside = [5672, 15672, *([5671] if configuration.tls else [])]
        self._ports = [ReservedPort() for _ in inside]
        amqp, management, *tls = (port.number for port in self._ports)
        api = f"http://{LOOPBACK}:{management}" if configuration.management else ""
        self.endpoint = Endpoint(LOOPBACK, amqp, *random_login(), api, tls_port=sum(tls))
        watch("containers", self._label)
        box = DockerContainer(image).with_kwargs(labels={OWNER_LABEL: self._label})
        box.with_env("RABBITMQ_DEFAULT_USER", self.endpoint.user)
        box.with_env("RABBITMQ_DEFAULT_PASS", self.endpoint.password)
        # Testcontainers types a host port as a number; the engine's own form with an address keeps it on loopback.
        published = {f"{ours}/tcp": (LOOPBACK, port.number) for ours, port in zip(inside, self._ports, strict=True)}
        cast("dict[str, Any]", box.ports).update(published)
        for path, content in _files(configuration).items():  # copied in before the start
            box.with_copy_into_container(content, path)
        self._box = box
        try:
            uninterrupted(box.start)
            self._wait()
        except BaseException:  # also Ctrl-C while it boots
            self.close()
            raise

    def another(self, configuration: Configuration = PLAIN) -> Broker:
        """Another container of the same image."""
        return ContainerBroker(self.image, configuration)

    def start(self) -> None:
        """Starts the container again, at the same ports and with the data that it had."""
        self._container.start()
        self._wait()

    def stop(self) -> None:
        """SIGTERM, on which RabbitMQ stops in good order."""
        self._container.stop(timeout=STOP_TIMEOUT)

    def kill(self) -> None:
        """SIGKILL to the whole container."""
        self._container.kill()

    def control(self, *arguments: str) -> str:
        """Runs ``rabbitmqctl`` inside the container."""
        status, said = self._container.exec_run(["rabbitmqctl", "--quiet", *arguments])
        words = cast("bytes", said).decode(errors="replace").strip()
        if status != 0:
            raise ControlError(f"rabbitmqctl {' '.join(arguments)}: {words}")
        return words

    def close(self) -> None:
        """Removes the container and its volume."""
        remove_containers(self._label)
        self._box.get_docker_client().client.close()
        for port in self._ports:
            port.release()

    @property
    def _container(self) -> Container:
        return self._box.get_wrapped_container()

    def _wait(self) -> None:
        self._starts += 1
        self.__dict__["identity"] = when_ready(self.endpoint, self._container, self._starts)


def _files(configuration: Configuration) -> dict[str, bytes]:
    """What is copied into a container. The server's user there is not ours, so that all within may read it."""
    place = f"{PLACE}/rmqspec"
    files = {f"{place}/{name}": content for name, content in configuration.files.items()}
    if text := configuration.text(place, "5671"):
        files[f"{PLACE}/conf.d/90-rmqspec.conf"] = text.encode()
    if configuration.advanced:
        files[f"{PLACE}/advanced.config"] = configuration.advanced.encode()
    if configuration.plugins or not configuration.management:
        files[f"{PLACE}/enabled_plugins"] = configuration.enabled_plugins.encode()
    return files


def when_ready(endpoint: Endpoint, container: Container, starts: int = 1) -> Identity:
    """Waits until the broker in a container answers.

    Args:
        endpoint: Its address.
        container: It.
        starts: How often it was started: each start ends with a line in the log.

    Raises:
        BrokerDied: It ended before.
    """

    def started() -> bool:
        return bool(container.logs().decode(errors="replace").count(STARTED) >= starts)

    def died() -> str | None:
        container.reload()
        if container.status != "exited":
            return None
        last = container.logs(tail=12).decode(errors="replace").strip().splitlines()
        return "\n    ".join([f"a container of {container.image} ended; its last words:", *last])

    return wait_until_ready(endpoint, started, died)
