"""What tox.ini cannot say: the 3.10 of rabbitmq-3.10 is a RabbitMQ's, not a Python's."""

from __future__ import annotations

from tox.plugin import impl
from tox.tox_env.python.virtual_env.runner import VirtualEnvRunner
from tox.tox_env.register import ToxEnvRegister


class BrokerRunner(VirtualEnvRunner):
    """An environment named after a version of RabbitMQ; its Python is tox's own."""

    @staticmethod
    def id() -> str:
        """As in ``runner = broker``."""
        return "broker"

    @classmethod
    def extract_base_python(cls, env_name: str) -> str | None:  # noqa: ARG003  (the name tells nothing of Python)
        """No version of Python stands in the name."""
        return None


@impl
def tox_register_tox_env(register: ToxEnvRegister) -> None:
    """Makes the runner known to tox."""
    register.add_run_env(BrokerRunner)
