"""Calls of upstream endpoints that are no turns of a conversation: held, forwarded, settled."""
