"""The distribution's own RabbitMQ, unpacked into the user's cache: no root, no change to the system.

apt downloads the packages of ``rabbitmq-server`` and of the Erlang that it needs, and checks each against the signed
index of the distribution. They are unpacked side by side, not installed. All of it happens in a directory that gets
its final name only when it is whole, so that a download that was cut off is never used.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs
from filelock import FileLock

from rmqspec.tools.broker.base import Progress
from rmqspec.tools.broker.errors import Unavailable
from rmqspec.tools.broker.installation import Installation

__all__ = ["cache_directory", "unpacked"]

TOOLS = ("apt-get", "apt-cache", "dpkg-deb", "dpkg-query")
ONLY_DEPENDS = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]


def cache_directory() -> Path:
    """Where unpacked servers are kept; it may be deleted at any time."""
    return platformdirs.user_cache_path("rmqspec")


def unpacked(progress: Progress) -> Installation:
    """The distribution's server, from the cache or downloaded now.

    Args:
        progress: Told in words how far it is.

    Raises:
        Unavailable: Not a Debian or Ubuntu, or no network.
    """
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise Unavailable(
            "package", f"this is no Debian or Ubuntu ({missing[0]} is missing)", "use a container, or install RabbitMQ"
        )
    cache = cache_directory()
    whole = cache / f"server-{_distribution()}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / "download.lock"):  # two runs that begin together download once
            if not whole.is_dir():
                _sweep(cache)
                _fill(whole, progress)
    except OSError as error:
        words = f"the cache {cache} cannot be used ({error.strerror or error})"
        raise Unavailable("package", words, "let XDG_CACHE_HOME name a directory that one may write") from error
    return _installation(whole)


def _distribution() -> str:
    release = platform.freedesktop_os_release()
    return f"{release.get('ID', 'debian')}-{release.get('VERSION_ID', 'testing')}-{platform.machine()}"


def _sweep(cache: Path) -> None:
    for half in cache.glob("half-*"):  # left by a run that was killed
        shutil.rmtree(half)


def _fill(whole: Path, progress: Progress) -> None:
    half = Path(tempfile.mkdtemp(prefix="half-", dir=whole.parent))
    try:
        apt = _Apt(half, progress)
        names = apt.packages()
        apt.download(names)
        root = half / "root"
        for number, package in enumerate(sorted(half.glob("*.deb")), start=1):
            progress(f"unpacking packages: {number} of {len(names)}")
            _run(["dpkg-deb", "--extract", str(package), str(root)], half)
            package.unlink()
        _relocate_erlang(root, whole)
        root.rename(whole)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _relocate_erlang(root: Path, whole: Path) -> None:
    """Erlang's start script names the directory that the package is installed to."""
    for script in {*root.glob("usr/lib/erlang/bin/erl"), *root.glob("usr/lib/erlang/erts-*/bin/erl")}:
        text = script.read_text()
        script.write_text(re.sub(r'\bROOTDIR="?/usr/lib/erlang"?', f'ROOTDIR="{whole}/usr/lib/erlang"', text))


