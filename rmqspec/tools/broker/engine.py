"""The Docker engine: which one answers, and which image of RabbitMQ can be had.

Where something is missing the text says which: no socket, an engine that refuses this user or does not answer, an image
that is neither here nor to be pulled.
"""

from __future__ import annotations

import os
import re
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rmqspec.tools.broker.errors import ImageMissing, Unavailable

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["engine", "fetch", "local_image", "prepare", "trouble"]


def prepare(image: str) -> None:
    """Makes sure that Testcontainers can start a container of an image.

    Its own helper, Ryuk, removes containers after a crash. Where that image cannot be had it is switched off: a process
    of ours removes what we start (``reaper.py``).

    Raises:
        ImageMissing: The image is not here and cannot be pulled.
        Unavailable: No engine answers.
    """
    from testcontainers.core.config import testcontainers_config

    client = engine()
    try:
        fetch(client, image)
        if not testcontainers_config.ryuk_disabled:
            try:
                fetch(client, testcontainers_config.ryuk_image)
            except ImageMissing:
                testcontainers_config.ryuk_disabled = True
    finally:
        client.close()


def local_image() -> str | None:
    """The tag of the newest image of RabbitMQ with management that is on this machine; None if there is none.

    Raises:
        Unavailable: No engine answers.
    """
    client = engine()
    try:
        tags = [tag for image in client.images.list("rabbitmq") for tag in image.tags]
    finally:
        client.close()
    return max((tag for tag in tags if tag.endswith("-management")), key=_version, default=None)


def _version(tag: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", tag.partition(":")[2])]


def engine() -> DockerClient:
    """A client of the Docker engine that Testcontainers would use; whoever asks for it closes it.

    Raises:
        Unavailable: None answers, or it refuses this user.
    """
    import docker
    from docker.errors import DockerException
    from testcontainers.core.docker_client import get_docker_host

    try:
        host = get_docker_host() or ""  # of DOCKER_HOST, a file of Testcontainers, or the Docker context in use
        _knock(host)
        client = docker.DockerClient(base_url=host) if host else docker.from_env()
        client.ping()
    except FileNotFoundError as error:
        raise Unavailable(
            "container", "no Docker engine listens on this machine (no socket)", "install Docker and start it"
        ) from error
    except PermissionError as error:
        raise Unavailable(
            "container", "the Docker engine refuses this user", "add the user to the group docker, or use another"
        ) from error
    except (DockerException, OSError) as error:
        reason = f"the Docker engine does not answer ({_short(str(error))})"
        raise Unavailable("container", reason, "start it, and check DOCKER_HOST and `docker context ls`") from error
    return client


@contextmanager
def trouble() -> Iterator[None]:
    """What the engine fails at within a block is a reason to try the next source: a full disk, a port, a time-out.

    Raises:
        Unavailable: It has failed.
    """
    from docker.errors import DockerException
    from requests.exceptions import RequestException  # of Docker's client, which lets those of the network through

    try:
        yield
    except (DockerException, RequestException) as error:
        words = _short(str(getattr(error, "explanation", None) or error))
        raise Unavailable("container", f"the Docker engine failed ({words})", "look into its log") from error


def fetch(client: DockerClient, image: str) -> None:
    """Makes sure that an image is here.

    Raises:
        ImageMissing: It is not here and cannot be pulled, for whatever reason: no registry, no such image, a helper for
            credentials that is not installed.
    """
    from docker.errors import DockerException, ImageNotFound

    try:
        client.images.get(image)
    except ImageNotFound:
        try:
            with warnings.catch_warnings():  # of a helper for credentials that is missing; the error says it too
                warnings.simplefilter("ignore", UserWarning)
                client.images.pull(image)
        except (DockerException, OSError, RuntimeError) as error:
            words = _short(str(getattr(error, "explanation", None) or error))
            raise ImageMissing(image, words) from error


def _knock(host: str) -> None:
    """Tries a socket file before Docker's client does, which leaves a socket open where it cannot connect.

    Raises:
        OSError: With what was wrong.
    """
    from docker.constants import IS_WINDOWS_PLATFORM
    from docker.utils import parse_host

    address = str(parse_host(host or os.environ.get("DOCKER_HOST"), IS_WINDOWS_PLATFORM))
    scheme, _, path = address.partition("://")
    if scheme == "http+unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(f"/{path.lstrip('/')}")


def _short(words: str, limit: int = 160) -> str:
    line = " ".join(words.split())
    return line if len(line) <= limit else line[:limit] + "…"
