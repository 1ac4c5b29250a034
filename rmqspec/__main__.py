"""``python -m rmqspec``."""

from rmqspec.cli import main

main()
