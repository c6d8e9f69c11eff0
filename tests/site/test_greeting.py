"""The greeting says where everything is, and whether the models are real."""

from pathlib import Path

from orchestra_site import greeting
from orchestra_site.home import Home
from orchestra_site.ollama import Upstream

URL = "http://127.0.0.1:8080"
OLLAMA = Upstream("http://127.0.0.1:11434")
SIMULATOR = Upstream("http://127.0.0.1:11435", simulator_port=11435)


def test_it_names_every_door(tmp_path: Path) -> None:
    said = greeting.text(URL, Home(tmp_path), OLLAMA, simulate=False)
    for door in ("/dashboard", "/api/v1", "/api/docs", "/admin/"):
        assert f"{URL}{door}" in said
    assert "from Ollama at http://127.0.0.1:11434" in said
    assert str(tmp_path / "logs") in said


def test_it_tells_where_the_password_is_but_not_the_password(tmp_path: Path) -> None:
    assert "password" not in greeting.text(URL, Home(tmp_path), OLLAMA, simulate=False)
    (tmp_path / "admin_password").write_text("hunter2")
    said = greeting.text(URL, Home(tmp_path), OLLAMA, simulate=False)
    assert f"the password is in {tmp_path / 'admin_password'}" in said
    assert "hunter2" not in said


def test_it_says_plainly_that_models_are_simulated(tmp_path: Path) -> None:
    said = greeting.text(URL, Home(tmp_path), SIMULATOR, simulate=False)
    assert "because no Ollama answers at http://127.0.0.1:11434" in said
    assert "as asked" in greeting.text(URL, Home(tmp_path), SIMULATOR, simulate=True)
