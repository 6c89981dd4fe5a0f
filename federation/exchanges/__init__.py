"""Each question that a coordinator asks its sites, with everything about it in one place."""
