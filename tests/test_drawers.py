"""Drawers: each is what the protocol says, and draws what plain maths says."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from command import Command
from conftest import TinyModels
from PIL import Image
from test_pipeline import Losses, build, plan_of
from torch import Tensor

from vqclip.config.starts import VQGAN
from vqclip.models.drawers.drawer import Drawer
from vqclip.models.drawers.fourier import DEVIATION, Fourier, hartley
from vqclip.models.drawers.lattice import SHAPES, lay
from vqclip.models.drawers.paints import AnyColour, FewColours, Palette
from vqclip.models.drawers.pixelart import Pixelart
from vqclip.models.drawers.pixels import Pixels
from vqclip.models.drawers.strokes import EDGE, POINTS, Strokes
from vqclip.outputs.picture import read_metadata
from vqclip.pipeline.drawing import DRAWERS, working_size
from vqclip.pipeline.memory_estimate import estimate_memory
from vqclip.pipeline.run import run as run_parts
from vqclip.tools.reconstruct import psnr

CPU = torch.device("cpu")
SIZE = (12, 16)
BLACK, WHITE = torch.zeros(3), torch.ones(3)
THREE = torch.tensor([[1.0, 0, 0], [0, 0.5, 0], [0.25, 0.25, 1]])

MADE: dict[str, Callable[[tuple[int, int]], Drawer]] = {
    "pixels": lambda size: Pixels(size, CPU),
    "fourier": lambda size: Fourier(size, CPU, 1.5),
    "squares": lambda size: Pixelart(size, CPU, 4, SHAPES["square"], AnyColour()),
    "hexagons": lambda size: Pixelart(size, CPU, 4, SHAPES["hexagon"], AnyColour()),
    "palette": lambda size: Pixelart(size, CPU, 2, SHAPES["square"], Palette(THREE)),
    "few": lambda size: Pixelart(size, CPU, 2, SHAPES["square"], FewColours(3)),
    "brushes": lambda size: Strokes(size, CPU, 5, 0.4, WHITE),
    "lines": lambda size: Strokes(size, CPU, 5, 0.2, WHITE, BLACK),
}
EXACT = ("pixels", "fourier", "squares", "hexagons", "brushes", "lines")
"""Drawers that choose nothing, so that their gradient is that of what they draw."""

WORDS: dict[str, tuple[str, ...]] = {
    "pixels": ("optimise.lr=0.1",),
    "fourier": ("optimise.lr=0.1",),
    "pixelart": ("pixelart.cells=8", "pixelart.shape=hexagon"),
    "palette": ("pixelart.cells=8", "pixelart.colours=4", "optimise.lr=0.3"),
    "strokes": ("strokes.count=6", "strokes.width=0.4"),
}
"""Settings in which a tiny run of each gets somewhere."""


def rngs(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture(params=MADE)
def drawer(request: pytest.FixtureRequest) -> Drawer:
    return MADE[request.param](SIZE)


def test_every_drawer_without_a_network_is_looked_at() -> None:
    assert set(WORDS) == set(DRAWERS) - {VQGAN}


def test_noise_is_drawn_within_the_bounds_and_follows_from_each_picture_s_own_seed(drawer: Drawer) -> None:
    latent = drawer.noise(rngs(1, 2))
    assert torch.equal(latent, drawer.noise(rngs(1, 2))) and torch.equal(latent[1:], drawer.noise(rngs(2)))
    assert not torch.equal(latent[0], latent[1])
    assert torch.equal(latent.clamp(*drawer.space.bounds), latent)
    assert (latent + drawer.space.spread).shape == latent.shape


def test_pictures_lie_between_0_and_1_and_each_follows_from_its_own_latent(drawer: Drawer) -> None:
    latent = 3 * drawer.noise(rngs(1, 2)).clamp(*drawer.space.bounds)
    pictures = drawer.render(latent.clamp(*drawer.space.bounds))
    assert pictures.shape == (2, 3, *SIZE) and pictures.min() >= 0 and pictures.max() <= 1
    torch.testing.assert_close(drawer.render(latent.clamp(*drawer.space.bounds)[1:]), pictures[1:])


@pytest.mark.parametrize("name", EXACT)
def test_the_gradient_is_that_of_the_picture(name: str) -> None:
    small = MADE[name]((5, 6))
    assert torch.autograd.gradcheck(small.render, small.noise(rngs(3)).double().requires_grad_())


def test_every_number_gets_a_gradient(drawer: Drawer) -> None:
    """Of strokes, those that lie inside the picture."""
    latent = drawer.noise(rngs(4))
    latent = (0.2 + 0.6 * latent if isinstance(drawer, Strokes) else latent).requires_grad_()
    weights = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    (drawer.render(latent) * weights).sum().backward()
    assert latent.grad is not None and latent.grad.isfinite().all() and (latent.grad != 0).all()


def test_votes_have_the_gradient_of_the_softmax() -> None:
    paint = Palette(THREE)
    votes = paint.noise(7, rngs(1))
    weights = torch.randn(1, 3, 7, generator=torch.Generator().manual_seed(2))
    ours, plain = votes.clone().requires_grad_(), votes.clone().requires_grad_()
    (paint.colours(ours) * weights).sum().backward()
    (torch.einsum("nkm,kc->ncm", plain.softmax(1), THREE) * weights).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad)
    assert torch.equal(paint.colours(votes)[0].T, THREE[votes[0].argmax(0)])


def picture_for(name: str) -> Tensor:
    """A picture that the drawer can show: smooth, in cells, or in three colours."""
    down, across = torch.linspace(0.1, 0.9, SIZE[0])[:, None], torch.linspace(0.1, 0.9, SIZE[1])
    smooth = torch.stack([down.expand(SIZE), across.expand(SIZE), (down * across)])[None]
    if name in ("palette", "few"):
        return THREE.T[:, (torch.arange(SIZE[0])[:, None] // 4 + torch.arange(SIZE[1]) // 4) % 3][None]
    return smooth


LEAST = {
    "pixels": 50,
    "fourier": 50,
    "squares": 20,
    "hexagons": 20,
    "palette": 60,
    "few": 60,
    "brushes": 15,
    "lines": 5,
}
"""PSNR in dB of a given picture: exact where a logit has no end, but for cells (their mean colour) and strokes."""


@pytest.mark.parametrize("name", MADE)
def test_a_given_picture_comes_back(name: str) -> None:
    drawer, picture = MADE[name](SIZE), picture_for(name)
    latent = drawer.encode(picture)
    assert not latent.requires_grad and torch.equal(latent, drawer.encode(picture))
    assert torch.equal(latent.clamp(*drawer.space.bounds), latent)
    assert psnr(drawer.render(latent).detach(), picture) > LEAST[name]


# ---- plain maths


def test_pixels_are_the_sum_of_their_layers() -> None:
    drawer = Pixels(SIZE, CPU)
    assert drawer.layers == [(1, 1), (2, 3), (4, 5), (8, 11), (12, 16)]
    latent = torch.zeros(1, 3 * sum(height * width for height, width in drawer.layers))
    latent[:, :3] = torch.tensor([1.0, 0, -2])
    fine = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    latent[:, -fine.numel() :] = fine.flatten(1)
    torch.testing.assert_close(drawer.render(latent), (fine + torch.tensor([1.0, 0, -2])[:, None, None]).sigmoid())


def test_one_number_of_a_spectrum_is_a_cosine() -> None:
    drawer = Fourier((8, 16), CPU, decay=1.0)
    latent = torch.zeros(1, 3, 8, 16)
    latent[0, 1, 0, 3] = 5.0
    wave = math.sqrt(2) * torch.cos(2 * math.pi * 3 * torch.arange(16) / 16 - math.pi / 4) / math.sqrt(8 * 16)
    logits = 5.0 * (16 / 3) / 4 * drawer.colours[:, 1, None, None] * wave.expand(3, 8, 16)
    torch.testing.assert_close(drawer.render(latent)[0], logits.sigmoid())


def test_the_spectrum_is_its_own_inverse_and_the_colours_are_lucid_s() -> None:
    values = torch.randn(2, 7, 10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(hartley(hartley(values)), values)
    drawer = Fourier((4, 4), CPU)
    assert drawer.colours.norm(dim=0).max() == pytest.approx(1)
    assert float(drawer.colours[0, 0]) == pytest.approx(0.26 / math.sqrt(0.26**2 + 2 * 0.27**2), rel=1e-6)
    assert float(drawer.noise(rngs(0, 1, 2, 3)).std()) == pytest.approx(DEVIATION, rel=0.2)


def test_square_cells_are_repeated_pixels() -> None:
    places, centres = lay(SHAPES["square"], SIZE, 4)
    assert torch.equal(places, torch.arange(12).view(3, 4).repeat_interleave(4, 0).repeat_interleave(4, 1))
    assert centres[0].tolist() == [2, 2] and centres[-1].tolist() == [14, 10]


@pytest.mark.parametrize("name", SHAPES)
def test_cells_tile_the_plane(name: str) -> None:
    """Every pixel lies inside the outline of its own cell and of no other, whose area is its share of the plane."""
    shape, cell, size = SHAPES[name], 7, (40, 61)
    places, centres = lay(shape, size, cell)
    corners = torch.tensor(shape.corners, dtype=torch.float64)
    following = corners.roll(-1, 0)
    area = (corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum().abs() / 2
    assert float(area) == pytest.approx(shape.rise)
    down, across = torch.meshgrid(*(torch.arange(side) + 0.5 for side in size), indexing="ij")
    pixels = torch.stack([across, down], -1).double()[:, :, None] - centres.double()  # (H, W, M, 2)
    edges, starts = (following - corners), corners * cell
    sides = edges[:, 0] * (pixels[..., None, 1] - starts[:, 1]) - edges[:, 1] * (pixels[..., None, 0] - starts[:, 0])
    inside = (sides >= -1e-4).all(-1) | (sides <= 1e-4).all(-1)
    assert inside.gather(2, places[..., None]).all()
    strictly = (sides > 1e-4).all(-1) | (sides < -1e-4).all(-1)
    assert (strictly.sum(2) <= 1).all()
    assert places.unique().tolist() == list(range(len(centres)))


def test_a_stroke_covers_all_at_its_curve_and_half_at_its_edge() -> None:
    drawer = Strokes((20, 40), CPU, 1, 0.5, WHITE, BLACK)
    row = torch.tensor([[0.25, 0.525]] * POINTS)  # the middle of row 10
    row[:, 0] = torch.linspace(0.2, 0.8, POINTS)
    numbers = torch.cat([row.flatten(), torch.tensor([0.5])])[None, None]  # 0.6 of 10 pixels wide
    cover = drawer.coverage(numbers)[0, 0, :, 20]
    wanted = [(0.5 + (3 - abs(pixel - 10)) / EDGE) for pixel in range(20)]
    torch.testing.assert_close(cover, torch.tensor(wanted).clamp(0, 1), atol=1e-3, rtol=0)
    assert float(cover[10]) == 1 and float(cover[13]) == pytest.approx(0.5, abs=1e-3)


def test_a_curve_goes_through_what_its_equation_says() -> None:
    drawer = Strokes((10, 10), CPU, 1, 0.1, WHITE, BLACK)
    points = torch.tensor([[0.0, 0], [0.2, 0.9], [0.9, 0.1], [1, 1]])
    line = drawer._polyline(torch.cat([points.flatten(), torch.zeros(1)])[None, None])[0, 0]
    middle = (points[0] + 3 * points[1] + 3 * points[2] + points[3]) / 8 * 10
    torch.testing.assert_close(line[[0, 3, 6]], torch.stack([points[0] * 10, middle, points[3] * 10]))


def test_later_strokes_lie_over_earlier_ones() -> None:
    drawer = Strokes((8, 8), CPU, 2, 1.0, WHITE)
    line = torch.tensor([0.1, 0.5, 0.4, 0.5, 0.6, 0.5, 0.9, 0.5, 1.0])
    red, half_blue = torch.tensor([1.0, 0, 0, 1]), torch.tensor([0, 0, 1.0, 0.5])
    picture = drawer.render(torch.stack([torch.cat([line, red]), torch.cat([line, half_blue])])[None])
    torch.testing.assert_close(picture[0, :, 4, 4], torch.tensor([0.5, 0, 0.5]))


@pytest.mark.parametrize("name", ["squares", "hexagons", "palette", "few", "brushes", "lines"])
def test_an_svg_has_the_shapes_of_the_latent(name: str) -> None:
    drawer = MADE[name](SIZE)
    latent = drawer.noise(rngs(1))[0]
    root = ElementTree.fromstring(drawer.svg(latent))  # type: ignore[attr-defined]
    assert (root.get("width"), root.get("height"), root.get("viewBox")) == ("16", "12", "0 0 16 12")
    shapes = [each for each in root if not each.tag.endswith("rect")]
    if isinstance(drawer, Strokes):
        assert len(shapes) == 5 and root[0].get("fill") == "#ffffff"
        assert {each.get("stroke") for each in shapes} == {"#000000"} if name == "lines" else True
        return
    assert isinstance(drawer, Pixelart) and len(shapes) == len(drawer.centres)
    drawn = drawer.render(latent[None])[0]
    for shape, (x, y) in zip(shapes, drawer.centres.tolist(), strict=True):
        if 0 <= x < 16 and 0 <= y < 12:
            levels = (255 * drawn[:, int(y), int(x)]).round().int().tolist()
            assert shape.get("fill") == "#" + "".join(f"{level:02x}" for level in levels)


# ---- whole runs


def finish(tiny: TinyModels, drawer: str, *words: str, prompts: tuple[str, ...] = ("a cat",)) -> tuple[Tensor, Losses]:
    losses = Losses()
    plan = plan_of(tiny, f"drawer={drawer}", *WORDS[drawer], *words, prompts=prompts)
    finished = run_parts(build(plan), [losses])
    assert finished is not None
    return finished.images, losses


@pytest.mark.parametrize("name", WORDS)
def test_a_run_lowers_the_loss(tiny: TinyModels, name: str) -> None:
    sums = finish(tiny, name, "optimise.steps=30", "cutouts.count=8")[1].sums
    assert sum(sums[-5:]) < sum(sums[:5])


@pytest.mark.parametrize(("colours", "count"), [("pico8", 16), ("4", 4)])
def test_cells_of_few_colours_begin_where_each_may_win(tiny: TinyModels, colours: str, count: int) -> None:
    """Sixty falling steps of 0.05 move a vote by 1.5 at most."""
    parts = build(plan_of(tiny, "drawer=pixelart", f"pixelart.colours={colours}", "size=64x64"))
    votes = parts.descent.latent.detach()[..., : 32 * 32]
    assert len(votes[0].argmax(0).unique()) == count
    assert votes.amax(1).sub(votes.amin(1)).max() < 1.5


@pytest.mark.parametrize("name", WORDS)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tiny: TinyModels, name: str) -> None:
    plan = plan_of(tiny, f"drawer={name}", *WORDS[name])
    whole, stopped = finish(tiny, name)[0], Losses()
    run_parts(build(plan), [stopped], interrupted=lambda: len(stopped.steps) == 3)
    parts = build(plan)
    parts.descent.load_state_dict(stopped.steps[-1].state())
    finished = run_parts(parts)
    assert finished is not None and torch.equal(finished.images, whole)


@pytest.mark.parametrize("name", WORDS)
def test_a_picture_is_the_same_alone_and_among_others(tiny: TinyModels, name: str) -> None:
    one = finish(tiny, name, prompts=("the sun",))[0]
    both = finish(tiny, name, prompts=("a cat", "the sun"))[0]
    torch.testing.assert_close(both[1:], one, atol=2e-2, rtol=0)


def test_no_vqgan_is_looked_for_and_the_picture_says_so(tiny: TinyModels, run: Command) -> None:
    words = ("generate", "a cat", "-c", str(tiny.config), "--drawer", "pixels", "--set", "vqgan.file=/nowhere.ckpt")
    done = run(*words, "--seed", "1", "--steps", "2", "-o", "a.png")
    assert done.code == 0, done.stderr
    said = read_metadata(Path("a.png"))
    assert said.models is not None and said.models.vqgan is None and said.config["drawer"] == "pixels"
    assert "vqgan" not in said.to_json()["models"]
    assert "drawer  pixels" in run("info", "a.png").stdout
    again = run("rerun", "a.png", "-o", "b.png")
    assert again.code == 0, again.stderr
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert "Note: the file of the vqgan" not in again.stderr


def test_strokes_are_optimised_small_and_drawn_at_any_size(tiny: TinyModels) -> None:
    plan = plan_of(tiny, "drawer=strokes", "size=192x384", "strokes.count=3", "optimise.steps=1")
    assert working_size(plan.config, (384, 192)) == (256, 128)
    losses = Losses()
    finished = run_parts(build(plan), [losses])
    assert finished is not None and finished.images.shape == (1, 3, 384, 192)
    assert losses.steps[0].images.shape == (1, 3, 256, 128)


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("size", ["1x24", "24x1", "1"])
def test_a_picture_one_pixel_wide_is_drawn(tiny: TinyModels, run: Command, name: str, size: str) -> None:
    settings = ["filters=[mirror,'frame:red']", "losses={smoothness: 1}", "strokes.count=2"]
    words = [word for each in settings for word in ("--set", each)]
    done = run("generate", "a cat", "-c", str(tiny.config), "--drawer", name, "--size", size, "--steps", "1", *words)
    assert done.code == 0, done.stderr


def test_an_svg_lies_beside_the_picture(tiny: TinyModels, run: Command) -> None:
    words = ("generate", "a cat", "-c", str(tiny.config), "--drawer", "strokes", "--set", "strokes.count=4")
    done = run(*words, "--seed", "1", "--steps", "2", "--count", "2", "-o", "drawing.svg", "--json")
    assert done.code == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["event"], each["path"]) for each in events] == [
        ("image", "drawing-0.png"),
        ("image", "drawing-1.png"),
        ("svg", "drawing-0.svg"),
        ("svg", "drawing-1.svg"),
    ]
    for number in (0, 1):
        root = ElementTree.parse(f"drawing-{number}.svg").getroot()
        assert sum(each.tag.endswith("path") for each in root) == 4
    assert Path("drawing-0.svg").read_bytes() != Path("drawing-1.svg").read_bytes()
    Path("drawing-1.png").unlink()
    assert run(*words, "--count", "2", "-o", "drawing.svg").code == 6


def test_a_run_that_goes_on_keeps_its_drawing(tiny: TinyModels, run: Command) -> None:
    words = ("--drawer", "pixelart", "--set", "output.svg=true", "--size", "16", "--seed", "1")
    assert run("generate", "a cat", "-c", str(tiny.config), *words, "--steps", "1", "-o", "r/").code == 0
    before = Path("r/image.svg").read_bytes()
    done = run("resume", "r", "--steps", "2")
    assert done.code == 0, done.stderr
    assert Path("r/image.step1.svg").read_bytes() == before != Path("r/image.svg").read_bytes()


def test_jobs_of_a_batch_name_their_drawers(tiny: TinyModels, run: Command) -> None:
    Path("jobs.jsonl").write_text(
        '{"prompt": "a cat", "drawer": "pixelart", "output": "a.png", "set": {"output.svg": "true"}}\n'
        '{"prompt": "a cat", "output": "b.png"}\n{"prompt": "a cat", "drawer": "oil", "output": "c.png"}\n'
    )
    done = run("batch", "jobs.jsonl", "-o", "out", "-c", str(tiny.config), "--set", "optimise.steps=1")
    assert done.code == 5, done.stderr
    assert read_metadata(Path("out/a.png")).config["drawer"] == "pixelart"
    assert read_metadata(Path("out/b.png")).config["drawer"] == "vqgan"
    assert ElementTree.parse("out/a.svg").getroot().tag.endswith("svg")
    assert "Unknown drawer 'oil'" in Path("out/results.jsonl").read_text("utf-8")


def test_a_drawer_starts_from_a_picture(tiny: TinyModels, run: Command) -> None:
    Image.new("RGB", (40, 20), "navy").save("navy.png")
    words = ("--drawer", "pixels", "--init-image", "navy.png", "--steps", "0", "--size", "16x8", "-o", "a.png")
    assert run("generate", "a cat", "-c", str(tiny.config), *words).code == 0
    with Image.open("a.png") as image:
        assert image.size == (16, 8)
        assert image.getpixel((3, 3)) == pytest.approx((0, 0, 128), abs=2)


def test_frames_and_a_film_of_a_drawer(tiny: TinyModels, run: Command) -> None:
    words = ("--drawer", "fourier", "--steps", "3", "--save-every", "1", "--video", "gif", "-o", "f/")
    assert run("generate", "a cat", "-c", str(tiny.config), *words).code == 0
    assert len(list(Path("f/frames").glob("*.png"))) == 3 and Path("f/video.gif").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--drawer", "strokess"), "did you mean 'strokes'"),
        (("--drawer", "pixelart", "--set", "pixelart.shape=hexagn"), "did you mean 'hexagon'"),
        (("--drawer", "palette", "--set", "pixelart.colours=gamboy"), "is no colour"),
        (("--drawer", "palette", "--set", "pixelart.colours=1"), "between 2 and"),
        (("--drawer", "pixelart", "--set", "pixelart.cells=5", "--size", "16"), "does not divide the 16 pixels"),
        (("--drawer", "strokes", "--set", "strokes.ink=blakc"), "is no colour"),
        (("--drawer", "pixels", "-o", "a.svg"), "has no SVG"),
        (("-o", "a.svg"), "has no SVG"),
        (("--drawer", "pixelart", "-o", "a.svg", "--set", "filters=[tile]"), "without filters"),
        (("--drawer", "pixelart", "--upscale", "embedded"), "draws at any size itself"),
        (("--drawer", "pixels", "--set", "optimise.pyramid=[[0.5, 0.5], [1, 0.5]]"), "optimise.pyramid belongs to"),
        (("--drawer", "pixels", "--set", "optimise.space=logits"), "optimise.space=logits belongs to"),
        (("--drawer", "pixels", "--set", "init.kind=prior"), "init.kind=prior belongs to"),
    ],
)
def test_what_a_drawer_has_not_is_one_sentence(
    tiny: TinyModels, run: Command, words: tuple[str, ...], said: str
) -> None:
    done = run("generate", "a cat", "-c", str(tiny.config), *words)
    assert done.code == 2 and said in done.stderr and done.stderr.count("\n") == 1 and not done.stdout


def test_a_part_of_a_picture_is_painted_by_the_vqgan_only(tiny: TinyModels, run: Command) -> None:
    Image.new("RGB", (32, 32)).save("p.png")
    done = run("edit", "p.png", "a hat", "--box", "8,8,8,8", "-c", str(tiny.config), "--set", "drawer=pixels")
    assert done.code == 2 and "mask belongs to the drawer 'vqgan'" in done.stderr
    kept = [word for key in ("image=p.png", "kind=noise", "strength=0.5") for word in ("--set", f"init.{key}")]
    done = run("generate", "a cat", "-c", str(tiny.config), "--drawer", "pixels", *kept)
    assert done.code == 2 and "keeps a part of a picture belongs to the drawer 'vqgan'" in done.stderr


def test_any_drawer_varies_a_picture(tiny: TinyModels, run: Command) -> None:
    """It begins with the bent picture, as a VQGAN without a prior does."""
    Image.new("RGB", (32, 32)).save("p.png")
    done = run("vary", "p.png", "-n", "2", "-c", str(tiny.config), "--set", "drawer=pixels", "-o", "varied/")
    assert done.code == 0 and [Path(line).is_file() for line in done.stdout.splitlines()] == [True, True]


@pytest.mark.parametrize("name", WORDS)
def test_the_memory_that_a_drawer_needs_is_estimated(tiny: TinyModels, name: str) -> None:
    """More for a larger picture, except where a latent is optimised small."""
    small, large = (plan_of(tiny, f"drawer={name}", *WORDS[name], f"size={side}") for side in (64, 128))
    assert estimate_memory(small) < estimate_memory(large)
    assert large.cell == (16 if "pixelart.cells=8" in WORDS[name] else 1)


def test_strokes_of_a_large_picture_need_little_more_than_its_last_drawing(tiny: TinyModels) -> None:
    """What is optimised has a short side of 128 in both; a gradient at the full size would keep gigabytes."""
    small, large = (estimate_memory(plan_of(tiny, "drawer=strokes", f"size={side}")) for side in (128, 2048))
    assert 0.9 * 2048**2 * 3 * 4 < large - small < 2**30


def test_published_guides_have_settings_of_their_own_and_no_upscaler(tiny: TinyModels) -> None:
    plan = plan_of(tiny, "drawer=pixels")
    assert plan.config.output.upscale == "none" and plan.config.init.kind == "noise" and plan.scale == 1
