"""Links between the documents, and from the code to them, lead somewhere."""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.markdown import ROOT, Document, documents

# Packages are named by name: which index they come from is the installation's business.
INDEXES = re.compile(
    r"https?://(?:[\w.-]+\.)?(?:pypi|pythonhosted|npmjs|crates|rubygems)\.\w+", re.I
)
MENTION = re.compile(rb"\bdocs/[\w./-]+?\.md\b")
NAMES = [str(d.path.relative_to(ROOT)) for d in documents()]


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_lead_to_a_file_and_a_heading(name: str) -> None:
    here = Document(ROOT / name)
    broken = [link for link in here.links if "://" not in link and not _leads(here, link)]
    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_no_document_names_a_package_index(name: str) -> None:
    assert INDEXES.findall((ROOT / name).read_text()) == []


def test_documents_that_the_repository_mentions_exist() -> None:
    mentioned = {
        (path, match.decode())
        for path in _tracked()
        for match in MENTION.findall((ROOT / path).read_bytes())
    }
    assert [(path, name) for path, name in sorted(mentioned) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_files_named_in_code_style_exist(name: str) -> None:
    folders = "|".join(re.escape(folder.name) for folder in ROOT.iterdir() if folder.is_dir())
    paths = {
        code for code in Document(ROOT / name).code if re.fullmatch(rf"({folders})/[\w./-]+", code)
    }
    # `var` is made at the first start, and `.venv` by the installation.
    named = {path for path in paths if not path.startswith(("var/", ".venv/", ".git/"))}
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_every_document_is_in_the_index() -> None:
    index = Document(ROOT / "docs" / "README.md")
    listed = {(index.path.parent / link.partition("#")[0]).resolve() for link in index.links}
    everything = {d.path for d in documents() if d.path.is_relative_to(ROOT / "docs")}
    assert everything - listed - {index.path} == set()


def _leads(here: Document, link: str) -> bool:
    target, _, anchor = unquote(link).partition("#")
    path = (here.path.parent / target).resolve() if target else here.path
    if not path.exists() or not path.is_relative_to(ROOT):
        return False
    return not anchor or anchor in Document(path).anchors


def _tracked() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    paths = [Path(name) for name in listing.stdout.split("\0") if name]
    kept = [p for p in paths if p.suffix in {".md", ".py", ".yaml", ".toml", ".html", ".js", ""}]
    return [path for path in kept if (ROOT / path).is_file()]
