"""`python -m engine` is the `sandplay` command."""

from engine.cli import main

main()
