"""What an upgrade of RabbitMQ changes, as data, and for what somebody uses.

``differences.toml`` has a row for each change of behaviour. ``recognisers`` look in what was read of a broker
(``definitions``, ``running``) for what such a change concerns; ``report`` puts both together. Another source is added
in ``sources``.
"""

from rmqspec.tools.upgrade.differences import Difference, Kind, between, differences
from rmqspec.tools.upgrade.errors import NoWay, Unreadable, UpgradeError
from rmqspec.tools.upgrade.releases import Release, Step, way

__all__ = [
    "Difference",
    "Kind",
    "NoWay",
    "Release",
    "Step",
    "Unreadable",
    "UpgradeError",
    "between",
    "differences",
    "way",
]
