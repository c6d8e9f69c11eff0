"""Models files, the shipped ones and bad ones."""

from pathlib import Path

import pytest

from routing.simulator.models import BadModelsFile, preset, presets, read_catalogue

ONE = "models: [{name: 'a:1b', size_gb: 1%s}]"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_a_models_file(name: str) -> None:
    assert preset(name).models


def test_the_usual_models_have_realistic_needs() -> None:
    needs_gb = {
        name: model.memory_bytes(4096) / 1e9 for name, model in preset("ollama").by_name().items()
    }
    assert needs_gb["llama3.2:1b"] == pytest.approx(2.26, abs=0.01)
    assert needs_gb["llama3.1:8b"] == pytest.approx(6.26, abs=0.01)
    assert needs_gb["gemma2:9b"] == pytest.approx(7.66, abs=0.01)
    assert needs_gb["llama3.1:70b"] == pytest.approx(44.67, abs=0.01)


@pytest.mark.parametrize("name", ["ollama", "load"])
def test_every_model_of_a_roomy_preset_fits_its_host(name: str) -> None:
    catalogue = preset(name)
    for model in catalogue.models:
        assert model.memory_bytes(catalogue.host.num_ctx) <= catalogue.host.memory_bytes


def test_in_the_tight_preset_one_model_fits_nowhere() -> None:
    tight = preset("tight")
    needs = [model.memory_bytes(tight.host.num_ctx) for model in tight.models]
    assert [need <= tight.host.memory_bytes for need in needs] == [True, True, True, False]


def test_a_file_needs_only_names_and_sizes(tmp_path: Path) -> None:
    [model] = read_catalogue(written(tmp_path, ONE % "")).models
    assert (model.full_name, model.size_bytes, model.load_s) == ("a:1b", 10**9, 0.8)
    assert model.details()["parameter_size"] == "1.0B"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (ONE % ", colour: red", "unknown field `colour` - at `$.models[0]`"),
        (ONE % ", slots: 0", "`$.models[0].slots`"),
        (ONE % ", capabilities: [magic]", "unknown capability 'magic'; known are completion"),
        ("models: []", "`$.models`"),
        ("models: [{name: A, size_gb: 1}, {name: 'a:latest', size_gb: 2}]", "is listed twice"),
        ("host: {memory_gb: -1}", "`$.host.memory_gb`"),
        ("models: {", "did not find expected node content in"),
        ("", "Expected `object`, got `null`"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(BadModelsFile) as caught:
        read_catalogue(written(tmp_path, text))
    assert complaint in str(caught.value)
    assert "models.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_unknown_preset_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadModelsFile, match=r"Cannot read .*none\.yaml: No such file"):
        read_catalogue(tmp_path / "none.yaml")
    with pytest.raises(BadModelsFile, match="there are load, ollama, oom, tight"):
        preset("nope")
