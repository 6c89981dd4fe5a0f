"""How long a test waits before it takes it that nothing will come."""

PATIENCE_S = 120.0
"""Only against waiting for ever: what is waited for comes at once, or late on a busy machine."""
