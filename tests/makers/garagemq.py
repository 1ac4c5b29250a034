"""Asks GarageMQ, a partial AMQP broker in Go, all that the suite knows: `tox -e garagemq`, or as a model for another.

It starts a broker of its own on loopback, in a temporary directory, with a random login, runs pytest with the arguments
given and the URL in the environment, and ends the broker. One that dies or hangs on the way is started again with an
empty directory, so that the rest is asked too, and its last words are shown.

GarageMQ: https://github.com/valinurovam/garagemq (Debian has a package, `garagemq`)
"""

import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from pika.exceptions import AMQPError

from rmqspec.client import Settings, connect
from rmqspec.client.errors import ClientError, Unanswered
from rmqspec.tools.broker.endpoint import Endpoint, greet, random_login
from rmqspec.tools.broker.ports import LOOPBACK, ReservedPort

STARTS = 10.0  # seconds that it has to come up
ENDS = 5.0  # seconds that it has to end
HANGS = 3.0  # seconds that it has to declare a queue
LAST_WORDS = 15  # lines of its log


class GarageMq:
    """One that is kept up: it is started again when it has died.

    Attributes:
        endpoint: Its address and its only login; it has the vhost `/` alone.
        deaths: The last words of each that has died.
    """

    def __init__(self, program, directory):
        self._program, self._directory, self._count = program, directory, 0
        self._ports = ReservedPort(), ReservedPort()
        user, password = random_login()
        self.endpoint = Endpoint(LOOPBACK, self._ports[0].number, user, password, "")
        self.deaths = []
        self._ending, self._hung = threading.Event(), False
        self._process = self._start()
        self._keeper = threading.Thread(target=self._keep_up)
        self._watcher = threading.Thread(target=self._watch)

    def __enter__(self):
        self._wait_until_it_speaks()
        self._keeper.start()
        self._watcher.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._watcher.join()
        while self._keeper.is_alive():  # it may just be starting another
            process = self._process
            process.terminate()
            try:
                process.wait(ENDS)
            except subprocess.TimeoutExpired:
                process.kill()
            self._keeper.join(ENDS)
        for port in self._ports:
            port.release()

    def _start(self):
        self._count += 1
        place = self._directory / str(self._count)
        place.mkdir()
        configuration = place / "config.yaml"
        configuration.write_text(json.dumps(self._configuration(place)))  # JSON is YAML
        self._log = place / "log"
        with self._log.open("wb") as log:
            command = [self._program, "--config", str(configuration), "--log-level", "warning"]
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def _configuration(self, place):
        # As in its /etc/garagemq/config.yaml, which says nothing about what the values mean.
        password = hashlib.md5(self.endpoint.password.encode(), usedforsecurity=False).hexdigest()
        return {
            "proto": "amqp-rabbit",
            "users": [{"username": self.endpoint.user, "password": password}],
            "tcp": {
                "ip": LOOPBACK,
                "port": self.endpoint.port,
                "nodelay": True,
                "readBufSize": 196608,
                "writeBufSize": 196608,
            },
            "admin": {"ip": LOOPBACK, "port": self._ports[1].number},
            "queue": {"shardSize": 8192, "maxMessagesInRam": 131072},
            "db": {"defaultPath": str(place / "db"), "engine": "badger"},
            "vhost": {"defaultPath": "/"},
            "security": {"passwordCheck": "md5"},
            "connection": {"channelsMax": 4096, "frameMaxSize": 65536},
        }

    def _keep_up(self):
        while True:
            code = self._process.wait()
            if self._ending.is_set():
                return
            words = self._log.read_text(errors="replace").splitlines()
            # Go tells the reason of a panic first, and then where each of its routines stood.
            panics = [at for at, line in enumerate(words) if line.startswith(("panic:", "fatal error:"))]
            words = words[panics[0] :][:LAST_WORDS] if panics else words[-LAST_WORDS:]
            how = "it did not declare a queue any more, and was killed" if self._hung else f"exit code {code}"
            self.deaths.append((how, words))
            self._hung = False
            self._process = self._start()

    def _watch(self):
        """Kills it if it accepts connections and does nothing for them: that would fail all specs to come."""
        while not self._ending.wait(1.0):
            process = self._process
            try:
                connection = connect(replace(Settings.of(self.endpoint.url()), answer_timeout=HANGS), "watch")
                connection.channel().queue_declare(f"alive {secrets.token_hex(8)}", exclusive=True)
                connection.close()
            except Unanswered:
                self._hung = True
                process.kill()
            except (AMQPError, ClientError):  # it is being started again
                continue

    def _wait_until_it_speaks(self):
        deadline = time.monotonic() + STARTS
        while True:
            try:
                return greet(self.endpoint)
            except OSError as error:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self._process.kill()
                    sys.exit(f"GarageMQ does not answer ({error}); it said:\n{self._log.read_text(errors='replace')}")
                time.sleep(0.05)


def main(arguments):
    program = shutil.which("garagemq")
    if program is None:
        sys.exit("there is no garagemq on this machine: install it, as with apt-get install garagemq")
    with (
        tempfile.TemporaryDirectory(prefix="rmqspec-garagemq-") as directory,
        GarageMq(program, Path(directory)) as broker,
    ):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
        environment |= {"RABBITMQ_URL": broker.endpoint.url()}  # an argument would show the password to every user
        with subprocess.Popen([sys.executable, "-m", "pytest", *arguments], env=environment) as pytest:
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is pytest's, which tidies up
            code = pytest.wait()
            signal.signal(signal.SIGINT, before)
        deaths = list(broker.deaths)
    for number, (how, words) in enumerate(deaths, 1):
        print(f"\nGarageMQ has died ({number} of {len(deaths)}): {how}. Its last words:")
        print("\n".join(f"    {line}" for line in words))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
