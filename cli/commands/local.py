"""The commands that run here instead of asking a service: `manage.py` carries them out."""

from cli.commands.base import Command

UP = Command(
    name="up",
    summary="Start everything: engines, web workers and conductor, until Ctrl-C.",
)
POLICY = Command(
    name="policy",
    summary="Export, check or apply the policy as a file: policy export|check|apply FILE.yaml.",
)
SIMULATE = Command(
    name="simulate",
    summary="Run a stand-in Ollama and OpenAI server: simulate --port N ….",
)
