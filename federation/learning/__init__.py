"""What each client computes and how the answers become one router; no network, no files."""
