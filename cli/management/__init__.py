"""The part of the command line that runs under Django."""
