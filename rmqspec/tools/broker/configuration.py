"""What a disposable broker is started with beyond the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["PLAIN", "Configuration"]


@dataclass(frozen=True, slots=True)
class Configuration:
    """Lines and files for one broker. ``repr`` leaves the files out: they may be keys.

    Source: https://www.rabbitmq.com/docs/configure

    Attributes:
        lines: For ``rabbitmq.conf``; ``{files}`` stands for the directory of the files.
        advanced: Erlang terms for ``advanced.config``: what ``rabbitmq.conf`` has no key for.
        files: What else the broker reads, by name, as certificates.
        plugins: To be enabled beside the management plugin.
        management: Whether the management plugin is enabled. With it an orderly stop takes five seconds longer.
        tls: Whether it listens for TLS too, at ``Endpoint.tls_port``; lines and files then name the certificates.
    """

    lines: tuple[str, ...] = ()
    advanced: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    plugins: tuple[str, ...] = ()
    management: bool = True
    tls: bool = False

    def text(self, directory: str, listener: str) -> str:
        """The lines as they stand in the file.

        Args:
            directory: Where the broker finds the files.
            listener: The address, or the port alone, that it is to listen at for TLS.
        """
        listeners = (f"listeners.ssl.default = {listener}",) if self.tls else ()
        return "".join(f"{line.replace('{files}', directory)}\n" for line in (*listeners, *self.lines))

    @property
    def enabled(self) -> tuple[str, ...]:
        """All plugins that are enabled."""
        return (*(("rabbitmq_management",) if self.management else ()), *self.plugins)

    @property
    def enabled_plugins(self) -> str:
        """The content of the file of that name."""
        return f"[{','.join(self.enabled)}].\n"


PLAIN = Configuration()
