"""``python -m rmqspec``."""

from rmqspec.cli.main import main

main()
