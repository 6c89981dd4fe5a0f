"""Adapters: one module per upstream dialect."""
