"""The distribution's RabbitMQ, unpacked into the user's cache: a broker without Docker and without root.

apt downloads it and checks each package against the signed index; nothing is installed. What can go wrong is what goes
wrong with every cache: it is half full when the power fails, two fill it at once, or what is in it is not what was
sent. The tests have a distribution of their own, with two small packages, so that it can be falsified; one test takes
the real thing.

Spec: https://manpages.debian.org/stable/apt/apt-get.8.en.html
Code: rmqspec/tools/broker/package.py
"""

import contextlib
import hashlib
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rmqspec.tools.broker import Unavailable
from rmqspec.tools.broker.node import NodeBroker
from rmqspec.tools.broker.package import TOOLS, _closure, _parse, cache_directory, unpacked

pytestmark = pytest.mark.timeout(240)  # one test downloads 34 MB, unpacks them and boots a node

SERVER = "usr/lib/rabbitmq/lib/rabbitmq_server-1.0/sbin/rabbitmq-server"
ERL = "usr/lib/erlang/bin/erl"

PACKAGES = {  # name: (what it depends on, its one file, what stands in it)
    "rabbitmq-server": ("adduser, erlang-base", SERVER, "#!/bin/sh\n"),
    "erlang-base": ("libc6", ERL, '#!/bin/sh\nROOTDIR="/usr/lib/erlang"\n'),
}

LISTING = """\
rabbitmq-server
  Depends: adduser
  Depends: erlang-base
 |Depends: erlang-eldap
  PreDepends: libsystemd0
  Depends: <erlang-abi-17.0>
    erlang-base
erlang-base
  Depends: libtinfo6
  Depends: libsctp1
erlang-eldap
adduser
<erlang-abi-17.0>
libtinfo6
libsctp1
  Depends: libc6
libsystemd0
libc6
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """The directory of a distribution with two packages, which apt asks instead of the real one; an empty cache."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"not run: this is no Debian or Ubuntu ({missing[0]} is missing)")
    directory = tmp_path / "repository"
    directory.mkdir()
    index = [publish(directory, tmp_path / name, name, *of) for name, of in PACKAGES.items()]
    (directory / "Packages").write_text("\n".join(index))
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] copy:{directory} ./\n")
    (tmp_path / "status").touch()  # nothing is installed
    places = {"Etc::sourcelist": "sources.list", "Etc::sourceparts": "none", "State::status": "status"}
    places |= {"State::lists": "lists", "Cache": "apt-cache"}
    lines = [f'Dir::{key} "{tmp_path / name}";\n' for key, name in places.items()]
    (tmp_path / "apt.conf").write_text("".join(lines))
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return directory


def publish(directory, tree, name, depends, path, text):
    """Makes a package; returns its lines for the index."""
    control = (
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <n@localhost>\nDepends: {depends}\n"
    )
    for file, content in {"DEBIAN/control": f"{control}Description: a test\n", path: text}.items():
        (tree / file).parent.mkdir(parents=True)
        (tree / file).write_text(content)
    package = directory / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--build", tree, package], check=True, stdout=subprocess.DEVNULL)
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    return f"{control}Filename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n"


def cached():
    """The directories in the cache."""
    return sorted(path for path in cache_directory().iterdir() if path.is_dir())


def silently(words):
    """Takes no notice of the progress."""


class TestListing:
    def test_is_read_as_packages_with_what_they_depend_on(self):
        """The indented lines belong to the package above; what provides a virtual package is no dependency."""
        assert dict(_parse(LISTING))["rabbitmq-server"] == {
            "adduser",
            "erlang-base",
            "erlang-eldap",
            "libsystemd0",
            "<erlang-abi-17.0>",
        }
        assert dict(_parse(LISTING))["libsctp1"] == {"libc6"}

    def test_leads_to_rabbitmq_its_erlang_and_libraries(self):
        """All else is on every system. Virtual packages cannot be downloaded: apt-get would refuse the whole list."""
        depends = dict(_parse(LISTING))

        wanted = _closure(depends, installed={"libc6", "libtinfo6", "libsystemd0"})

        assert wanted == {"rabbitmq-server", "erlang-base", "erlang-eldap", "libsctp1"}

    def test_leads_to_erlang_even_where_it_is_installed(self):
        """The cache must stay whole when the system's Erlang is removed or upgraded."""
        depends = dict(_parse(LISTING))

        wanted = _closure(depends, installed=set(depends))

        assert wanted == {"rabbitmq-server", "erlang-base", "erlang-eldap"}


