"""Routing to models that have answered little or nothing, from what other models answered."""
