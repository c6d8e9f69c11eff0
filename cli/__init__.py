"""The command line `ai-orchestra`: talks HTTP to a running orchestrator and imports no app of it.

Only the standard library is used, and sparingly, for a command has to start within 150 ms: no
`dataclasses` (it loads `inspect`, 17 ms) and no `pathlib` (8 ms), measured with -X importtime.
"""
