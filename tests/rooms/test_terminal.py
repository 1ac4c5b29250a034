"""What a person sees on a terminal while something takes its time.

Code: rmqspec/cli/terminal.py
"""

import io

import pytest
from rich.console import Console

from rmqspec.cli import terminal


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 30 columns, as the text that is written to it."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=30, color_system=None, soft_wrap=True)
    monkeypatch.setattr(terminal, "errors", console)
    return file


class TestProgress:
    """`terminal.progress`."""

    def test_leaves_the_cursor_at_the_left_edge(self, screen):
        """The first line of a command's answer begins there, and not behind words that are gone."""
        terminal.progress("starting a container")
        terminal.progress("")

        assert screen.getvalue().endswith("\r\x1b[2K")

    def test_fits_into_one_line(self, screen):
        """A line that wraps cannot be rewritten in place: half of it would stay."""
        terminal.progress("starting a container of rabbitmq:4-management")

        assert screen.getvalue() == "\r\x1b[2Kstarting a container of rabbi"
