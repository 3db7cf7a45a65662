"""The command `hybrid`."""

from hybrid.cli.main import main

__all__ = ["main"]
