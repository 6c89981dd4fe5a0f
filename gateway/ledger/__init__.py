"""Budgets that hold: reserve the worst case before a call, settle what was used after it."""
