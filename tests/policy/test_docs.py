"""docs/policy.md names every field with its default, and its example works."""

import re
from pathlib import Path

import msgspec
import pytest

from routing.models import Origin
from routing.policy.export import document_from_orm
from routing.policy.file import apply_policy
from routing.policy.seed import seed
from routing.policy.tables import FIELDS, KINDS, Spec

DOCS = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()


def table(heading: str) -> dict[str, str]:
    """Return the first two columns of the table below a heading, without their backquotes."""
    section = DOCS.split(f"### `{heading}`", 1)[1].split("\n#", 1)[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", section, re.MULTILINE))


def told_default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    if field.default in (None, "", ()):
        return "none"
    shown = field.default
    return f"`{str(shown).lower() if isinstance(shown, bool) else shown}`"


@pytest.mark.parametrize(("kind", "spec"), KINDS.items())
def test_every_field_is_told_with_its_default(kind: str, spec: type[Spec]) -> None:
    expected = {name: told_default(field) for name, field in FIELDS[spec].items()}
    assert table(kind) == expected


@pytest.mark.django_db(transaction=True)
def test_the_example_does_what_it_says() -> None:
    seed(ollama_url="http://127.0.0.1:11434", simulated=False)
    section = DOCS.split("## A worked", 1)[1]
    example, output = re.findall(r"```(?:yaml)?\n(.+?)```", section, re.DOTALL)[:2]
    report = apply_policy(example, actor="reader")
    assert report.ok, report.text()
    assert report.text() == output.split("\n", 1)[1].strip()
    chain = next(c for c in document_from_orm().chains if c.for_model)
    assert chain.models == ("cloud-small", "llama3.2:3b")
    assert apply_policy(example, actor="reader").changes == ()


def test_every_origin_is_told() -> None:
    section = DOCS.split("## Who may change what", 1)[1]
    for origin in Origin:
        assert origin.label in section
