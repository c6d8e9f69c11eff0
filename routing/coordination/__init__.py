"""What workers and nodes agree on through Redis."""