class TestUnpacked:
    def test_points_erlang_to_the_cache(self, repository):
        """Erlang's start script would otherwise start the system's Erlang, or none."""
        installation = unpacked(silently)

        (whole,) = cached()
        assert installation.server == whole / SERVER
        assert (whole / ERL).read_text() == f'#!/bin/sh\nROOTDIR="{whole}/usr/lib/erlang"\n'

    def test_downloads_nothing_the_second_time(self, repository):
        """A run in a train has no network, and one at a desk has no 34 MB to wait for."""
        first = unpacked(silently)
        shutil.rmtree(repository)
        said = []

        assert (unpacked(said.append), said) == (first, [])

    def test_downloads_once_for_two_at_once(self, repository):
        """Two terminals, or two jobs of one build machine, begin together with an empty cache."""
        said = []

        with ThreadPoolExecutor(2) as threads:
            one, other = threads.map(lambda _: unpacked(said.append), range(2))

        assert one == other
        assert [words for words in said if words.startswith("downloading 2")] == [
            "downloading 2 packages of RabbitMQ and Erlang, once, into the cache"
        ]

    def test_sweeps_a_half_finished_download(self, repository):
        """What a killed run left looks like a server, and one file of a thousand is missing."""
        half = cache_directory() / "half-a-server" / "root" / SERVER
        half.parent.mkdir(parents=True)
        half.write_text("cut o")

        installation = unpacked(silently)

        assert installation.server.read_text() == "#!/bin/sh\n"
        assert [path.name for path in cached() if path.name.startswith("half-")] == []

    def test_refuses_a_package_that_was_altered(self, repository):
        """The mirror is not encrypted. Who could alter one byte on the way could run anything here."""
        package = repository / "rabbitmq-server.deb"
        content = bytearray(package.read_bytes())
        content[-1] ^= 1
        package.write_bytes(content)

        with pytest.raises(Unavailable, match=r"packages cannot be fetched .*Hash Sum mismatch"):
            unpacked(silently)

        assert cached() == []

    def test_says_when_the_distribution_cannot_be_reached(self, repository):
        """Without network this source refuses in one sentence, and the cache is as it was: the next try is a first."""
        shutil.rmtree(repository)

        with pytest.raises(Unavailable, match=r"packages cannot be fetched .* check the network and /etc/apt/sources"):
            unpacked(silently)

        assert cached() == []

    def test_says_when_the_distribution_has_no_rabbitmq(self, repository):
        """Ubuntu keeps it in a section that a small image leaves out; that is not a matter of the network."""
        (repository / "Packages").write_text("")

        with pytest.raises(Unavailable) as refused:
            unpacked(silently)

        assert refused.value.reason == "this distribution has no rabbitmq-server"
        assert refused.value.remedy == "enable its universe or main section"

    def test_says_when_the_cache_cannot_be_used(self, repository, monkeypatch):
        """A full or read-only home is no matter of the network; the next source is asked."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(repository / "Packages"))

        with pytest.raises(Unavailable, match=r"the cache .*Packages/rmqspec cannot be used \(Not a directory\)"):
            unpacked(silently)

    def test_gives_a_server_that_runs_as_this_user(self, tmp_path, monkeypatch):
        """The real packages: a broker for whoever may not install anything."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        try:
            installation = unpacked(silently)
        except Unavailable as refusal:
            if "cannot be fetched" not in refusal.reason and "no Debian or Ubuntu" not in refusal.reason:
                raise  # a defect of ours, and no lack of a network
            pytest.skip(f"not run: {refusal}")

        with contextlib.closing(NodeBroker(installation, "package")) as broker:
            assert broker.identity.product == "RabbitMQ"
            assert broker.management.whoami() == broker.endpoint.user
            assert Path(installation.find("erl")).is_relative_to(tmp_path)
