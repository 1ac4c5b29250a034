"""Lies about the configuration: a broker is started with less than its spec has asked for.

Code: rmqspec/tools/wire/liar.py, rmqspec/tools/wire/lies/configurations.py, rmqspec/tools/plugin/disposable.py
"""

from rmqspec.tools.broker import Configuration
from rmqspec.tools.wire.liar import Liar
from rmqspec.tools.wire.lies import LIES


class TestLiar:
    """Told before the broker starts."""

    def test_configures_another_broker(self):
        """What nobody can read on its way is falsified before it is said."""
        liar, tls = Liar(), Configuration(lines=("ssl_options.verify = verify_peer",), tls=True)
        liar.would = tuple(LIES.values())
        assert (liar.configured(tls), liar.told) == (tls, {"tls-plain", "certificate-not-checked", "authority-unknown"})

        liar.begin()
        liar.lie, liar.would = LIES["certificate-not-checked"], ()
        assert (liar.configured(Configuration()), liar.told) == (Configuration(), set())
        assert liar.configured(tls).lines == ("ssl_options.verify = verify_none",)
        assert liar.told == {"certificate-not-checked"}

    def test_lets_a_port_for_tls_be_plain(self):
        """The listener is the same, what is spoken there is not."""
        text = LIES["tls-plain"].configure(Configuration(lines=("a = b",), tls=True)).text("files", "127.0.0.1:1")

        assert text == "listeners.tcp.other = 127.0.0.1:1\na = b\n"
