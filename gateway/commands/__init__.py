"""Subcommands of `waypost`, one module each, imported only when called."""
