"""Cleans up after a process that died: a child that outlives its parent by a moment.

Ctrl-C, ``kill -9`` and a crash end a test process without its teardown. The reaper holds the reading end of a pipe
from it. It is told what the process owns, one JSON line each; when the pipe ends, by whatever death, it removes what
is still there: the processes and the directory of a private node, the containers that carry a label.
"""

from __future__ import annotations

import atexit
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import psutil

__all__ = ["OWNER_LABEL", "OWNER_VARIABLE", "kill_owned", "remove_containers", "watch"]

OWNER_VARIABLE = "RMQSPEC_OWNER"  # in the environment of every process of a private node: its directory
OWNER_LABEL = "org.rmqspec.owner"  # on every container: a token of the run

TIMEOUT = 10.0  # seconds that a process may take to end once it is killed

_pipe: IO[bytes] | None = None


def watch(kind: str, value: str) -> None:
    """Has this thing removed when the calling process is gone.

    Args:
        kind: ``directory`` (of a node, with its processes) or ``containers`` (by the value of their label).
        value: The directory's path, or the label's value.
    """
    global _pipe
    if _pipe is None:
        # A session of its own: the terminal's Ctrl-C does not reach it.
        reaper = subprocess.Popen(
            [sys.executable, "-m", "rmqspec.tools.broker.reaper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _pipe = reaper.stdin
        assert _pipe is not None
        atexit.register(_finish, reaper)
    _pipe.write(json.dumps({"kind": kind, "value": value}).encode() + b"\n")
    _pipe.flush()


def _finish(reaper: subprocess.Popen[bytes]) -> None:
    assert reaper.stdin is not None
    reaper.stdin.close()
    reaper.wait()


def kill_owned(directory: Path) -> None:
    """Kills every process that carries this directory in its environment, and waits until it has ended."""
    for _ in range(3):  # what a script has started between our look and its end is found by the next look
        owned = [process for process in psutil.process_iter() if _owner(process) == str(directory)]
        for process in owned:
            _kill(process)
        deadline = time.monotonic() + TIMEOUT
        while not all(map(_has_ended, owned)) and time.monotonic() < deadline:
            time.sleep(0.005)
        if not owned:
            break


def _owner(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(OWNER_VARIABLE)
    except (psutil.Error, OSError):  # somebody else's, or gone
        return None


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _has_ended(process: psutil.Process) -> bool:
    """Whether no thread of it runs. Its parent may learn later that it ended, or never, as process 1 in a container."""
    try:
        if not process.is_running():
            return True
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True


def remove_containers(label: str) -> None:
    """Removes the containers with this owner's label, and their volumes.

    Raises:
        Unavailable: The engine that started them does not answer.
    """
    from rmqspec.tools.broker.engine import engine  # the reaper of a node needs no Docker

    client = engine()
    try:
        for container in client.containers.list(all=True, filters={"label": f"{OWNER_LABEL}={label}"}):
            container.remove(force=True, v=True)
    finally:
        client.close()


def reap(lines: Iterable[bytes]) -> None:
    """Reads until the parent is gone, then removes all that it owned."""
    owned = [json.loads(line) for line in lines]
    for thing in owned:
        if thing["kind"] == "directory":
            kill_owned(Path(thing["value"]))
            shutil.rmtree(thing["value"], ignore_errors=True)
        else:
            remove_containers(thing["value"])


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    reap(sys.stdin.buffer)
