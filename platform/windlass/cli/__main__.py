"""``python -m windlass.cli``."""

from windlass.cli.main import main

main()
