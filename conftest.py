"""Loads the plugin; nothing else."""

pytest_plugins = ["rmqspec.pytest_plugin"]
