"""What holds for every test."""

from hypothesis import settings

# A busy machine is no failure, and a failure must come back at the next run.
settings.register_profile("waypost", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("waypost")
