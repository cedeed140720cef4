"""The command line: one file for each group of commands. They call the layers below and print."""

from __future__ import annotations

from gateway.cli.program import main

__all__ = ["main"]
