"""Kinds of options that several commands share: numbers in a range, files to write, help in sections."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

__all__ = [
    "PORT",
    "FileToWrite",
    "Finite",
    "SectionedCommand",
    "SectionedGroup",
    "SectionedOption",
    "Whole",
    "seconds",
]

LONGEST = (
    1_000_000  # seconds: eleven days; what is beyond the range of a timer would be an error in the middle of a run
)


class Whole(click.IntRange):
    """A whole number in a range."""

    name = "integer"  # click's own, "integer range", makes 'x' "not a valid integer range"


PORT = Whole(1, 65_535)


class Finite(click.FloatRange):
    """A number in a range; NaN and infinity, which Python reads too, are none."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads it."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number that can be used: a finite one is wanted", param, ctx)
        return number


def seconds(least: float = 0) -> Finite:
    """A duration that a timer can be set to."""
    return Finite(least, LONGEST)


class FileToWrite(click.Path):
    """A file to write. That it cannot be written is found out before anything is begun."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads it."""
        if not value:
            self.fail("the name is empty: name a file", param, ctx)
        path = Path(str(super().convert(value, param, ctx)))
        there = path.exists()
        try:
            with path.open("ab"):
                pass
            if not there:
                path.unlink()
        except OSError as error:
            self.fail(f"{path} cannot be written ({error.strerror}): name another file", param, ctx)
        return path


class SectionedOption(click.Option):
    """An option that stands under a heading of its own in the help.

    Attributes:
        section: The heading.
    """

    def __init__(self, *names: Any, section: str, **options: Any) -> None:
        super().__init__(*names, **options)
        self.section = section


class _Sectioned(click.Command):
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Those without a section first. Arguments stand in the usage, and the command's text explains them."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and not isinstance(parameter, click.Argument):
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class SectionedCommand(_Sectioned):
    """A command whose help keeps what is for the connection apart."""


class SectionedGroup(click.Group, _Sectioned):
    """A group whose help does so, and whose commands do too."""

    command_class = SectionedCommand

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options, then the commands."""
        _Sectioned.format_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)
