"""The command line `ai-orchestra`: talks HTTP to a running orchestrator and imports no app of it.

Only the standard library is used, and only where it is needed: a command starts in well under
150 ms.
"""
