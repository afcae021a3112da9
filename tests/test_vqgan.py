import contextlib
import io
import json
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny_vqgan import (
    GUMBEL,
    IBQ,
    LDM,
    NARROW,
    Reference,
    lightning_classes,
    lightning_content,
    loss_tensors,
    weights,
    write_lightning,
    write_yaml,
)
from torch import Tensor

from vqclip.common.errors import ModelError
from vqclip.hub.vqgan_catalogue import VQGANS
from vqclip.models.architecture import Architecture, check_against_yaml, infer_architecture, read_yaml
from vqclip.models.vqgan import VQGAN, clamp_with_grad, load_vqgan, read_architecture, save_vqgan

# Encoder, decoder and whole model: tensors and numbers in the published files.
PUBLISHED_LAYOUTS = {
    "imagenet-16384": ((144, 29_298_176), (194, 42_449_795), (343, 76_073_859)),
    "imagenet-1024": ((144, 29_298_176), (194, 42_449_795), (343, 72_141_699)),
    "gumbel-f8": ((126, 26_345_728), (168, 38_316_163), (301, 68_995_971)),
}
LDM_FIRST_STAGES = {  # latent diffusion's configs, and their millions of numbers
    "vq-f4": (((1, 2, 4), (), 3, 8192), 55.3),
    "vq-f8": (((1, 2, 2, 4), (32,), 4, 16384), 67.7),
    "vq-f8-n256": (((1, 2, 2, 4), (32,), 4, 256), 67.7),
    "vq-f16": (((1, 1, 2, 2, 4), (16,), 8, 16384), 69.6),
}


