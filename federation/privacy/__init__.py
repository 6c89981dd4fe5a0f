"""What keeps a client's rows its own while it takes part."""
