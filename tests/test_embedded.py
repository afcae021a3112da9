"""The shipped models: they are what they claim to be, and they work.

The VQGAN is run through unmodified taming modules and the CLIP through unmodified open_clip, as the judges of
whether the files are right. Scenes that neither model was trained on are drawn where the emoji font is.
"""

import contextlib
import gzip
import io
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import features
from safetensors.torch import load_file
from torch import Tensor, nn

from scripts.data import draw_scenes, scene_things, scenes
from scripts.measure.sharpness import band_energies
from scripts.train import reference
from vqclip.hub.prior_files import find_prior
from vqclip.models.enlarge import load_network
from vqclip.models.prior import Sampling
from vqclip.models.rerank import load_proposer
from vqclip.models.vqgan import load_vqgan
from vqclip.models.weights.reader import read_metadata
from vqclip.pipeline.embedded_reference import read_reference

EMBEDDED = Path(__file__).resolve().parent.parent / "checkpoints" / "embedded"
LEAST_PSNR = 25.5  # dB; MODEL_CARD.md says what the shipped weights reach

drawn = pytest.mark.skipif(
    scene_things.font_path() is None or not features.check("raqm"),
    reason="needs the font Noto Color Emoji (Debian: fonts-noto-color-emoji) and Pillow with raqm",
)


class TamingVqgan(nn.Module):
    """taming's VQModel as its authors put it together, without its trainer."""

    def __init__(self, embed_dim: int, n_embed: int, ddconfig: dict[str, Any]) -> None:
        from taming.modules.diffusionmodules.model import Decoder, Encoder

        super().__init__()
        with contextlib.redirect_stdout(io.StringIO()):
            self.encoder, self.decoder = Encoder(**ddconfig), Decoder(**ddconfig)
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(n_embed, embed_dim)
        self.quant_conv = nn.Conv2d(ddconfig["z_channels"], embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, ddconfig["z_channels"], 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        z = self.quant_conv(self.encoder(images)).movedim(1, -1)
        index = torch.cdist(z.reshape(-1, z.shape[-1]), self.quantize.embedding.weight).argmin(1)
        codes = self.quantize.embedding(index).view(z.shape).movedim(-1, 1)
        return self.decoder(self.post_quant_conv(codes)), index


@pytest.fixture(scope="module")
def vqgan() -> TamingVqgan:
    config = yaml.safe_load((EMBEDDED / "vqgan.yaml").read_text())["model"]
    assert config["target"] == "taming.models.vqgan.VQModel"
    model = TamingVqgan(**config["params"])
    weights = load_file(EMBEDDED / "vqgan.safetensors")
    model.load_state_dict({name: value.float() for name, value in weights.items()}, strict=True)
    return model.eval().requires_grad_(False)


def load_clip(name: str) -> tuple[Any, Any]:
    """The model in the folder `name` and its tokeniser."""
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer

    folder = EMBEDDED / name
    model = open_clip.create_model(f"local-dir:{folder}")
    text = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    tokenizer = SimpleTokenizer(bpe_path=str(folder / "merges.txt.gz"), context_length=text["context_length"])
    assert tokenizer.vocab_size == text["vocab_size"]
    return model.eval().requires_grad_(False), tokenizer


@pytest.fixture(scope="module")
def clip() -> tuple[Any, Any]:
    return load_clip("clip")


def first_captions(model: Any, tokenizer: Any, images: Tensor, captions: list[str]) -> Tensor:
    """The number of the caption that the model finds nearest to each of images (n, 3, h, w) in [0, 1]."""
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (model.visual.image_mean, model.visual.image_std))
    fitting = nn.functional.interpolate(images, model.visual.image_size, mode="area")
    seen = model.encode_image((fitting - mean) / std, normalize=True)
    return (seen @ model.encode_text(tokenizer(captions), normalize=True).T).argmax(1)


def heldout_images(kind: str, seed: int, count: int = 100) -> Tensor:
    """Drawn scenes of a held-out list, (count, 3, 128, 128) in [0, 1]."""
    prompts = scenes.heldout_prompts(kind)[:count]
    pictures = [
        np.asarray(draw_scenes.draw(scenes.heldout_scene(prompt, seed), seed, number))
        for number, prompt in enumerate(prompts)
    ]
    return torch.from_numpy(np.stack(pictures)).movedim(-1, 1).float() / 255


def test_everything_together_is_small_and_in_half_precision() -> None:
    assert sum(file.stat().st_size for file in EMBEDDED.rglob("*") if file.is_file()) < 52_000_000
    for file in EMBEDDED.rglob("*.safetensors"):
        assert {value.dtype for value in load_file(file).values()} <= {torch.float16, torch.int16, torch.int64}
        assert all(value.isfinite().all() for value in load_file(file).values())


def test_the_codebook_is_of_a_sane_scale(vqgan: TamingVqgan) -> None:
    deviation = vqgan.quantize.embedding.weight.std(0)
    assert 0.1 < float(deviation.mean()) < 1


