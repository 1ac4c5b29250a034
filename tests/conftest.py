"""The command line as real processes, for the exercises and for the tests of the rooms."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import settings

# For what one has minutes for: `--hypothesis-profile=thorough`.
settings.register_profile("thorough", max_examples=300, stateful_step_count=50, deadline=None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is for what a script runs in the background, and so it would be for every process that is started here:
    # those are sent a Ctrl-C, and must hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Process:
    """`rmqspec …` in a process of its own; its output is read as it comes, and waited for `within` so many seconds."""

    def __init__(self, *arguments, environment, within=20.0):
        self.arguments, self.lines, self._news, self.within = arguments, [], threading.Condition(), within
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rmqspec", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def waits_for(self, words, count=1):
        """Returns when so many lines with these words have come; the wait ends with the line, not with a poll."""
        deadline = time.monotonic() + self.within
        with self._news:
            while len(found := [line for line in self.lines if words in line]) < count:
                left = deadline - time.monotonic()
                ended = not self._reader.is_alive()
                if ended or (not self._news.wait(max(0.0, left)) and left <= 0):
                    said = "\n".join(self.lines)
                    pytest.fail(f"{self.arguments}: {words!r} was expected {count} times; it said:\n{said}")
        return found

    def ends(self, with_signal=None, within=None):
        """Sends the signal, if any, and returns the exit code."""
        if with_signal is not None and self._process.poll() is None:
            self._process.send_signal(with_signal)
        code = self._process.wait(within or self.within)
        self._reader.join(self.within)
        self._process.stdout.close()
        return code

    @property
    def output(self):
        return "\n".join(self.lines)

    def _read(self):
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


@pytest.fixture
def environment(tmp_path):
    """Of a person who has started no broker with rabbitup; tests add RABBITMQ_URL."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
    return {**kept, "XDG_STATE_HOME": str(tmp_path), "COLUMNS": "132"}


@pytest.fixture
def run(environment, url, patience):
    """Starts `rmqspec …` on this test's vhost: `run("demo", "worker", "1")`. What still runs at the end is killed."""
    started = []

    def start(*arguments, **more):
        # The URL holds the password, so it travels in the environment: arguments are shown to every user.
        waits = {"RABBITMQ_ANSWER_TIMEOUT": str(patience)}
        surroundings = {**environment, **waits, "RABBITMQ_URL": url, **more}
        started.append(Process(*arguments, environment=surroundings, within=min(20.0, 3 * patience)))
        return started[-1]

    yield start
    for process in started:
        process.ends(signal.SIGKILL)
