from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_vqgan import GUMBEL, NARROW, weights, write_yaml

from vqclip.common.errors import ModelError
from vqclip.models.architecture import (
    Architecture,
    check_against_yaml,
    infer_architecture,
    read_yaml,
)
from vqclip.models.vqgan import VQGAN


def shapes(sizes: Architecture) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(tensor.shape) for key, tensor in VQGAN(sizes).state_dict().items()}


@pytest.mark.parametrize(
    "sizes",
    [
        NARROW,
        GUMBEL,
        replace(NARROW, attn_resolutions=(), z_channels=3, embed_dim=3),
        replace(NARROW, attn_resolutions=(64, 32, 16), num_res_blocks=3),
        replace(NARROW, ch_mult=(1,), attn_resolutions=(64,)),
        replace(NARROW, ch_mult=(1, 2, 4, 4), resolution=128, attn_resolutions=(16,), ch=64),
    ],
)
def test_a_network_built_from_inferred_sizes_has_the_same_keys_and_shapes(sizes: Architecture) -> None:
    inferred = infer_architecture(shapes(sizes), sizes.quantiser, "it")
    assert shapes(inferred) == shapes(sizes)
    assert inferred.factor == sizes.factor == 2 ** (len(sizes.ch_mult) - 1)
    assert inferred.attention_levels == sizes.attention_levels


def test_a_yaml_that_agrees_brings_the_training_resolution(tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "model.yaml", NARROW)
    stated = read_yaml(path)
    inferred = infer_architecture(shapes(NARROW), None, "it")
    assert inferred.resolution == 256
    assert check_against_yaml(inferred, stated, path) == NARROW


@pytest.mark.parametrize(
    ("target", "quantiser"),
    [
        ("taming.models.vqgan.VQModel", "vq"),
        ("taming.models.vqgan.GumbelVQ", "gumbel"),
        ("src.IBQ.models.ibqgan.IBQ", "ibq"),
        ("ldm.models.autoencoder.VQModelInterface", "vq"),
        ("somewhere.else.Net", None),
    ],
)
def test_the_yamls_class_names_the_quantiser(tmp_path: Path, target: str, quantiser: str | None) -> None:
    assert read_yaml(write_yaml(tmp_path / "model.yaml", NARROW, target))["quantiser"] == quantiser


def test_a_transformers_yaml_is_read_at_its_first_stage(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(
        """
        model:
          target: taming.models.cond_transformer.Net2NetTransformer
          params:
            cond_stage_key: coord
            transformer_config: {target: taming.modules.transformer.mingpt.GPT, params: {vocab_size: 1024}}
            first_stage_config:
              target: taming.models.vqgan.VQModel
              params:
                ckpt_path: ${oc.env:HOME}/last.ckpt
                embed_dim: 32
                n_embed: 64
                ddconfig: {ch: 32, ch_mult: [1, 1, 2], num_res_blocks: 1, z_channels: 32}
        """
    )
    stated = read_yaml(tmp_path / "model.yaml")
    assert (stated["n_embed"], stated["ch_mult"], stated["quantiser"]) == (64, [1, 1, 2], "vq")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ch": 64}, "says ch is 64, but the weights have 32"),
        ({"ch_mult": [1, 2, 2]}, r"says ch_mult is \(1, 2, 2\), but the weights have \(1, 1, 2\)"),
        ({"num_res_blocks": 2}, "says num_res_blocks is 2, but the weights have 1"),
        ({"attn_resolutions": [32]}, r"attention at \[32\] of 64 px, but the weights have it at the levels \[2\]"),
    ],
)
def test_every_contradiction_is_named(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    path = write_yaml(tmp_path / "model.yaml", NARROW, **changed)
    with pytest.raises(ModelError, match=message):
        check_against_yaml(infer_architecture(shapes(NARROW), None, "it"), read_yaml(path), path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html>Link does not exist</html>", "does not describe a VQGAN"),
        ("", "does not describe a VQGAN"),
        ("model: {params: {embed_dim: 4}}", "needs embed_dim, n_embed and ddconfig under model.params"),
        ("model: [1", "The model's YAML"),
        ("model: !!python/object/apply:os.system ['true']", "The model's YAML"),
        ("model: {params: {embed_dim: 4, n_embed: 8, ddconfig: {double_z: true}}}", "KL autoencoder"),
        ("model: {params: {embed_dim: 4, n_embed: 8, ddconfig: {attn_type: none}}}", "attn_type: none"),
    ],
)
def test_a_yaml_that_cannot_serve_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(ModelError, match=message) as caught:
        read_yaml(tmp_path / "model.yaml")
    assert "\n" not in str(caught.value)


def test_a_yaml_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.yaml"):
        read_yaml(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("encoder.conv_in.weight", (32,)),
        ("encoder.conv_in.weight", (0, 3, 3, 3)),
        ("encoder.conv_in.weight", (33, 3, 3, 3)),
        ("decoder.up.1.block.0.conv2.weight", (16, 32, 3, 3)),
        ("quantize.embedding.weight", (64,)),
        ("encoder.conv_out.weight", ()),
    ],
)
def test_impossible_shapes_are_refused(key: str, shape: tuple[int, ...]) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in weights(NARROW).items()}
    with pytest.raises(ModelError, match="is not a VQGAN"):
        infer_architecture(found | {key: shape}, None, "it")