def test_the_merges_are_the_first_of_clips_own() -> None:
    from open_clip.tokenizer import default_bpe

    ours, theirs = (
        gzip.decompress(file.read_bytes()).decode().split("\n")[1:]
        for file in (EMBEDDED / "clip" / "merges.txt.gz", Path(default_bpe()))
    )
    assert ours == theirs[: len(ours)]
    assert len(ours) == 4096


@drawn
def test_the_vqgan_reconstructs_scenes_it_never_saw(vqgan: TamingVqgan) -> None:
    images = heldout_images("single", seed=11, count=48)
    output, index = vqgan(images * 2 - 1)
    error = ((output.clamp(-1, 1) / 2 + 0.5) - images).square().mean((1, 2, 3))
    assert float((-10 * error.log10()).mean()) > LEAST_PSNR
    assert len(index.unique()) > 0.5 * len(vqgan.quantize.embedding.weight)


@drawn
@pytest.mark.parametrize(
    ("name", "kind", "least"),
    [
        *(("clip", "single", 0.92), ("clip", "composed", 0.6)),
        *(("judge", "single", 0.9), ("judge", "composed", 0.65)),
        *(("second", "single", 0.95), ("second", "composed", 0.9)),
    ],
)
def test_the_right_caption_comes_first(name: str, kind: str, least: float) -> None:
    model, tokenizer = load_clip(name)
    first = first_captions(model, tokenizer, heldout_images(kind, seed=11), scenes.heldout_prompts(kind))
    assert float((first == torch.arange(len(first))).float().mean()) > least


@drawn
def test_the_upscaler_sharpens_what_the_vqgan_drew_and_changes_it_little(vqgan: TamingVqgan) -> None:
    small = (vqgan(heldout_images("single", seed=11, count=32) * 2 - 1)[0] / 2 + 0.5).clamp(0, 1)
    upscaler = load_network(EMBEDDED / "upscaler.safetensors", torch.device("cpu"))
    assert upscaler.scale == 2
    large = torch.cat([upscaler(part).clamp(0, 1) for part in small.split(8)])
    plain = nn.functional.interpolate(small, scale_factor=2, mode="bicubic").clamp(0, 1)
    assert bool((band_energies(large) / band_energies(plain) > torch.tensor([10, 5, 2])).all())
    error = (nn.functional.avg_pool2d(large, 2) - small).square().mean((1, 2, 3))
    assert float((-10 * error.log10()).mean()) > 26
    judge, captions = load_clip("judge"), scenes.heldout_prompts("single")
    before, after = (first_captions(*judge, pictures, captions) for pictures in (small, large))
    right = torch.arange(len(small))
    assert int((after == right).sum()) >= int((before == right).sum()) - 1


def test_the_upscalers_file_says_what_it_is() -> None:
    file = EMBEDDED / "upscaler.safetensors"
    assert file.stat().st_size < 2_000_000
    notes = read_metadata(file)
    assert (notes["architecture"], notes["scale"]) == ("SRVGGNetCompact", "2")
    assert int(notes["step"]) > 0


def test_guide_and_judges_are_of_three_families() -> None:
    vision = [
        json.loads((EMBEDDED / name / "open_clip_config.json").read_text())["model_cfg"]["vision_cfg"]
        for name in ("clip", "judge", "second")
    ]
    assert [each.get("timm_model_name") for each in vision] == [None, "regnetx_004", "mobilenetv4_conv_small"]
    assert isinstance(vision[0]["layers"], list)  # CLIP's own ResNet


def test_the_prior_draws_the_things_and_grounds_that_captions_name() -> None:
    captions = ["a red apple", "a cat", "a sun", "a tree", "a pencil", "a guitar", "a rose", "a teddy bear"]
    grounds = ["blue", "green", "blue", "pink", "brown", "turquoise", "white", "yellow"]
    captions = [f"{thing} on a {ground} background" for thing, ground in zip(captions, grounds, strict=True)]
    rngs = [torch.Generator().manual_seed(seed) for seed in range(len(captions))]
    draws = load_proposer(find_prior("embedded"), load_vqgan(EMBEDDED / "vqgan.safetensors"))
    pictures = draws.pictures(draws.draw(captions, 4, rngs, Sampling(temperature=0.5, guidance=2.0)).flatten(0, 1))
    first = first_captions(*load_clip("judge"), pictures, captions)
    assert float((first == torch.arange(len(captions)).repeat_interleave(4)).float().mean()) > 0.85


@drawn
def test_the_reference_is_what_its_script_draws() -> None:
    """Its first scenes, drawn and encoded again, and none that is held out."""
    codes, captions = read_reference(EMBEDDED / "reference.safetensors")
    names = list(dict.fromkeys(captions))[:4]
    first = [next(name for name in scene_things.names() if scene_things.article(name) == caption) for caption in names]
    shown = [scene for name in first for scene in islice(reference.scenes_of(name, 7), 3)]
    assert not any(scenes.is_held_out(scene) for scene in shown)
    assert [scene_things.article(scene.first) for scene in shown] == captions[:12]
    again = reference.encoded(shown, 7, EMBEDDED)
    assert (again == codes[:12]).float().mean() > 0.99  # another processor may round otherwise
