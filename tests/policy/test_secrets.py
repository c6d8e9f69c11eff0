"""Keys by reference."""

from pathlib import Path

import pytest

from routing.providers.secrets import SecretError, resolve

KEY = "sk-planted-0123"


def test_a_key_comes_from_the_environment_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("A_KEY", f" {KEY}\n")
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert resolve("env:A_KEY") == resolve(f"file:{tmp_path}/key") == KEY
    assert resolve("") == ""


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"two\nlines", "kl\u00fc".encode(), b"\xff", b"x" * 20_000]
)
def test_what_is_no_key_is_refused_without_repeating_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(SecretError, match=str(tmp_path)) as caught:
        resolve(f"file:{tmp_path}/key")
    assert "lines" not in str(caught.value)


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("env:SURELY_UNSET_NAME", "SURELY_UNSET_NAME, which should hold a key, is unset or empty"),
        ("file:/nonexistent/key", "cannot be read: No such file or directory"),
        ("file:relative", "env:NAME or file:/absolute/path"),
        (KEY, "env:NAME or file:/absolute/path"),
    ],
)
def test_the_reason_names_the_remedy(ref: str, message: str) -> None:
    with pytest.raises(SecretError, match=message) as caught:
        resolve(ref)
    assert KEY not in str(caught.value)
