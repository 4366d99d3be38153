"""Finding weights, against a small hub on this machine and the real client's cache."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from propagate.errors import ModelError
from propagate.features import hub as module
from propagate.features.card import Download
from propagate.features.hub import ResolvedModel, fetch_file, private_path, verify
from propagate.features.registry import all_families, cards, find_card, find_installed, locate
from tests.hub_server import COMMIT, Hub, serve

FILES = (
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "scheduler/scheduler_config.json",
)
SD21 = "dift-sd21"


def resolve(model: str, *, offline: bool = False) -> ResolvedModel:
    return locate(model, offline=offline).files


def find_cached(model: str) -> ResolvedModel | None:
    return find_installed(model)


UNWANTED = (
    "model.ckpt",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
)


def write_files(folder: Path, files=FILES) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache for the hub's client, and a hub that nobody may reach."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", _unreachable)
    return tmp_path / "cache"


def _unreachable(*args: object, **options: object) -> None:
    raise ConnectionError("the network was asked")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine, the real client, and an empty cache."""
    with serve(Hub()) as (state, url):
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield state


def put_in_cache(cache: Path, repo_id: str, commit: str, *, files=FILES, branch=None) -> Path:
    root = cache / f"models--{repo_id.replace('/', '--')}"
    if branch is not None:
        (root / "refs").mkdir(parents=True)
        (root / "refs" / branch).write_text(commit)
    return write_files(root / "snapshots" / commit, files)


def test_every_card_is_complete():
    assert {"dift-sd14", "dift-sd15", "dift-sd20", SD21, "dift-sdxl", "dift-adm"} <= cards().keys()
    for name, card in cards().items():
        assert card.name == name
        assert card.licence
        assert card.summary
        assert card.knobs
        assert card.stride > 0
        assert card.ships or card.size_mb > 0
        for repository in card.repositories:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", repository.repo_id)
            assert re.fullmatch(r"[0-9a-f]{40}|main", repository.revision)


def test_names_and_aliases_are_unique():
    names = [n for card in cards().values() for n in (card.name, *card.aliases)]
    assert len(names) == len(set(names))


def test_diffusion_models_are_pinned_to_a_commit():
    for family in ("diffusers", "cleandift"):
        for card in all_families()[family].cards:
            assert all(re.fullmatch("[0-9a-f]{40}", r.revision) for r in card.repositories)


def test_aliases_and_repositories_find_their_card():
    assert find_card("sd21") is find_card(SD21) is find_card("stabilityai/stable-diffusion-2-1")


def test_sd21_asks_the_living_mirror_before_the_withdrawn_original():
    owners = [r.repo_id.split("/")[0] for r in cards()[SD21].repositories]
    assert owners == ["sd2-community", "stabilityai"]


def test_listing_models_loads_neither_torch_nor_an_http_client():
    code = (
        "import sys; from propagate.features.registry import cards; cards(); "
        "heavy = {'torch', 'diffusers', 'transformers', 'huggingface_hub', 'safetensors'}; "
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_is_taken_as_it_is(tmp_path):
    model = resolve(str(write_files(tmp_path)))
    assert model.folder == tmp_path
    assert model.name == str(tmp_path)
    assert set(model.layout.files) == set(FILES)


def test_a_folder_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_files(tmp_path / "weights")
    assert resolve("~/weights").folder == tmp_path / "weights"


def test_the_identity_of_a_folder_follows_its_weights(tmp_path):
    before = resolve(str(write_files(tmp_path))).identity
    assert resolve(str(tmp_path)).identity == before
    (tmp_path / "notes.txt").write_text("not part of the pipeline")
    assert resolve(str(tmp_path)).identity == before
    weights = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    os.utime(weights, ns=(0, 1))
    touched = resolve(str(tmp_path)).identity
    weights.write_bytes(b"other")
    os.utime(weights, ns=(0, 1))
    assert len({before, touched, resolve(str(tmp_path)).identity}) == 3


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, name):
    write_files(tmp_path)
    (tmp_path / name).unlink()
    expected = "tokenizer/vocab.json with tokenizer/merges.txt" if "tokenizer" in name else name
    if name == "unet/config.json":
        expected = "no model that is known here"
    with pytest.raises(ModelError, match=f"{expected}"):
        resolve(str(tmp_path))


def test_a_missing_sub_folder_says_what_is_expected(tmp_path):
    write_files(tmp_path)
    shutil.rmtree(tmp_path / "vae")
    with pytest.raises(
        ModelError, match="sub-folders such as unet or transformer, vae, text_encod"
    ):
        resolve(str(tmp_path))


def test_pickled_weights_are_refused_with_the_reason_and_the_fix(tmp_path):
    write_files(tmp_path)
    weights = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match=r"pytorch_model.bin only.*run any code.*safe_serializati"):
        resolve(str(tmp_path))


