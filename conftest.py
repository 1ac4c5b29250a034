"""Loads the plugin; nothing else."""

pytest_plugins = ["rmqspec.tools.plugin"]
