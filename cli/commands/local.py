"""The commands that run here instead of asking a service: `manage.py` carries them out."""

from cli.commands.base import Command

UP = Command(
    name="up",
    summary="Start everything: engines, web workers and conductor, until Ctrl-C.",
    epilog="Runs in the checkout's .venv. All of it: ai-orchestra up --help.",
)
DOWN = Command(
    name="down",
    summary="Stop what 'up' started with the same ORCHESTRA_HOME, and wait until it has.",
    epilog="Runs in the checkout's .venv.",
)
POLICY = Command(
    name="policy",
    summary="Export, check or apply the policy as a file: policy export|check|apply FILE.yaml.",
    epilog="Runs in the checkout's .venv. All of it: ai-orchestra policy --help.",
)
KEYS = Command(
    name="keys",
    summary="Make, list or revoke API keys: keys create NAME --tenant T, list, revoke NAME.",
    epilog="Runs in the checkout's .venv. All of it: ai-orchestra keys --help.",
)
TENANTS = Command(
    name="tenants",
    summary="Make or list tenants, whom API keys belong to: tenants create NAME, list.",
    epilog="Runs in the checkout's .venv. All of it: ai-orchestra tenants --help.",
)
SIMULATE = Command(
    name="simulate",
    summary="Run a stand-in Ollama and OpenAI server, until Ctrl-C.",
    epilog="Runs in the checkout's .venv. All of it: ai-orchestra simulate --help.",
)
AGENT = Command(
    name="agent",
    summary="Report this machine's memory and Ollama to an orchestra elsewhere, until Ctrl-C.",
    epilog="Runs in the checkout's .venv. All of it: ai-orchestra agent --help.",
)
