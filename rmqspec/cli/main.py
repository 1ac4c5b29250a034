"""The command line."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys

import click

from rmqspec import __version__
from rmqspec.cli import terminal
from rmqspec.cli.book import book_command
from rmqspec.cli.catalogue import catalogue_command
from rmqspec.cli.compare import compare_command
from rmqspec.cli.dead_letters import dead_letters_group
from rmqspec.cli.demo import demo_group
from rmqspec.cli.lies import lies_command
from rmqspec.cli.log import show_warnings
from rmqspec.cli.nemesis import nemesis
from rmqspec.cli.rabbitup import rabbit_down, rabbit_up
from rmqspec.cli.upgrade import upgrade_command
from rmqspec.client.errors import ClientError
from rmqspec.tools.broker import BrokerError

__all__ = ["cli", "main"]

UNWRITABLE = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG, errno.EDQUOT)  # a full disk, a terminal that is gone


def main() -> None:
    """Runs the command line; what goes wrong is one sentence, and exit code 1."""
    terminal.escape_unprintable()
    show_warnings()
    # A script has what it puts in the background ignore Ctrl-C; whoever then sends SIGINT by the pid means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        cli()
    except (BrokerError, ClientError) as error:
        terminal.notice(f"rmqspec: {error}")
        sys.exit(1)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        with contextlib.suppress(OSError):
            terminal.notice(f"rmqspec: the output cannot be written ({error.strerror})")
        _forget_output()
        sys.exit(1)
    finally:
        _finish_output()


def _finish_output() -> None:
    """What a service or a producer said, for whom the output decides nothing, may still be in a buffer."""
    if sys.stdout is None:  # it was closed when the program began
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.EPIPE:  # nobody wants to read on: that is no fault
            with contextlib.suppress(OSError):
                terminal.notice(f"rmqspec: the output could not be written ({error.strerror})")
        _forget_output()


def _forget_output() -> None:
    """What could not be written is tried again at the end of Python, and would be a second complaint."""
    if sys.stdout is None:
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rmqspec")
def cli() -> None:
    """The executable specification of RabbitMQ, and the order system that its lessons prove.

    Begin with `rmqspec demo`: it finds or starts a broker by itself and shows every pattern at work.
    To play with the parts, start a broker that stays with `rmqspec rabbitup`, then each part in a terminal of its own.
    """


for _command in (
    demo_group,
    dead_letters_group,
    nemesis,
    book_command,
    catalogue_command,
    compare_command,
    lies_command,
    rabbit_up,
    rabbit_down,
    upgrade_command,
):
    cli.add_command(_command)
