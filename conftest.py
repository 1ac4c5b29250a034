"""Loads the plugin, and has pytest explain the asserts of all that lies in tests/, helpers of specs included."""

import pytest

pytest.register_assert_rewrite("tests")

pytest_plugins = ["rmqspec.tools.plugin"]
