"""What workers and nodes agree on through Redis: scripts, claims and leases."""
