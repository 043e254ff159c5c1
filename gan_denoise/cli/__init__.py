"""The command line, `gan-denoise`: parses, calls, prints; no logic of its own."""

from gan_denoise.cli.app import main

__all__ = ["main"]
