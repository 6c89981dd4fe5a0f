"""A pool of small real models that this machine serves without any API key."""
