"""Token and money budgets: pure learning code, with no I/O."""
