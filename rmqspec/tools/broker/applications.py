"""The Erlang applications of a server that one node needs.

A booting node looks for each of a thousand modules in one directory of its code path after another, and RabbitMQ puts
all plugins there, enabled or not. With what it needs in front, and no other plugin to consider, it boots in two thirds
of the time.

Source: https://www.erlang.org/doc/apps/kernel/code, https://www.rabbitmq.com/docs/plugins#plugin-directories
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from rmqspec.tools.broker.configuration import Configuration
from rmqspec.tools.broker.installation import Installation

__all__ = ["needed_applications"]

DEPENDS_ON = re.compile(r"\{\s*(?:included_)?applications\s*,\s*\[([^\]]*)\]")  # in the file name.app of an application
FIRST_WORD = re.compile(r"\s*(\w+)\.")  # of a line of rabbitmq.conf


def needed_applications(installation: Installation, configuration: Configuration) -> tuple[Path, ...]:
    """The directories of the applications that a node of this configuration needs: RabbitMQ's and Erlang's.

    Returns:
        The server itself first. Nothing where that is not certain, as for an installation that is laid out in another
        way: then a node has to see all that there is.

    Raises:
        Unavailable: There is a server, and no Erlang.
    """
    parents = installation.plugins, installation.erlang
    directories = [place for parent in parents for place in sorted(parent.glob("[a-z]*-[0-9]*")) if place.is_dir()]
    there = {place.name.partition("-")[0]: place for place in directories}
    words = {found[1] for line in configuration.lines if (found := FIRST_WORD.match(line))}
    configured = {word: _with_keys(word, there) for word in words}
    wanted = ["rabbit", *configuration.enabled, *(name for names in configured.values() for name in names)]
    certain = (
        len(there) == len(directories)  # no two versions of one
        and there.keys() >= set(wanted)  # none of them an archive
        and all(configured.values())
        and all(shlex.quote(str(parent)) == str(parent) for parent in parents)  # a shell takes them apart
    )
    if not certain:
        return ()
    needed: dict[str, Path] = {}
    for name in wanted:
        if name in there and name not in needed:
            needed[name] = there[name]
            wanted += _depends_on(name, there[name])  # the loop goes on with these
    return tuple(needed.values())


def _depends_on(name: str, directory: Path) -> list[str]:
    file = directory / "ebin" / f"{name}.app"
    text = file.read_text(errors="replace") if file.is_file() else ""
    return [word for names in DEPENDS_ON.findall(text) for word in re.findall(r"\w+", names)]


def _with_keys(word: str, there: Mapping[str, Path]) -> list[str]:
    """Those that define keys with this first word. A server takes those of all that it sees, enabled or not."""
    return [name for name, directory in there.items() if any(f'"{word}.' in text for text in _schemas(directory))]


def _schemas(directory: Path) -> Iterable[str]:
    return [file.read_text(errors="replace") for file in directory.glob("priv/schema/*.schema")]
