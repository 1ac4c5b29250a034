"""Which broker a command talks to, and how: options that several commands share."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import click

from rmqspec.cli.options import Finite, SectionedOption, Whole
from rmqspec.client import Settings
from rmqspec.tools.broker import DEFAULT_IMAGE, SOURCES, BrokerError, rabbitup

__all__ = ["Where", "broker_option", "connection_options", "image_option", "url_option"]

Command = Callable[..., Any]

FILE = click.Path(exists=True, dir_okay=False)

url_option = click.option(
    "--rabbitmq-url", "url", cls=SectionedOption, section="Connection", envvar="RABBITMQ_URL", metavar="URL",
    help="The broker: amqp://user:password@host:port/vhost, or amqps://… for TLS; several of one cluster in quotation "
    "marks, separated by spaces. Default: $RABBITMQ_URL, else the one of rabbitup.",
)  # fmt: skip
OPTIONS: Mapping[str, Callable[[Command], Command]] = {  # by their names in Settings
    "ca": click.option(
        "--ca", cls=SectionedOption, section="TLS", type=FILE, metavar="FILE",
        help="Who must have signed the broker's certificate. Default: $RABBITMQ_CA, else the system's authorities.",
    ),
    "certificate": click.option(
        "--certificate", cls=SectionedOption, section="TLS", type=FILE, metavar="FILE",
        help="This client's certificate, where the broker asks for one. Default: $RABBITMQ_CERTIFICATE.",
    ),
    "key": click.option(
        "--key", cls=SectionedOption, section="TLS", type=FILE, metavar="FILE",
        help="Its private key, if that is not in the same file. Default: $RABBITMQ_KEY.",
    ),
    "server_name": click.option(
        "--server-name", cls=SectionedOption, section="TLS", metavar="NAME",
        help="The name in the broker's certificate. Default: $RABBITMQ_SERVER_NAME, else the URL's host.",
    ),
    "heartbeat": click.option(
        "--heartbeat", cls=SectionedOption, section="Time-outs", type=Whole(0, 65_535), metavar="SECONDS",
        help="After how long a silent broker is given up. Default: $RABBITMQ_HEARTBEAT, else as in the URL, else 60.",
    ),
    "timeout": click.option(
        "--timeout", cls=SectionedOption, section="Time-outs", type=Finite(0.001, 1_000_000), metavar="SECONDS",
        help="How long to wait for a broker that does not answer. Default: $RABBITMQ_TIMEOUT, else as in the URL, "
        "else 10.",
    ),
}  # fmt: skip
OF_TLS = {"ca", "certificate", "key", "server_name"}


class _Source(click.Choice[str]):
    """Where a broker comes from. A word that is none is not repeated: by a slip it may be a URL with a password."""

    def get_invalid_choice_message(self, value: object, ctx: click.Context | None) -> str:  # noqa: ARG002
        return f"it is none of {', '.join(self.choices)}: correct it"


broker_option = click.option(
    "--rabbitmq-broker", "source", envvar="RABBITMQ_BROKER", type=_Source(["auto", *SOURCES]), default="auto",
    show_default=True, show_envvar=True, help="Where a broker comes from if one must be started.",
)  # fmt: skip
image_option = click.option(
    "--rabbitmq-image", "image", envvar="RABBITMQ_IMAGE", default=DEFAULT_IMAGE, show_default=True,
    show_envvar=True, help="The container image.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Where:
    """What the options of a command say of its connection. ``repr`` leaves the URL out: it holds a password.

    Attributes:
        url: The address that was named, or None for that of rabbitup.
        given: The other options that were given, by their names in ``Settings``.
    """

    url: str | None = field(default=None, repr=False)
    given: Mapping[str, Any] = field(default_factory=dict)

    def settings(self) -> Settings:
        """Of the options, and of the environment (``RABBITMQ_HEARTBEAT`` and so on) where no option was given.

        Raises:
            BrokerError: No address was named and no broker is up.
            InvalidSetting: A value is not a number, or is out of range.
            UsageError: An option of TLS was given, and an address is not one of TLS.
        """
        urls = Settings.of(self._address()).urls
        if OF_TLS & self.given.keys() and not all(url.lower().startswith("amqps:") for url in urls):
            options = ", ".join(f"--{name.replace('_', '-')}" for name in OPTIONS if name in OF_TLS & self.given.keys())
            raise click.UsageError(f"{options}: without TLS nobody would look at that; let the URL begin with amqps://")
        taken = {f"RABBITMQ_{name.upper()}" for name in self.given} | {"RABBITMQ_URL"}
        rest = {variable: value for variable, value in os.environ.items() if variable not in taken}
        return replace(Settings.from_environment(rest), urls=urls, **self.given)

    def _address(self) -> str:
        if self.url is not None:
            return self.url
        standing = rabbitup.current()
        if standing is None:
            raise BrokerError("no broker is up: start one with rmqspec rabbitup, or name one with --rabbitmq-url")
        return standing.endpoint.url()


def connection_options(without: str = "") -> Callable[[Command], Command]:
    """Gives a command all options of a connection; the command is handed them as one argument, ``where``.

    Args:
        without: The one that it has not, because it has another of that name.
    """
    names = [name for name in OPTIONS if name != without]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def gathered(*arguments: Any, url: str | None, **options: Any) -> Any:
            mine = {name: value for name in names if (value := options.pop(name)) is not None}
            return command(*arguments, where=Where(url, mine), **options)

        for option in (*(OPTIONS[name] for name in reversed(names)), url_option):
            option(gathered)
        return gathered

    return decorate