def test_a_file_of_another_kind_is_refused_with_what_is_expected(tmp_path):
    checkpoint = tmp_path / "v2-1.ckpt"
    checkpoint.write_bytes(b"")
    with pytest.raises(ModelError, match=r"holds no model that is known here \(it has v2-1.ckpt\)"):
        resolve(str(checkpoint))


def test_shards_count_where_their_index_is_there(tmp_path):
    shards = ["-00001-of-00002.safetensors", "-00002-of-00002.safetensors"]
    stem = "unet/diffusion_pytorch_model"
    others = [name for name in FILES if not name.startswith(stem)]
    write_files(tmp_path, [*others, *(stem + shard for shard in shards)])
    with pytest.raises(ModelError, match=f"has no {stem}.safetensors"):
        resolve(str(tmp_path))
    write_files(tmp_path, [f"{stem}.safetensors.index.json"])
    files = resolve(str(tmp_path)).layout.files
    assert {f"{stem}.safetensors.index.json", *(stem + shard for shard in shards)} <= set(files)


def test_half_precision_files_serve_where_there_are_no_others(tmp_path):
    write_files(tmp_path)
    plain = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    half = tmp_path / "unet/diffusion_pytorch_model.fp16.safetensors"
    shutil.copy(plain, half)
    assert resolve(str(tmp_path)).layout.variants == dict.fromkeys(("unet", "vae", "text_encoder"))
    plain.unlink()
    variants = resolve(str(tmp_path)).layout.variants
    assert variants == {"unet": "fp16", "vae": None, "text_encoder": None}


def test_a_tokenizer_may_be_one_file(tmp_path):
    write_files(tmp_path, [*FILES, "tokenizer/tokenizer.json"])
    (tmp_path / "tokenizer/vocab.json").unlink()
    assert "tokenizer/tokenizer.json" in resolve(str(tmp_path)).layout.files


@pytest.mark.parametrize("name", ["no/such/folder", "./weights", "owner/", "a b/c", "qqqq"])
def test_what_is_no_model_at_all_is_refused(name):
    with pytest.raises(ModelError, match=r"is not a name that .*not a folder.*owner/name"):
        resolve(name)


def test_a_misspelt_name_gets_the_closest_one():
    with pytest.raises(ModelError, match=r"did you mean sd21\?"):
        resolve("sd2")


def test_a_cached_mirror_is_used_without_the_network(cache):
    second = cards()[SD21].repositories[1]
    folder = put_in_cache(cache, second.repo_id, second.revision)
    model = resolve("sd21")
    assert model == resolve("sd21", offline=True)
    assert (model.folder, model.repository) == (folder, second)
    assert model.identity == f"{second.repo_id}@{second.revision[:12]}"


def test_a_branch_becomes_the_commit_it_stands_for(cache):
    put_in_cache(cache, "owner/name", COMMIT, branch="main")
    assert resolve("owner/name").identity == "owner/name@c0ffee000000"


def test_a_revision_can_be_chosen(cache):
    put_in_cache(cache, "owner/name", COMMIT)
    assert resolve(f"owner/name@{COMMIT}").repository == ("owner/name", COMMIT)
    assert find_cached("owner/name@v2") is None


def test_half_precision_weights_have_another_identity(cache):
    half = [name.replace("model.safetensors", "model.fp16.safetensors") for name in FILES]
    put_in_cache(cache, "owner/name", COMMIT, files=half, branch="main")
    identity = resolve("owner/name").identity
    assert identity == "owner/name@c0ffee000000+fp16-text_encoder+fp16-unet+fp16-vae"


def test_a_download_that_was_cut_off_does_not_count(cache):
    put_in_cache(cache, "owner/name", COMMIT, files=FILES[:4], branch="main")
    assert find_cached("owner/name") is None


def test_offline_names_each_place_and_both_ways_out(cache):
    with pytest.raises(ModelError) as caught:
        resolve("sd21", offline=True)
    message = str(caught.value)
    for repository in cards()[SD21].repositories:
        assert str(repository) in message
    assert "propagate models download dift-sd21" in message
    assert "folder that holds the model" in message
    assert "network was asked" not in message


def test_a_download_takes_the_needed_files_only_and_is_not_repeated(hub):
    hub.files["owner/name"] = (*FILES, *UNWANTED)
    model = resolve("owner/name")
    assert sorted(hub.downloaded) == sorted(FILES)
    assert model.repository == ("owner/name", COMMIT)
    assert (model.folder / "vae/config.json").read_text() == "vae/config.json"
    assert resolve("owner/name") == model
    assert len(hub.downloaded) == len(FILES)


def test_the_next_mirror_is_asked_when_the_first_is_gone(hub):
    second = cards()[SD21].repositories[1]
    hub.files[second.repo_id] = FILES
    assert resolve("sd21").repository == second


def test_a_cut_off_download_is_completed(hub, tmp_path):
    hub.files["owner/name"] = FILES
    put_in_cache(tmp_path / "cache", "owner/name", COMMIT, files=FILES[:4], branch="main")
    assert set(resolve("owner/name").layout.files) == set(FILES)
    assert sorted(hub.downloaded) == sorted(FILES[4:])


