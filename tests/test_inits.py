"""Starts: entries of the codebook, each picture from its own generator."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from conftest import TINY_SIZES, TinyModels

from vqclip.common.errors import UsageError
from vqclip.common.runtime import Generators
from vqclip.config.starts import PICTURES, PRIORS
from vqclip.models.drawers.vqgan import VqganDrawer
from vqclip.models.prior import FREE, Near
from vqclip.models.renderer import Renderer
from vqclip.models.vqgan import VQGAN, load_vqgan
from vqclip.optimisation.space import SPACES
from vqclip.optimisation.start import INITS, PULL, Start, first_latent

CPU = torch.device("cpu")
RANDOM = [kind for kind in INITS if kind not in (*PICTURES, *PRIORS)]


@pytest.fixture
def vqgan(tiny: TinyModels) -> VQGAN:
    return load_vqgan(tiny.vqgan)


def start(vqgan: VQGAN, seeds: list[int], image: torch.Tensor | None = None, width: int = 12, height: int = 8) -> Start:
    space, quantise = SPACES["latent"](vqgan)
    drawer = VqganDrawer(vqgan, Renderer(vqgan, CPU, "fp32", quantise=quantise), space, (height, width))
    return Start(drawer, rngs=Generators.from_seeds(seeds, CPU).start, image=image)


@pytest.mark.parametrize("kind", RANDOM)
def test_every_vector_is_an_entry_of_the_codebook(vqgan: VQGAN, kind: str) -> None:
    latent = first_latent(kind, start(vqgan, [1, 2]))
    assert latent.shape == (2, TINY_SIZES.embed_dim, 4, 6)
    torch.testing.assert_close(vqgan.quantise(latent), latent, rtol=0, atol=0)


@pytest.mark.parametrize("kind", RANDOM)
def test_a_picture_starts_the_same_alone_and_in_a_batch(vqgan: VQGAN, kind: str) -> None:
    batch = first_latent(kind, start(vqgan, [7, 8]))
    torch.testing.assert_close(batch[1:], first_latent(kind, start(vqgan, [8])))


@pytest.mark.parametrize("kind", ["noise", "gradient"])
def test_pictures_of_a_batch_start_differently(vqgan: VQGAN, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    encode = vqgan.encode
    monkeypatch.setattr(vqgan, "encode", lambda images: seen.append(images) or encode(images))
    first_latent(kind, start(vqgan, [7, 8]))
    (images,) = seen
    assert images.shape == (2, 3, 8, 12) and images.min() >= 0 and images.max() <= 1
    assert not torch.equal(images[0], images[1])


def test_random_codes_use_the_whole_codebook(vqgan: VQGAN) -> None:
    codes = vqgan.codes(first_latent("codes", start(vqgan, list(range(40)))))
    counts = torch.bincount(codes.flatten(), minlength=TINY_SIZES.n_embed)
    assert counts.min() > 0.5 * counts.float().mean() and counts.max() < 1.5 * counts.float().mean()


def test_a_given_picture_is_what_the_encoder_makes_of_it(vqgan: VQGAN) -> None:
    image = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    latent = first_latent("image", start(vqgan, [1, 2], image))
    assert torch.equal(latent[0], latent[1])
    torch.testing.assert_close(latent[:1], vqgan.quantise(vqgan.encode(image)))


def test_the_priors_codes_become_their_entries(vqgan: VQGAN) -> None:
    codes = torch.arange(2 * 24).view(2, 4, 6) % TINY_SIZES.n_embed
    latent = first_latent("prior", replace(start(vqgan, [1, 2]), propose=lambda rngs, given, near: codes))
    assert torch.equal(latent, vqgan.lookup(codes))


def test_proposals_of_another_size_are_enlarged_as_pictures(vqgan: VQGAN) -> None:
    codes = torch.arange(4).view(1, 2, 2)
    latent = first_latent("prior", replace(start(vqgan, [1]), propose=lambda rngs, given, near: codes))
    assert latent.shape == (1, TINY_SIZES.embed_dim, 4, 6)
    torch.testing.assert_close(vqgan.quantise(latent), latent, rtol=0, atol=0)


@pytest.mark.parametrize(("width", "height"), [(24, 8), (8, 24), (14, 8)])
def test_a_square_proposal_keeps_its_shape_in_a_picture_that_is_not_square(
    vqgan: VQGAN, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands in the middle as it is, and its edge goes on to both ends."""
    codes = torch.randint(TINY_SIZES.n_embed, (1, 4, 4), generator=torch.Generator().manual_seed(0))
    square = vqgan.render(vqgan.lookup(codes)).detach()
    seen: list[torch.Tensor] = []
    encode = vqgan.encode
    monkeypatch.setattr(vqgan, "encode", lambda images: seen.append(images) or encode(images))
    wide = replace(start(vqgan, [1], width=width, height=height), propose=lambda rngs, given, near: codes)
    latent = first_latent("prior", wide)
    assert latent.shape[-2:] == (height // 2, width // 2)
    (image,) = seen
    along = -1 if width > height else -2
    before = (max(width, height) - 8) // 4 * 2  # whole cells
    assert image.shape[-2:] == (height, width)
    torch.testing.assert_close(image.narrow(along, before, 8), square)
    first = square.narrow(along, 0, 1)
    torch.testing.assert_close(image.narrow(along, 0, before), first.repeat_interleave(before, along))


@pytest.mark.parametrize(("width", "height", "grid"), [(16, 16, (4, 4)), (32, 16, (4, 8))])
def test_a_picture_is_drawn_anew_near_to_what_the_encoder_makes_of_it(
    vqgan: VQGAN, width: int, height: int, grid: tuple[int, int]
) -> None:
    """In the prior's own grid, whatever the size; the pull grows without bound as the strength falls to 0."""
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    asked: list[Near] = []

    def propose(rngs: Sequence[torch.Generator], given: torch.Tensor | None, near: Near | None) -> torch.Tensor:
        assert given is not None and near is not None
        assert given.shape == (2, *grid) and (given == FREE).all()
        asked.append(near)
        return torch.zeros_like(given)

    for strength in (1.0, 0.5, 0.1):
        base = start(vqgan, [1, 2], image, width, height)
        latent = first_latent("redraw", replace(base, strength=strength, propose=propose, side=4))
        assert latent.shape[-2:] == (height // 2, width // 2)
    small = torch.nn.functional.interpolate(image, (2 * grid[0], 2 * grid[1]), mode="bicubic", antialias=True)
    wanted = vqgan.encode(small.clamp(0, 1)).movedim(1, -1)
    assert [near.pull for near in asked] == pytest.approx([0, PULL, 9 * PULL])
    for near in asked:
        torch.testing.assert_close(near.vectors, wanted.expand(2, -1, -1, -1))


def test_unknown_kinds_are_refused(vqgan: VQGAN) -> None:
    with pytest.raises(UsageError, match="did you mean 'noise'"):
        first_latent("noize", start(vqgan, [1]))
