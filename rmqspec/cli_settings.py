"""Which broker a command talks to: options that several commands share."""

from __future__ import annotations

from dataclasses import replace

import click

from rmqspec.broker import DEFAULT_IMAGE, SOURCES, BrokerError, rabbitup
from rmqspec.client import Settings

__all__ = ["broker_option", "image_option", "settings", "url_option"]

url_option = click.option(
    "--rabbitmq-url", "url", envvar="RABBITMQ_URL", metavar="URL",
    help="The broker: amqp://user:password@host:port/vhost. Default: $RABBITMQ_URL, else the one of rabbitup.",
)  # fmt: skip


broker_option = click.option(
    "--rabbitmq-broker", "source", envvar="RABBITMQ_BROKER", type=click.Choice(["auto", *SOURCES]), default="auto",
    show_default=True, help="Where a broker comes from if one must be started.",
)  # fmt: skip
image_option = click.option(
    "--rabbitmq-image", "image", envvar="RABBITMQ_IMAGE", default=DEFAULT_IMAGE, show_default=True,
    help="The container image.",
)  # fmt: skip


def settings(url: str | None) -> Settings:
    """Of the environment (``RABBITMQ_HEARTBEAT``, ``RABBITMQ_CA`` and so on), at the address that is meant.

    Args:
        url: The one that was named, or None for that of rabbitup.

    Raises:
        BrokerError: None was named and none is up.
    """
    if url is None:
        standing = rabbitup.current()
        if standing is None:
            raise BrokerError("no broker is up: start one with rmqspec rabbitup, or name one with --rabbitmq-url")
        url = standing.endpoint.url()
    return replace(Settings.from_environment(), urls=Settings.of(url).urls)
