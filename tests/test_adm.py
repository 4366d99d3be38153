"""DIFT_adm: checkpoints under OpenAI's own names, against the plain network and DIFT's outputs."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from propagate.config import PRESETS, ModelOptions
from propagate.errors import InputError, ModelError
from propagate.features.diffusion.adm import adm_layers, linear_alphas_cumprod, load_adm
from propagate.features.hub import local
from propagate.features.noise import SeededNoise
from propagate.features.registry import all_families, cards, create_extractor, locate
from propagate.features.tap import Tap
from propagate.types import Frame, Size
from tests.adm_reference import OUTPUTS, output_blocks, random_state

SIZE = (16, 24)
OPTIONS = ModelOptions(
    t=51, up_ft_index=4, ensemble_size=2, input_size=SIZE, device="cpu", dtype="fp32"
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """Where converted weights are kept."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return random_state()


@pytest.fixture
def checkpoint(tmp_path, state) -> Path:
    path = tmp_path / "adm.pt"
    torch.save(state, path)
    return path


def frame(index: int = 0, size: tuple[int, int] = SIZE) -> Frame:
    pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Frame("clip", index, pixels, 0.0, f"{index}")


def expected(state, image: Frame, block: int, *, t: int = 51, members: int = 2) -> torch.Tensor:
    pixels = torch.from_numpy(image.rgb).permute(2, 0, 1) / 255 * 2 - 1
    alpha = linear_alphas_cumprod()[t].item()
    maps = []
    for member in range(members):
        noise = SeededNoise(0).draw(
            "diffusion", frame=image.index, member=member, shape=tuple(pixels.shape)
        )
        noisy = alpha**0.5 * pixels + (1 - alpha) ** 0.5 * noise
        maps.append(output_blocks(state, noisy[None], t)[block][0])
    return torch.stack(maps).mean(dim=0)


@pytest.mark.parametrize("block", range(OUTPUTS))
def test_every_output_block_equals_the_plain_network(checkpoint, state, block):
    extractor = create_extractor(str(checkpoint), replace(OPTIONS, up_ft_index=block))
    (result,) = extractor.extract([frame(3)])
    torch.testing.assert_close(result.data, expected(state, frame(3), block), rtol=1e-4, atol=1e-4)


def test_a_map_does_not_depend_on_its_batch_or_order(checkpoint):
    one = create_extractor(str(checkpoint), OPTIONS)
    many = create_extractor(str(checkpoint), replace(OPTIONS, batch_size=5))
    frames = [frame(i) for i in (4, 0, 2)]
    together = one.extract(frames)
    for image, mate in zip(reversed(frames), reversed(together), strict=True):
        assert torch.equal(one.extract([image])[0].data, mate.data)
    for first, second in zip(together, many.extract(frames), strict=True):
        torch.testing.assert_close(first.data, second.data, rtol=1e-4, atol=1e-5)


def test_half_precision_is_close(checkpoint):
    half = create_extractor(str(checkpoint), replace(OPTIONS, dtype="bf16"))
    exact = create_extractor(str(checkpoint), OPTIONS)
    maps = [extractor.extract([frame()])[0].data for extractor in (half, exact)]
    assert maps[0].dtype == torch.float32
    assert torch.cosine_similarity(*maps, dim=0).min() > 0.99
    assert not torch.equal(*maps)


def test_what_comes_after_the_block_is_given_up(checkpoint):
    extractor = create_extractor(str(checkpoint), replace(OPTIONS, up_ft_index=2))
    network = extractor._model.denoiser.network
    assert [bool(list(block.parameters())) for block in network.up_blocks] == [True, False, False]
    assert not list(network.conv_out.parameters())


