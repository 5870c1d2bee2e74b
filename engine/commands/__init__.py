"""Commands that need more than one layer: with `engine/cli.py` the only place where layers are put together."""
