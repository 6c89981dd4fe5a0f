"""Serves requests: the only package that speaks HTTP to callers."""
