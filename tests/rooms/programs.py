"""Programs of a few lines, in processes of their own: what happens at their end, and behind a fork."""

import os
import subprocess
import sys
from textwrap import dedent

import pytest

__all__ = ["ready", "run_program"]


@pytest.fixture
def run_program(channel):
    """Runs a program that has a `url`; returns its exit code and what it wrote to stderr."""
    channel.queue_declare("q", durable=True)

    def run(url, code):
        done = subprocess.run(
            [sys.executable, "-c", dedent(code)],
            env={**os.environ, "URL": url},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        return done.returncode, done.stderr

    return run


def ready(channel):
    """How many messages are in the queue of these programs."""
    return channel.queue_declare("q", passive=True).method.message_count