def images(count: int = 2, height: int = 32, width: int = 48, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def on_meta(sizes: Architecture) -> VQGAN:
    with torch.device("meta"):
        return VQGAN(sizes)


def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def saved(path: Path, sizes: Architecture, seed: int = 0) -> Path:
    save_file(weights(sizes, seed), path)
    return path


def test_published_layouts_have_the_published_keys_and_counts() -> None:
    for name, (encoder, decoder, whole) in PUBLISHED_LAYOUTS.items():
        state = on_meta(VQGANS[name].architecture).state_dict()
        for prefix, expected in (("encoder.", encoder), ("decoder.", decoder), ("", whole)):
            part = [tensor for key, tensor in state.items() if key.startswith(prefix)]
            assert (len(part), sum(tensor.numel() for tensor in part)) == expected, (name, prefix)


def test_the_default_models_keys_and_shapes() -> None:
    found = shapes(on_meta(VQGANS["imagenet-16384"].architecture))
    assert found["quantize.embedding.weight"] == (16384, 256)
    assert found["encoder.conv_in.weight"] == (128, 3, 3, 3)
    assert found["encoder.conv_out.weight"] == (256, 512, 3, 3)
    assert found["decoder.conv_in.weight"] == (512, 256, 3, 3)
    assert found["decoder.up.4.attn.2.proj_out.weight"] == (512, 512, 1, 1)
    assert found["quant_conv.weight"] == found["post_quant_conv.weight"] == (256, 256, 1, 1)
    counts = [sum(key.startswith(f"decoder.up.{level}.") for key in found) for level in range(5)]
    assert counts == [24, 28, 26, 28, 56]
    gumbel = shapes(on_meta(VQGANS["gumbel-f8"].architecture))
    assert gumbel["quantize.proj.weight"] == (8192, 256, 1, 1)
    assert gumbel["quantize.proj.bias"] == (8192,)
    assert gumbel["quantize.embed.weight"] == (8192, 256)


def test_ibq_and_latent_diffusion_layouts_have_the_published_size() -> None:
    state = on_meta(VQGANS["ibq-16384"].architecture).state_dict()
    assert (len(state), round(sum(t.numel() for t in state.values()) / 1e6, 2)) == (543, 110.98)
    base = VQGANS["imagenet-1024"].architecture
    for name, ((ch_mult, attention, dim, entries), millions) in LDM_FIRST_STAGES.items():
        sizes = replace(
            base, ch_mult=ch_mult, attn_resolutions=attention, z_channels=dim, embed_dim=dim, n_embed=entries
        )
        state = on_meta(sizes).state_dict()
        assert round(sum(tensor.numel() for tensor in state.values()) / 1e6, 1) == millions, name
        assert infer_architecture(shapes(on_meta(sizes)), None, name) == sizes


@pytest.mark.parametrize("name", VQGANS)
def test_published_architectures_are_inferred_from_their_shapes(name: str) -> None:
    sizes = VQGANS[name].architecture
    assert infer_architecture(shapes(on_meta(sizes)), sizes.quantiser, name) == sizes


def flat(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, path)
    return path


def wrapped(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save({"model": state, "epoch": 3}, path)
    return path


def lightning(path: Path, state: dict[str, Tensor]) -> Path:
    return write_lightning(path, state | loss_tensors())


def legacy_lightning(path: Path, state: dict[str, Tensor]) -> Path:
    return write_lightning(path, state | loss_tensors(), new_zip=False)


def net2net(path: Path, state: dict[str, Tensor]) -> Path:
    first = {f"first_stage_model.{key}": tensor for key, tensor in (state | loss_tensors()).items()}
    other = {"transformer.pos_emb": torch.zeros(1, 4), "cond_stage_model.encoder.conv_in.weight": torch.zeros(2)}
    return write_lightning(path, first | other)


def with_averages(path: Path, state: dict[str, Tensor]) -> Path:
    copies = {f"model_ema.{key.replace('.', '')}": torch.zeros_like(tensor) for key, tensor in state.items()}
    return write_lightning(path, state | copies | {"model_ema.decay": torch.tensor(0.99)})


def safetensors(path: Path, state: dict[str, Tensor]) -> Path:
    save_file(state, path)
    return path


def compressed_zip(path: Path, state: dict[str, Tensor]) -> Path:
    """A torch zip that somebody packed again; mapping it into memory would read the packed bytes."""
    plain = flat(path.with_suffix(".plain"), state)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return path


FORMATS = [flat, wrapped, lightning, legacy_lightning, net2net, with_averages, safetensors, compressed_zip]


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_every_format_gives_tamings_numbers(
    tmp_path: Path, write: Callable[[Path, dict[str, Tensor]], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    reference = Reference(NARROW)
    model = load_vqgan(write(tmp_path / "model.ckpt", dict(reference.state_dict())))
    pictures = images()

    latent = reference.quant_conv(reference.encoder(2 * pictures - 1))
    torch.testing.assert_close(model.encode(pictures), latent, rtol=0, atol=1e-5)

    entries = reference.quantize.embedding.weight
    distances = torch.cdist(latent.movedim(1, -1).reshape(-1, NARROW.embed_dim).double(), entries.double())
    best = distances.topk(2, largest=False).values
    assert (best[:, 1] - best[:, 0]).min() > 1e-4, "a near-tie: choose another seed"
    quantised, _, (_, _, indices) = reference.quantize(latent)
    assert len(indices.unique()) > 10  # the comparison below sees much of the codebook
    assert torch.equal(model.codes(latent).flatten(), indices.flatten())
    torch.testing.assert_close(model.quantise(latent), quantised, rtol=0, atol=1e-5)

    decoded = reference.decoder(reference.post_quant_conv(quantised))
    torch.testing.assert_close(model.decode(model.quantise(latent)), (decoded + 1) / 2, rtol=0, atol=1e-5)
    assert capfd.readouterr() == ("", "")


def test_latent_diffusion_first_stage_with_four_channels(tmp_path: Path) -> None:
    reference = Reference(LDM)
    model = load_vqgan(lightning(tmp_path / "model.ckpt", dict(reference.state_dict())))
    latent = reference.quant_conv(reference.encoder(2 * images() - 1))
    quantised, _, (_, _, indices) = reference.quantize(latent)
    assert model.codebook.shape == (64, 4)
    assert torch.equal(model.codes(latent).flatten(), indices.flatten())
    expected = (reference.decoder(reference.post_quant_conv(quantised)) + 1) / 2
    torch.testing.assert_close(model.decode(model.quantise(latent)), expected, rtol=0, atol=1e-5)


def test_gumbel_takes_the_largest_logit_and_is_the_same_every_time(tmp_path: Path) -> None:
    tensors = weights(GUMBEL)
    model = load_vqgan(lightning(tmp_path / "model.ckpt", tensors))
    features = model.quant_conv(model.encoder(2 * images() - 1))
    kernel, bias = tensors["quantize.proj.weight"][:, :, 0, 0], tensors["quantize.proj.bias"]
    logits = torch.einsum("kc,nchw->nhwk", kernel, features) + bias
    expected = tensors["quantize.embed.weight"][logits.argmax(-1)].permute(0, 3, 1, 2)
    assert torch.equal(model.encode(images()), expected)
    assert torch.equal(model.quantise(expected), expected)


def test_ibq_takes_the_largest_dot_product(tmp_path: Path) -> None:
    tensors = weights(IBQ)
    model = load_vqgan(with_averages(tmp_path / "model.ckpt", tensors), quantiser="ibq")
    features = model.quant_conv(model.encoder(2 * images() - 1))
    entries = tensors["quantize.embedding.weight"]
    products = features.permute(0, 2, 3, 1) @ entries.T
    expected = entries[products.argmax(-1)].permute(0, 3, 1, 2)
    assert torch.equal(model.encode(images()), expected)
    nearest = torch.cdist(features.movedim(1, -1).reshape(-1, 32), entries).argmin(1)
    assert not torch.equal(products.argmax(-1).flatten(), nearest)  # or the test could not tell them apart


@pytest.mark.parametrize("sizes", [NARROW, IBQ, GUMBEL, LDM], ids=["vq", "ibq", "gumbel", "ldm"])
def test_entries_survive_quantising(tmp_path: Path, sizes: Architecture) -> None:
    model = load_vqgan(saved(tmp_path / "model.safetensors", sizes), quantiser=sizes.quantiser)
    codes = torch.arange(sizes.n_embed).view(1, 8, 8)
    assert torch.equal(model.codes(model.lookup(codes)), codes)
    assert torch.equal(model.quantise(model.lookup(codes)), model.lookup(codes))


def test_codes_are_found_in_fp32_in_pieces_and_under_autocast(tmp_path: Path) -> None:
    model = load_vqgan(saved(tmp_path / "model.safetensors", NARROW))
    latent = torch.randn(2, 32, 40, 40, generator=torch.Generator().manual_seed(3))  # 3,200 rows: two pieces
    distances = torch.cdist(latent.movedim(1, -1).reshape(-1, 32).double(), model.codebook.double())
    two = distances.topk(2, largest=False).values
    clear = two[:, 1] - two[:, 0] > 1e-4
    codes = model.codes(latent)
    assert codes.shape == (2, 40, 40)
    assert clear.float().mean() > 0.99
    assert torch.equal(codes.flatten()[clear], distances.argmin(1)[clear])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.codes(latent), codes)


def test_quantising_is_straight_through(tmp_path: Path) -> None:
    model = load_vqgan(saved(tmp_path / "model.safetensors", NARROW))
    latent = torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    quantised = model.quantise(latent)
    assert torch.equal(quantised, model.lookup(model.codes(latent)))
    slope = torch.randn(quantised.shape, generator=torch.Generator().manual_seed(1))
    quantised.backward(slope)
    assert torch.equal(latent.grad, slope)


def test_clamp_with_grad_drops_only_what_would_push_further_out() -> None:
    values = torch.tensor([-0.5, -0.5, 0.0, 0.5, 0.5, 1.0, 1.5, 1.5], requires_grad=True)
    slopes = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0])
    clamped = clamp_with_grad(values)
    clamped.backward(slopes)
    assert torch.equal(clamped, values.detach().clamp(0, 1))
    # A descent moves against the slope: up from -0.5 is inwards only for a negative slope, and so on.
    assert torch.equal(values.grad, torch.tensor([0.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 0.0]))


def test_render_is_a_picture_with_gradients_on_the_latent_only(tmp_path: Path) -> None:
    model = load_vqgan(saved(tmp_path / "model.safetensors", NARROW))
    latent = model.lookup(torch.randint(64, (2, 3, 5), generator=torch.Generator().manual_seed(0)))
    latent.requires_grad_()
    pictures = model.render(latent)
    assert pictures.shape == (2, 3, 3 * model.factor, 5 * model.factor)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    pictures.sum().backward()
    assert latent.grad.abs().sum() > 0
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_bounds_are_the_codebooks_per_channel(tmp_path: Path) -> None:
    model = load_vqgan(saved(tmp_path / "model.safetensors", NARROW))
    low, high = model.bounds
    entries = weights(NARROW)["quantize.embedding.weight"]
    assert torch.equal(low, entries.min(0).values.view(1, 32, 1, 1))
    assert torch.equal(high, entries.max(0).values.view(1, 32, 1, 1))


def test_a_fresh_model_works_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VQGAN(NARROW)
    assert model.render(model.encode(images())).shape == (2, 3, 32, 48)
    assert model.codebook.abs().max() <= 1 / 64
    assert capfd.readouterr() == ("", "")


def test_half_precision_files_become_fp32(tmp_path: Path) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        path = tmp_path / f"{dtype}.safetensors"
        save_file({key: tensor.to(dtype) for key, tensor in weights(NARROW).items()}, path)
        model = load_vqgan(path)
        assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
        expected = weights(NARROW)["quant_conv.weight"].to(dtype).float()
        assert torch.equal(model.quant_conv.weight, expected)


def test_the_header_of_safetensors_may_name_the_quantiser(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(weights(IBQ), path, {"quantiser": "ibq"})
    assert read_architecture(path).quantiser == "ibq"
    assert read_architecture(path, quantiser="vq").quantiser == "vq"


def test_the_yaml_beside_the_file_is_read_and_names_ibq(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.safetensors", IBQ)
    assert read_architecture(path).resolution == 256
    write_yaml(tmp_path / "model.yaml", IBQ, target="src.IBQ.models.ibqgan.IBQ")
    assert read_architecture(path) == IBQ  # with the YAML's training resolution, 64
    assert load_vqgan(path).architecture == IBQ


def test_a_yaml_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.safetensors", NARROW)
    write_yaml(tmp_path / "model.yaml", replace(NARROW, n_embed=1024))
    with pytest.raises(ModelError, match=r"model\.yaml' says n_embed is 1024, but the weights have 64"):
        load_vqgan(path)
    agreeing = write_yaml(tmp_path / "other.yaml", NARROW)
    assert load_vqgan(path, agreeing).architecture == NARROW


def test_a_quantiser_that_the_tensors_contradict_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.safetensors", GUMBEL)
    with pytest.raises(ModelError, match="should have the quantiser 'ibq', but its tensors are gumbel's"):
        load_vqgan(path, quantiser="ibq")


def test_missing_unexpected_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    tensors = weights(NARROW)
    del tensors["decoder.norm_out.bias"]
    tensors |= {f"encoder.extra.{n}": torch.zeros(1) for n in range(5)}
    tensors["post_quant_conv.bias"] = torch.zeros(7)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        load_vqgan(tmp_path / "model.safetensors")
    assert "1 missing (decoder.norm_out.bias)" in str(caught.value)
    assert "5 unexpected (encoder.extra.0, encoder.extra.1, encoder.extra.2, …)" in str(caught.value)
    assert "1 of another shape (post_quant_conv.bias)" in str(caught.value)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    clip = {"visual.conv1.weight": torch.zeros(8, 3, 4, 4), "text_projection": torch.zeros(4, 4)}
    save_file(clip, tmp_path / "clip.safetensors")
    with pytest.raises(ModelError, match=r"clip\.safetensors' is not a VQGAN.* text_projection, visual\.conv1"):
        load_vqgan(tmp_path / "clip.safetensors")


def test_a_first_stage_without_attention_is_refused(tmp_path: Path) -> None:
    tensors = {key: tensor for key, tensor in weights(LDM).items() if ".attn_1." not in key}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"attn_type: none.* cannot build"):
        load_vqgan(tmp_path / "model.safetensors")


def test_tensors_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    tensors = weights(NARROW)
    tensors["quant_conv.bias"] = torch.zeros(32, dtype=torch.int64)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"quant_conv\.bias is not a plain tensor"):
        load_vqgan(tmp_path / "model.safetensors")


@pytest.mark.slow
def test_a_full_size_lightning_checkpoint_loads(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As published: 304 MB of model, the loss's tensors, and Adam's moments, twice as much again."""
    rng = torch.Generator().manual_seed(0)
    layout = shapes(on_meta(VQGANS["imagenet-16384"].architecture))
    state = {key: torch.empty(shape).normal_(0, 0.02, generator=rng) for key, shape in layout.items()}
    path = tmp_path / "last.ckpt"
    with lightning_classes() as lent:
        content = lightning_content(state | loss_tensors(), lent)
        moments = {
            n: {"step": 9, "exp_avg": torch.zeros_like(t), "exp_avg_sq": torch.zeros_like(t)}
            for n, t in enumerate(state.values())
        }
        content["optimizer_states"] = [{"state": moments, "param_groups": []}]
        torch.save(content, path)
    del content, moments
    try:
        assert path.stat().st_size > 900e6
        model = load_vqgan(path)
        assert model.architecture == VQGANS["imagenet-16384"].architecture
        assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
        assert len(model.state_dict()) == 343
        pictures = model.render(model.lookup(torch.zeros(1, 2, 2, dtype=torch.long)))
        assert pictures.shape == (1, 3, 32, 32)
    finally:
        path.unlink()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("taken", "drawn"), [(1, 1), (182, 182), (3, 1), (4, 3)])
def test_a_network_of_other_pictures_than_rgb_is_refused_wherever_it_is_met(
    tmp_path: Path, taken: int, drawn: int
) -> None:
    """It was converted with "use it with…", and every use was called a bug."""
    path = tmp_path / "grey.ckpt"
    tensors = weights(replace(NARROW, in_channels=taken, out_ch=drawn))
    torch.save(tensors, path)
    for use in (load_vqgan, read_architecture, lambda path: save_vqgan(path, tmp_path / "slim.safetensors")):
        with pytest.raises(ModelError, match=f"takes pictures of {taken} channels and draws {drawn}: .* RGB"):
            use(path)
    assert not (tmp_path / "slim.safetensors").exists()


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "_orig_mod.module.",
        "anything.",
        "ema.",
        "first_stage_model.",
        "module.first_stage_model.",
    ],
)
def test_what_a_wrapper_put_before_all_names_is_taken_off(tmp_path: Path, prefix: str) -> None:
    plain = weights(NARROW)
    torch.save({"state_dict": {f"{prefix}{name}": value for name, value in plain.items()}}, tmp_path / "a.ckpt")
    model = load_vqgan(tmp_path / "a.ckpt")
    assert torch.equal(model.codebook, plain["quantize.embedding.weight"])


def test_the_first_stage_is_told_from_the_other_models_beside_it(tmp_path: Path) -> None:
    plain, other = weights(NARROW), weights(NARROW, seed=1)
    named = {
        f"{prefix}{name}": value
        for prefix, tensors in (("cond_stage_model.", other), ("ema.", other), ("first_stage_model.", plain))
        for name, value in tensors.items()
    }
    torch.save(named, tmp_path / "a.ckpt")
    assert torch.equal(load_vqgan(tmp_path / "a.ckpt").codebook, plain["quantize.embedding.weight"])


def test_averaged_weights_alone_are_used_or_named_as_such(tmp_path: Path) -> None:
    plain = weights(NARROW)
    torch.save({"ema": plain, "epoch": 3}, tmp_path / "a.ckpt")
    assert torch.equal(load_vqgan(tmp_path / "a.ckpt").codebook, plain["quantize.embedding.weight"])
    torch.save({f"model_ema.{name.replace('.', '')}": value for name, value in plain.items()}, tmp_path / "b.ckpt")
    with pytest.raises(ModelError, match=r"averaged weights \(EMA\) only"):
        load_vqgan(tmp_path / "b.ckpt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_damage(tmp_path: Path, value: float) -> None:
    for name in ("quantize.embedding.weight", "decoder.conv_out.bias"):
        tensors = weights(NARROW)
        tensors[name].view(-1)[0] = value
        torch.save(tensors, tmp_path / "a.ckpt")
        with pytest.raises(ModelError, match="holds NaN or infinity"):
            load_vqgan(tmp_path / "a.ckpt")
        with pytest.raises(ModelError, match="holds NaN or infinity"):
            save_vqgan(tmp_path / "a.ckpt", tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


def ddconfig(**changed: object) -> str:
    sizes = {name: list(v) if isinstance(v, tuple) else v for name, v in NARROW.ddconfig().items()}
    return json.dumps({"model": {"params": {"embed_dim": 32, "n_embed": 64, "ddconfig": {**sizes, **changed}}}})


HOSTILE = (
    "",
    "- a",
    "model: 3",
    "model: {params: []}",
    "model: {params: {first_stage_config: 3}}",
    "model: {params: {ddconfig: 3, embed_dim: 4, n_embed: 5}}",
    "a: !!int ''",
    "a: !!timestamp x",
    "[" * 10_000,
    "a: &x 1\nb: *x",
    ddconfig(attn_resolutions=[[16]]),
    ddconfig(attn_resolutions=[{"a": 1}]),
    ddconfig(attn_resolutions={"a": 1}),
    ddconfig(resolution=[1]),
    ddconfig(resolution=True),
    ddconfig(ch_mult="x" * 5000),
    ddconfig(double_z=[[1]]),
    ddconfig(attn_type={"a": 1}),
    ddconfig(z_channels=float("nan")),
)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:40]))
def test_a_hostile_yaml_is_a_sentence_or_says_nothing(tmp_path: Path, text: str) -> None:
    torch.save(weights(NARROW), tmp_path / "a.ckpt")
    (tmp_path / "a.yaml").write_text(text)
    with contextlib.suppress(ModelError):
        assert read_architecture(tmp_path / "a.ckpt").n_embed == 64


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["ch", "ch_mult", "attn_resolutions", "resolution", "double_z", "attn_type", "n_embed"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=3)
        | st.lists(st.lists(st.integers())),
        max_size=3,
    ).map(lambda changed: ddconfig(**changed))
    | st.sampled_from(HOSTILE)
    | st.text(max_size=12)
)
def test_any_yaml_is_read_as_data(text: str) -> None:
    Path("a.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(ModelError):
        assert check_against_yaml(NARROW, read_yaml(Path("a.yaml")), Path("a.yaml")).n_embed == 64


def test_building_a_model_swallows_no_other_threads_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """`models pull` printed paths while other threads built models with stdout turned away, and lost them."""
    told = io.StringIO()
    monkeypatch.setattr("sys.stdout", told)
    with ThreadPoolExecutor(4) as pool:
        building = [pool.submit(VQGAN, NARROW) for _ in range(12)]
        count = 0
        while not all(each.done() for each in building):
            sys.stdout.write(f"{count}\n")
            count += 1
    assert told.getvalue().split() == [str(number) for number in range(count)]