def _installation(whole: Path) -> Installation:
    servers = sorted(whole.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"))
    erlang = [whole / "usr/lib/erlang/bin", *sorted(whole.glob("usr/lib/erlang/erts-*/bin"))]
    if not servers or not erlang[0].is_dir():
        raise Unavailable("package", f"{whole} holds no whole server", f"delete {whole} and try again")
    libraries = sorted({library.parent for library in whole.glob("usr/lib/*-linux-*/*.so*")})
    return Installation(servers[-1], erlang, libraries)


class _Apt:
    """apt, as any user: with its own state where the system's lists are missing or too old."""

    def __init__(self, directory: Path, progress: Progress) -> None:
        self._directory, self._progress = directory, progress
        self._options: list[str] = []

    def packages(self) -> list[str]:
        """The packages to unpack.

        Raises:
            Unavailable: The distribution's index cannot be read.
        """
        self._progress("looking up the distribution's rabbitmq-server")
        depends = self._dependencies()
        if not depends:
            self._update()
            depends = self._dependencies()
        if not depends:
            raise Unavailable(
                "package", "this distribution has no rabbitmq-server", "enable its universe or main section"
            )
        return sorted(_closure(depends, _installed()))

    def download(self, names: list[str]) -> None:
        """Downloads packages into the directory, each verified by apt against the signed index.

        Raises:
            Unavailable: They cannot be had.
        """
        self._progress(f"downloading {len(names)} packages of RabbitMQ and Erlang, once, into the cache")
        try:
            self._fetch(names)
        except Unavailable:
            if self._options:
                raise
            self._update()  # the system's lists name versions that the mirror no longer has
            self._fetch(names)

    def _fetch(self, names: list[str]) -> None:
        command = ["apt-get", *self._options, "-q", "-o", "APT::Status-Fd=1", "download", *names]
        said: list[str] = []
        with subprocess.Popen(  # noqa: S603  (fixed words and package names)
            command, cwd=self._directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as apt:
            assert apt.stdout is not None
            for line in apt.stdout:
                said.append(line.strip())
                if line.startswith("dlstatus:"):
                    _, _, percent, _ = line.split(":", 3)
                    self._progress(f"downloading RabbitMQ and Erlang: {float(percent):.0f} %")
        if apt.returncode:
            raise _refused(said)

    def _update(self) -> None:
        self._progress("fetching the distribution's package index into the cache")
        state = self._directory / "apt"
        for part in ("lists/partial", "cache/archives/partial"):
            (state / part).mkdir(parents=True, exist_ok=True)
        self._options = ["-o", f"Dir::State::lists={state}/lists", "-o", f"Dir::Cache={state}/cache"]
        _run(["apt-get", *self._options, "-q", "-o", "APT::Update::Error-Mode=any", "update"], self._directory)

    def _dependencies(self) -> dict[str, set[str]]:
        command = ["apt-cache", *self._options, "depends", "--recurse", *ONLY_DEPENDS, "rabbitmq-server"]
        answer = subprocess.run(command, cwd=self._directory, capture_output=True, text=True, check=False)  # noqa: S603
        return dict(_parse(answer.stdout)) if answer.returncode == 0 else {}


def _parse(listing: str) -> Iterator[tuple[str, set[str]]]:
    """Reads apt-cache's listing: a package at the margin, below it what it depends on."""
    name, depends = "", set[str]()
    for line in listing.splitlines():
        if not line.startswith((" ", "|")):
            if name:
                yield name, depends
            name, depends = line.strip(), set()
        elif "epends:" in line:
            depends.add(line.rpartition(" ")[2])
    if name:
        yield name, depends


def _closure(depends: dict[str, set[str]], installed: set[str]) -> set[str]:
    """RabbitMQ, all of its Erlang, and those shared libraries that the system lacks."""
    wanted, open_ends = set[str](), ["rabbitmq-server"]
    while open_ends:
        name = open_ends.pop()
        wanted.add(name)
        for needed in depends.get(name, set()) - wanted:
            ours = needed.startswith("erlang-") or (needed.startswith("lib") and needed not in installed)
            if ours and needed in depends:
                open_ends.append(needed)
    return wanted


def _installed() -> set[str]:
    answer = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\n"],  # noqa: S607  (Debian's, on PATH)
        capture_output=True,
        text=True,
        check=False,
    )
    return {line.split(" ")[1] for line in answer.stdout.splitlines() if line.startswith("installed ")}


def _run(command: list[str], directory: Path) -> None:
    answer = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)  # noqa: S603
    if answer.returncode:
        raise _refused((answer.stdout + answer.stderr).splitlines())


def _refused(said: list[str]) -> Unavailable:
    errors = [line for line in said if line.startswith(("E:", "W:", "Err:"))]
    why = errors[-1] if errors else " ".join(said[-1:])
    return Unavailable(
        "package",
        f"the distribution's packages cannot be fetched ({why[:200]})",
        "check the network and /etc/apt/sources.list*",
    )