def test_a_checkpoint_is_converted_once(checkpoint, home):
    first = create_extractor(str(checkpoint), OPTIONS)
    (converted,) = (home / "propagate").iterdir()
    assert converted.suffix == ".safetensors"
    before = converted.stat().st_mtime_ns
    again = create_extractor(str(checkpoint), OPTIONS)
    assert converted.stat().st_mtime_ns == before
    assert again.identity == first.identity
    assert torch.equal(again.extract([frame()])[0].data, first.extract([frame()])[0].data)


def test_tensors_may_come_as_safetensors(tmp_path, checkpoint, state):
    save_file(state, tmp_path / "adm.safetensors")
    one, other = (
        create_extractor(str(path), OPTIONS).extract([frame()])[0].data
        for path in (checkpoint, tmp_path / "adm.safetensors")
    )
    assert torch.equal(one, other)


def test_a_folder_may_hold_the_published_checkpoint_among_other_files(tmp_path, checkpoint):
    folder = tmp_path / "repository"
    (folder / "checkpoints").mkdir(parents=True)
    checkpoint.rename(folder / "checkpoints/256x256_diffusion_uncond.pt")
    for other in ("README.md", "checkpoints/other.pt", "model.safetensors"):
        (folder / other).touch()
    extractor = create_extractor(str(folder), OPTIONS)
    assert extractor.extract([frame()])[0].data.shape[0] == 64


def test_layers_are_listed_with_channels_and_stride(checkpoint):
    layers = {layer.name: layer for layer in adm_layers(locate(str(checkpoint)).files)}
    block = layers["up_blocks.0.upsamplers.0"]
    assert (block.channels, block.stride) == (64, 2)
    assert layers["up_blocks.2.resnets.0"].stride == 1
    named = create_extractor(
        str(checkpoint), replace(OPTIONS, up_ft_index=None, layer="up_blocks.0.upsamplers.0")
    )
    numbered = create_extractor(str(checkpoint), replace(OPTIONS, up_ft_index=2))
    assert named.identity == numbered.identity


class Dangerous:
    def __reduce__(self):
        return (print, ("this code ran",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: pickle.dumps(Dangerous()), "could not be read as tensors alone"),
        (lambda: b"not a checkpoint", "could not be read as tensors alone"),
        (lambda: b"", "could not be read as tensors alone"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, capfd, content, message):
    path = tmp_path / "bad.pt"
    path.write_bytes(content())
    with pytest.raises(ModelError, match=rf"bad.pt {message} .*download it again"):
        create_extractor(str(path), OPTIONS)
    assert "this code ran" not in capfd.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("middle_block.1.qkv.weight"),
        lambda state: state.update({"label_emb.weight": torch.zeros(10, 128)}),
        lambda state: state.update({"out.2.weight": torch.zeros(6, 16, 3, 3)}),
        lambda state: state.clear(),
    ],
)
def test_tensors_of_another_network_are_refused(tmp_path, state, change, home):
    changed = dict(state)
    change(changed)
    torch.save(changed, tmp_path / "other.pt")
    with pytest.raises(ModelError, match=r"other.pt is no ADM UNet .*256x256_diffusion_uncond.pt"):
        create_extractor(str(tmp_path / "other.pt"), OPTIONS)
    assert not [path for path in (home / "propagate").iterdir() if path.suffix == ".safetensors"]


def test_another_width_of_heads_is_read_beside_the_checkpoint(checkpoint, state):
    extract = lambda: create_extractor(str(checkpoint), OPTIONS).extract([frame()])[0].data  # noqa: E731
    default = extract()
    config = checkpoint.with_name("config.json")
    config.write_text('{"num_head_channels": 64}')
    assert torch.equal(extract(), default)
    config.write_text('{"flags": {"num_head_channels": 32}}')
    assert not torch.allclose(extract(), default, atol=1e-3)
    config.write_text("{")
    with pytest.raises(ModelError, match="config.json is no JSON .* mend it, or take it away"):
        extract()


