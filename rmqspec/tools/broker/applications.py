"""The Erlang applications of a server that one node needs.

A booting node looks for each of a thousand modules in one directory of its code path after another, and RabbitMQ puts
all plugins there, enabled or not. With what it needs in front, and no other plugin to consider, it boots in two thirds
of the time.

Source: https://www.erlang.org/doc/apps/kernel/code, https://www.rabbitmq.com/docs/plugins#plugin-directories
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from rmqspec.tools.broker.configuration import Configuration
from rmqspec.tools.broker.installation import Installation

__all__ = ["needed_applications"]

DEPENDS_ON = re.compile(r"\{\s*applications\s*,\s*\[([^\]]*)\]")  # in the file name.app of an application
FIRST_WORD = re.compile(r"\s*(\w+)\.")  # of a line of rabbitmq.conf


def needed_applications(installation: Installation, configuration: Configuration) -> tuple[Path, ...]:
    """The directories of what a node of this configuration needs, of RabbitMQ and of Erlang.

    Returns:
        The server itself first. Nothing where that is not certain, as for an installation that is laid out in another
        way: then a node has to see all that there is.
    """
    parents = installation.plugins, installation.erlang
    directories = [place for parent in parents for place in sorted(parent.glob("[a-z]*-[0-9]*")) if place.is_dir()]
    there = {place.name.partition("-")[0]: place for place in directories}
    wanted = ["rabbit", *configuration.enabled]
    certain = len(there) == len(directories) and there.keys() >= set(wanted)  # no two versions of one, and no archives
    if not certain or any(" " in str(parent) for parent in parents):
        return ()
    wanted += _configured(there, configuration)
    needed: dict[str, Path] = {}
    for name in wanted:
        if name in there and name not in needed:
            needed[name] = there[name]
            wanted += _depends_on(name, there[name])  # the loop goes on with these
    return tuple(needed.values())


def _depends_on(name: str, directory: Path) -> list[str]:
    file = directory / "ebin" / f"{name}.app"
    found = DEPENDS_ON.search(file.read_text(errors="replace")) if file.is_file() else None
    return re.findall(r"\w+", found[1]) if found else []


def _configured(there: Mapping[str, Path], configuration: Configuration) -> Iterator[str]:
    """The plugins whose keys the lines of the configuration set: without them the server does not know the keys."""
    words = {found[1] for line in configuration.lines if (found := FIRST_WORD.match(line))}
    for name, directory in there.items():
        texts = [schema.read_text(errors="replace") for schema in directory.glob("priv/schema/*.schema")]
        if any(f'"{word}.' in text for text in texts for word in words):
            yield name
