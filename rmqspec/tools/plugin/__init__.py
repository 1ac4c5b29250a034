"""The pytest plugin: the broker of a run, fixtures, chapter headings, records, verdicts and lies.

A project that wants to test its own consumers names it in its ``conftest.py``,
``pytest_plugins = ["rmqspec.tools.plugin"]``, and has ``broker``, ``vhost``, ``url``, ``connect``, ``channel``,
``receive``, ``eventually`` and the rest of :mod:`rmqspec.tools.plugin.fixtures`.
"""

pytest_plugins = [
    "rmqspec.tools.plugin.broker",
    "rmqspec.tools.plugin.headings",
    "rmqspec.tools.plugin.keywords",
    "rmqspec.tools.plugin.failures",
    "rmqspec.tools.plugin.fixtures",
    "rmqspec.tools.plugin.promises",
    "rmqspec.tools.plugin.record",
    "rmqspec.tools.plugin.known",
    "rmqspec.tools.plugin.lies",
    "rmqspec.tools.plugin.late",
    "rmqspec.tools.plugin.one_vhost",
    "rmqspec.tools.plugin.conformance",
    "rmqspec.tools.plugin.route",
    "rmqspec.tools.plugin.disposable",
]
