"""Finding a broker: the sources in their order, and who chose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rmqspec.tools.broker.base import Broker, Progress
from rmqspec.tools.broker.configuration import PLAIN, Configuration
from rmqspec.tools.broker.errors import BrokerDied, ImageMissing, InvalidChoice, NoBroker, Unavailable
from rmqspec.tools.broker.installation import installed_here

__all__ = ["DEFAULT_IMAGE", "SETTINGS", "SOURCES", "Choice", "find", "image_for", "in_short"]

DEFAULT_IMAGE = "rabbitmq:4-management"
SOURCES = ("url", "container", "node", "package")

# Each setting, with the environment variable that gives it and its default.
SETTINGS: Mapping[str, tuple[str, str]] = {
    "broker": ("RABBITMQ_BROKER", "auto"),
    "url": ("RABBITMQ_URL", ""),
    "management_url": ("RABBITMQ_MANAGEMENT_URL", ""),
    "image": ("RABBITMQ_IMAGE", DEFAULT_IMAGE),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which broker is wanted, and by whom.

    Attributes:
        broker: ``auto``, or the one source that is to be used.
        url: An AMQP URL, or empty.
        management_url: The management API's address, or empty: then nothing is asked there, nor anywhere else.
        image: The container image.
        origins: For each setting who decided: ``command line``, ``environment``, ``ini`` or ``default``.
        configuration: What a broker that is started here gets beyond the defaults.
    """

    broker: str = "auto"
    url: str = field(default="", repr=False)
    management_url: str = ""
    image: str = DEFAULT_IMAGE
    origins: Mapping[str, str] = field(default_factory=dict)
    configuration: Configuration = PLAIN

    def __post_init__(self) -> None:
        if "://" in self.image:  # by a slip; it may hold a password
            raise InvalidChoice(
                "the image is a URL: let --rabbitmq-image or RABBITMQ_IMAGE name one such as rabbitmq:4"
            )

    @classmethod
    def settle(
        cls,
        command_line: Mapping[str, str | None],
        environment: Mapping[str, str],
        ini: Mapping[str, str] | None = None,
    ) -> Choice:
        """Takes each setting from the first that gives it: command line, environment, ini, default.

        Raises:
            InvalidChoice: The source is none of those that there are, or the image is a URL.
        """
        values: dict[str, Any] = {}
        origins = {}
        for name, (variable, default) in SETTINGS.items():
            given = {
                "command line": command_line.get(name),
                "environment": environment.get(variable),
                "ini": (ini or {}).get(name),
            }
            origins[name] = next((origin for origin, value in given.items() if value), "default")
            values[name] = given.get(origins[name]) or default
        if values["broker"] not in ("auto", *SOURCES):
            where = {"command line": "--rabbitmq-broker", "environment": "RABBITMQ_BROKER", "ini": "rabbitmq_broker"}
            raise InvalidChoice(f"{where[origins['broker']]} is none of auto, {', '.join(SOURCES)}: correct it")
        return cls(**values, origins=origins)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources to try, in order. A URL that was given is meant: nothing else is tried then."""
        if self.broker != "auto":
            return (self.broker,)
        return ("url",) if self.url else SOURCES

    @property
    def origin(self) -> str:
        """Who chose the source, for the header: ``auto, by default``, ``url, from the environment``."""
        deciding = "url" if self.broker == "auto" and self.url else "broker"
        origin = self.origins.get(deciding, "default")
        by = {"command line": "by the command line", "default": "by default"}.get(origin, f"from the {origin}")
        return f"{self.broker if deciding == 'broker' else 'url'}, {by}"


def find(choice: Choice, progress: Progress) -> Broker:
    """Finds or starts a broker.

    Args:
        choice: What is wanted.
        progress: Told in words what is going on.

    Raises:
        NoBroker: Every source refused; the text says why each did, and what to do. Its cause is the last broker that
            was started and did not come up.
    """
    openers: Mapping[str, Callable[[Choice, Progress], Broker]] = {
        "url": _from_url,
        "container": _from_container,
        "node": _from_node,
        "package": _from_package,
    }
    refusals: list[Unavailable] = []
    last: BrokerDied | None = None
    for source in choice.sources:
        try:
            broker = openers[source](choice, progress)
        except Unavailable as refusal:
            refusals.append(refusal)
        except BrokerDied as death:
            last = death
            refusals.append(Unavailable(source, f"it was started and did not come up: {death}", "see its words above"))
        else:
            broker.passed_over = in_short(refusals)
            return broker
    raise NoBroker(refusals) from last


def in_short(refusals: Iterable[Unavailable]) -> tuple[str, ...]:
    """Each source that refused, with the first line of its reason."""
    return tuple(f"{one.source} ({one.reason.splitlines()[0]})" for one in refusals)


def image_for(choice: Choice, progress: Progress) -> str:
    """The image to start a container of: the one that was named, else the default one, else the newest that is here.

    Raises:
        ImageMissing: None can be had.
        Unavailable: No Docker engine answers.
    """
    from rmqspec.tools.broker.engine import engine, fetch, local_image

    client = engine()
    try:
        fetch(client, choice.image)
    except ImageMissing:
        here = local_image() if choice.origins.get("image", "default") == "default" else None
        if here is None:
            raise
        progress(f"{choice.image} cannot be pulled: using {here}, which is here")
        return here
    finally:
        client.close()
    return choice.image


def _from_url(choice: Choice, _: Progress) -> Broker:
    from rmqspec.tools.broker.url import UrlBroker

    if not choice.url:
        raise Unavailable("url", "no URL was given", "give --rabbitmq-url or set RABBITMQ_URL to use a running broker")
    return UrlBroker(choice.url, choice.management_url or None)


def _from_container(choice: Choice, progress: Progress) -> Broker:
    from rmqspec.tools.broker.container import ContainerBroker
    from rmqspec.tools.broker.engine import trouble

    with trouble():
        image = image_for(choice, progress)
        progress(f"starting a container of {image}")
        return ContainerBroker(image, choice.configuration)


def _from_node(choice: Choice, progress: Progress) -> Broker:
    from rmqspec.tools.broker.node import NodeBroker

    installation = installed_here()
    progress(f"starting a private node of {installation.server}")
    return NodeBroker(installation, configuration=choice.configuration)


def _from_package(choice: Choice, progress: Progress) -> Broker:
    from rmqspec.tools.broker.node import NodeBroker
    from rmqspec.tools.broker.package import unpacked

    installation = unpacked(progress)
    progress("starting a private node from the unpacked packages")
    return NodeBroker(installation, "package", choice.configuration)