def test_every_mirror_is_named_with_its_own_reason(hub):
    first, second = cards()[SD21].repositories
    hub.errors = {first.repo_id: "GatedRepo", second.repo_id: "RevisionNotFound"}
    with pytest.raises(ModelError) as caught:
        resolve("sd21")
    message = str(caught.value)
    assert re.search(f"{first} is gated: accept its licence at http.*/{first.repo_id} ", message)
    assert "HF_TOKEN" in message
    assert f"{second} has no revision '{second.revision}'" in message
    assert "run `propagate models download dift-sd21`" in message


def test_a_repository_that_does_not_exist(hub):
    with pytest.raises(ModelError, match="owner/gone@main was not found on the hub, or is priv"):
        resolve("owner/gone")


def test_a_repository_of_something_else_is_refused_before_the_download(hub):
    hub.files["owner/name"] = ("README.md", "weights.h5")
    with pytest.raises(
        ModelError, match=r"owner/name@main holds no model .*has README.md, weights"
    ):
        resolve("owner/name")
    assert hub.downloaded == []


def test_a_repository_with_pickled_weights_is_refused_before_the_download(hub):
    hub.files["owner/name"] = tuple(f.replace("model.safetensors", "model.bin") for f in FILES)
    with pytest.raises(ModelError, match="pickled weights are refused"):
        resolve("owner/name")
    assert hub.downloaded == []


def test_no_network(cache):
    with pytest.raises(ModelError, match="owner/name@main failed with ConnectionError: the netwo"):
        resolve("owner/name")


def test_offline_by_the_hubs_own_switch(cache, monkeypatch):
    from huggingface_hub.errors import OfflineModeIsEnabled

    def switched_off(*args: object, **options: object) -> None:
        raise OfflineModeIsEnabled("no")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", switched_off)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids the network"):
        resolve("owner/name")


def test_a_download_that_does_not_fit_on_the_disk_is_not_begun(hub, monkeypatch):
    hub.files["owner/name"] = FILES
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("", (), {"free": 10})())
    with pytest.raises(
        ModelError, match="owner/name@main needs .* MB and the disk of .* set HF_HOM"
    ):
        resolve("owner/name")
    assert hub.downloaded == []


def test_a_disk_that_fills_up_is_told_as_such(hub, monkeypatch):
    def full(*args: object, **options: object) -> None:
        raise RuntimeError("download failed") from OSError(errno.ENOSPC, "No space left on device")

    hub.files["owner/name"] = FILES
    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    with pytest.raises(ModelError, match="filled the disk of .*: free some, or set HF_HOME"):
        resolve("owner/name")


def test_a_file_that_differs_from_its_checksum_is_named(tmp_path):
    snapshot = write_files(tmp_path / "snapshots" / COMMIT)
    weights = snapshot / "unet/diffusion_pytorch_model.safetensors"
    blob = tmp_path / "blobs" / hashlib.sha256(weights.read_bytes()).hexdigest()
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)
    verify(resolve(str(snapshot)))
    blob.write_bytes(b"other")
    with pytest.raises(ModelError, match=r"model.safetensors is damaged: its SHA-256 is .* delete"):
        verify(resolve(str(snapshot)))


@pytest.fixture
def published(tmp_path, monkeypatch) -> tuple[Path, Download]:
    """A file that is published outside of the hub, and a home for what is downloaded."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    source = tmp_path / "weights.pt"
    source.write_bytes(b"weights")
    return source, Download(source.as_uri(), hashlib.sha256(b"weights").hexdigest())


def test_a_file_outside_of_the_hub_is_downloaded_once(published):
    source, download = published
    with pytest.raises(ModelError, match="'adm' is not on this machine .*offline mode is on; run"):
        fetch_file("adm", download, offline=True)
    files = fetch_file("adm", download)
    assert files.path.read_bytes() == b"weights"
    assert files.identity == f"weights.pt@{download.sha256[:12]}"
    source.unlink()
    assert fetch_file("adm", download, offline=True) == files


def test_a_file_that_was_damaged_later_is_found_out(published):
    files = fetch_file("adm", published[1])
    verify(files)
    files.path.write_bytes(b"rotten")
    with pytest.raises(ModelError, match="weights.pt is damaged: its SHA-256 is"):
        verify(files)


def test_a_file_with_another_checksum_is_not_kept(published):
    source, download = published
    source.write_bytes(b"changed")
    with pytest.raises(ModelError, match="'adm' could not be downloaded from file:.*invalid hash"):
        fetch_file("adm", download)
    assert not private_path(f"{download.sha256[:12]}-weights.pt").exists()


def test_a_file_that_is_gone_is_told_as_such(published):
    source, download = published
    source.unlink()
    with pytest.raises(ModelError, match="could not be downloaded .*give the path of the file"):
        fetch_file("adm", download)
