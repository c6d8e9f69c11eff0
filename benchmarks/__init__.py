"""Benchmarks: everything measured side by side in one run. `make bench` prints the tables."""
