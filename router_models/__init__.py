"""Learned routers: pure functions of arrays, with no I/O and, for inference, numpy alone."""
