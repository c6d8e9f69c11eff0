"""The whole service under faults: what docs/reliability.md promises, measured from outside."""