def test_a_list_of_tensors_is_refused(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(ModelError, match="list.pt is no state dict"):
        create_extractor(str(tmp_path / "list.pt"), OPTIONS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"up_ft_index": OUTPUTS},
            f"up_ft_index is {OUTPUTS}, and this ADM has output blocks 0 to",
        ),
        ({"t": 1000}, "t is 1000; .* has steps 0 to 999"),
        ({"prompt": "a cow"}, "prompt set for .*adm.pt, which has no such option"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(checkpoint, change, message):
    with pytest.raises(InputError, match=message):
        create_extractor(str(checkpoint), replace(OPTIONS, **change))


def test_an_input_that_the_levels_do_not_halve_is_refused(checkpoint):
    extractor = create_extractor(str(checkpoint), replace(OPTIONS, input_size=(18, 24)))
    with pytest.raises(InputError, match="24x18 pixels; .* takes multiples of 4, so choose anoth"):
        extractor.extract([frame(size=(18, 24))])


def test_the_published_settings_of_each_task():
    knobs = cards()["dift-adm"].knobs
    settings = {task: (o.t, o.up_ft_index, o.ensemble_size) for task, o in knobs.items()}
    assert settings == {
        "propagation": (51, 7, 4),
        "semantic": (101, 4, 8),
        "geometric": (41, 11, 4),
    }
    chosen = PRESETS["dift-adm"]
    assert (chosen.model, chosen.options.t, chosen.options.up_ft_index) == ("dift-adm", 51, 7)
    assert all_families()["adm"].cards[0].download.sha256.startswith("a37c32fffd31")


# What follows compares with outputs of the published code.


@pytest.fixture(scope="module")
def oracle(shared_dir) -> Path:
    return shared_dir / "oracles/adm-unet"


def loaded(oracle: Path):
    return load_adm(local(oracle / "model.safetensors", all_families()["adm"].select))


def test_the_published_network_by_its_path(oracle):
    options = ModelOptions(up_ft_index=4, input_size=(32, 32), device="cpu", dtype="fp32")
    (result,) = create_extractor(str(oracle / "model.safetensors"), options).extract([frame()])
    assert result.data.shape == (32, 16, 16)


def test_the_published_noise_schedule(oracle):
    with np.load(oracle / "expected_schedule.npz") as schedule:
        np.testing.assert_allclose(
            linear_alphas_cumprod().numpy(), schedule["alphas_cumprod"], rtol=1e-12
        )


@pytest.mark.parametrize("ensemble", [1, 2])
@pytest.mark.parametrize("block", range(9))
def test_the_published_features_of_every_output_block(oracle, ensemble, block):
    inputs = load_file(oracle / "inputs.safetensors")
    outputs = load_file(oracle / f"expected_ensemble_{ensemble}.safetensors")
    t = json.loads((oracle / "config.json").read_text())["t"]
    model = loaded(oracle)
    noisy = (
        model.levels.signal[t] * inputs["x_0"] + model.levels.noise[t] * inputs[f"noise_{ensemble}"]
    )
    torch.testing.assert_close(noisy, outputs["x_t"], rtol=1e-4, atol=1e-5)
    tap = Tap(model.denoiser.network, [model.up_block(block)])
    with torch.inference_mode():
        (maps,) = tap(lambda: model.denoiser(noisy, t), Size(*noisy.shape[2:]))
    torch.testing.assert_close(maps.mean(dim=0), outputs[f"block_{block}"], rtol=1e-4, atol=1e-4)


def test_the_published_output_of_the_whole_network(oracle):
    noisy = load_file(oracle / "expected_ensemble_1.safetensors")["x_t"]
    t = json.loads((oracle / "config.json").read_text())["t"]
    with np.load(oracle / "expected_model_output.npz") as stored:
        output = torch.from_numpy(stored["output"])
    with torch.inference_mode():
        result = loaded(oracle).denoiser(noisy, t).sample
    torch.testing.assert_close(result, output, rtol=1e-4, atol=1e-4)
