"""The settings of a run: frozen dataclasses with the types and checks.

Every value and its meaning stand in configs/default.yaml.
"""

import math
import re
from dataclasses import dataclass

from vqclip.common.errors import UsageError
from vqclip.common.quantities import decimal
from vqclip.common.registry import shown
from vqclip.config.regions import parse_box, parse_margins
from vqclip.config.starts import AUTO, PICTURES, PRIORS, VARY
from vqclip.config.typed import FilePath, Interval

SEED_LIMIT = 2**63
LONGEST = 16384
FASTEST = 50  # frames a second of a video
"""Pixels that a side of what is drawn may have."""

AUTO_SIZE = "auto"
NO_REFERENCE = "none"
SHAPED = 256 * 256
"""Pixels of a shape where the layer below has no size of its own."""

DRAWN_SEEDS = 2**32
"""A seed that is drawn by lot is below this."""

MOST_THREADS = 4096
"""CPU threads that a run may ask for."""

GUIDE_KEYS = ("weight", "share")
SIZE = re.compile(r"\s*([0-9]{1,5})\s*(?:[xX×]\s*([0-9]{1,5})\s*)?")
SHAPE = re.compile(r"\s*([0-9]{1,5})\s*[:xX×]\s*([0-9]{1,5})\s*")
PIXELS = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([kKmM]?)\s*", re.ASCII)
FACTORS = {"": 1, "k": 1024, "m": 1024**2}
"""What stands behind a number of pixels: 64k are 256 x 256."""

ASPECTS = {"square": "1:1", "portrait": "4:5", "landscape": "5:4", "widescreen": "16:9"}
"""Shapes by name; the numbers are pixray's."""
VIDEO_FORMATS = ("mp4", "gif", "webp")


def _require(ok: bool, key: str, value: object, rule: str) -> None:
    if not ok:
        raise UsageError(f"{key} is {shown(value)}; it must be {rule}.")


@dataclass(frozen=True)
class VqganConfig:
    """Which VQGAN: a published `name`, or a local `file` (used instead) with its `config` YAML."""

    name: str | None
    file: FilePath | None
    config: FilePath | None

    def __post_init__(self) -> None:
        _require(bool(self.name or self.file), "vqgan.name", self.name, "given, or vqgan.file")


@dataclass(frozen=True)
class FourierConfig:
    """How much more slow waves count than quick ones."""

    decay: float

    def __post_init__(self) -> None:
        _require(0 <= self.decay <= 4, "fourier.decay", self.decay, "between 0 and 4")


@dataclass(frozen=True)
class PixelartConfig:
    """How many cells there are along the short side, their shape, and what colours they may have."""

    cells: int | None
    shape: str
    colours: str | None

    def __post_init__(self) -> None:
        rule = "at least 1, or null for about 32"
        _require(self.cells is None or self.cells >= 1, "pixelart.cells", self.cells, rule)


@dataclass(frozen=True)
class StrokesConfig:
    """How many strokes there are and how broad they may be, their one ink, if any, and what lies under them."""

    count: int
    width: float
    ink: str | None
    paper: str

    def __post_init__(self) -> None:
        _require(1 <= self.count <= 4096, "strokes.count", self.count, "between 1 and 4096")
        _require(0 < self.width <= 1, "strokes.width", self.width, "above 0 and at most 1, a share of the short side")


@dataclass(frozen=True)
class PriorConfig:
    """Which prior, how many pictures it draws to choose from, and how it draws them."""

    name: str
    candidates: int
    temperature: float
    top_k: int
    guidance: float

    def __post_init__(self) -> None:
        _require(1 <= self.candidates <= 1024, "prior.candidates", self.candidates, "between 1 and 1024")
        ok = self.temperature >= 0 and math.isfinite(self.temperature)
        _require(ok, "prior.temperature", self.temperature, "a finite number, 0 or more")
        _require(self.top_k >= 0, "prior.top_k", self.top_k, "0 (off) or more")
        _require(math.isfinite(self.guidance), "prior.guidance", self.guidance, "a finite number")


@dataclass(frozen=True)
class InitConfig:
    """What the first latent is made of, how much of a picture it keeps, and how strongly the run is held near it."""

    kind: str
    image: FilePath | None
    strength: float
    weight: float

    def __post_init__(self) -> None:
        _require(0 <= self.strength <= 1, "init.strength", self.strength, "between 0 and 1")
        _require(
            self.weight >= 0 and math.isfinite(self.weight), "init.weight", self.weight, "a finite number, 0 or more"
        )


@dataclass(frozen=True)
class MaskConfig:
    """A picture of which a part is painted anew, and which part: white, in a box, named by words, or a new rim."""

    original: FilePath | None
    image: FilePath | None
    boxes: list[str]
    where: str | None
    invert: bool
    extend: str | None
    feather: int | None

    def __post_init__(self) -> None:
        for box in self.boxes:
            parse_box(box)
        if self.extend is not None:
            parse_margins(self.extend)
        _require(self.where is None or bool(self.where.strip()), "mask.where", self.where, "some words, or null")
        ok = self.feather is None or 0 <= self.feather <= 1000
        _require(ok, "mask.feather", self.feather, "between 0 and 1000 pixels, or null")
        given = self.image is not None or bool(self.boxes) or self.where is not None or self.extend is not None
        _require(
            (self.original is not None) == given,
            "mask.original",
            self.original,
            "a picture with one of mask.image, boxes, where or extend, and null without them",
        )


@dataclass(frozen=True)
class TargetsConfig:
    """How the image prompts' meaning is turned by words, from `away` to `towards`; a path of points to travel; and what
    tells where the pictures of a text lie, and what they show.
    """

    away: str
    towards: str | None
    amount: float
    path: list[str]
    frames: int
    reference: FilePath
    aim: str
    neighbours: int
    lean: float
    content: float
    examples: int

    def __post_init__(self) -> None:
        _require(len(self.path) != 1, "targets.path", self.path, "empty, or two points and more")
        _require(2 <= self.frames <= 10_000, "targets.frames", self.frames, "between 2 and 10000")
        _require(0 <= self.amount <= 1, "targets.amount", self.amount, "between 0 and 1")
        _require(bool(self.reference), "targets.reference", self.reference, "none, embedded, or a folder of pictures")
        _require(
            self.reference == NO_REFERENCE or not self.path, "targets.reference", self.reference, "none for a path"
        )
        _require(1 <= self.neighbours <= 10_000, "targets.neighbours", self.neighbours, "between 1 and 10000")
        _require(0 <= self.lean <= 1, "targets.lean", self.lean, "between 0 and 1")
        ok = self.content >= 0 and math.isfinite(self.content)
        _require(ok, "targets.content", self.content, "a finite number, 0 or more")
        _require(1 <= self.examples <= 256, "targets.examples", self.examples, "between 1 and 256")


MOST_CUTOUTS = 100_000
"""Views of a picture in a step; nobody needs as many, and their shapes overflow with many more."""


@dataclass(frozen=True)
class CutoutsConfig:
    """How the perceptors look at a picture."""

    recipe: str
    count: int
    micro_batch: int | None

    def __post_init__(self) -> None:
        rule = f"between 1 and {MOST_CUTOUTS}"
        _require(1 <= self.count <= MOST_CUTOUTS, "cutouts.count", self.count, rule)
        parted = self.micro_batch is None or 1 <= self.micro_batch <= MOST_CUTOUTS
        _require(parted, "cutouts.micro_batch", self.micro_batch, rule)


@dataclass(frozen=True)
class OptimiseConfig:
    """The descent on the latent."""

    steps: int
    name: str
    lr: float
    schedule: str
    ema: float
    pyramid: list[list[float]]
    space: str
    noise: float
    gradient: str
    commitment: float
    hold: float
    guides: str

    def __post_init__(self) -> None:
        _require(0 <= self.steps <= 1_000_000, "optimise.steps", self.steps, "between 0 and 1000000")
        _require(self.lr > 0 and math.isfinite(self.lr), "optimise.lr", self.lr, "a finite number above 0")
        _require(0 <= self.ema < 1, "optimise.ema", self.ema, "at least 0 and below 1")
        fit = all(len(stage) in (2, 3) and all(0 < share <= 1 for share in stage) for stage in self.pyramid)
        sides, shares = ([stage[place] for stage in self.pyramid] for place in (0, 1)) if fit else ([], [])
        whole = not sides or (sides == sorted(sides) and sides[-1] == 1 and math.isclose(sum(shares), 1, abs_tol=1e-6))
        rule = (
            "stages [share of the sides, share of the steps] or with a share of the views after these, sides growing "
            "to 1, steps 1 in all"
        )
        _require(fit and whole, "optimise.pyramid", self.pyramid, rule)
        for key in ("noise", "commitment", "hold"):
            value = getattr(self, key)
            _require(value >= 0 and math.isfinite(value), f"optimise.{key}", value, "a finite number, 0 or more")
        _require(self.commitment == 0 or self.space == "latent", "optimise.commitment", self.commitment, "0 for logits")
        _require(self.hold == 0 or len(self.pyramid) > 1, "optimise.hold", self.hold, "0 without optimise.pyramid")


@dataclass(frozen=True)
class OverlayConfig:
    """A picture that is laid over the one that is drawn, `alpha` of it, every few steps from one to another."""

    image: FilePath | None
    alpha: float
    every: Interval
    begin: Interval
    end: Interval | None

    def __post_init__(self) -> None:
        _require(0 <= self.alpha <= 1, "overlay.alpha", self.alpha, "between 0 and 1")
        _require(self.every >= 1, "overlay.every", self.every, "at least 1")
        _require(self.begin >= 0, "overlay.begin", self.begin, "0 or more")
        _require(self.end is None or self.end >= self.begin, "overlay.end", self.end, "overlay.begin or more, or null")


@dataclass(frozen=True)
class OutputConfig:
    """Where results go, how they are enlarged, and what is kept on the way."""

    path: FilePath | None
    upscale: FilePath
    svg: bool
    save_every: Interval
    video: str | None
    fps: int
    metadata: bool
    tags: list[str]
    overwrite: bool

    def __post_init__(self) -> None:
        _require(bool(self.upscale), "output.upscale", self.upscale, "auto, none, embedded, a name or a file")
        _require(self.save_every >= 0, "output.save_every", self.save_every, "0 (off) or more")
        _require(len(self.tags) <= 50, "output.tags", f"{len(self.tags)} texts", "at most 50")
        _require(all(0 < len(tag) <= 100 for tag in self.tags), "output.tags", self.tags, "of 1 to 100 characters each")
        _require(1 <= self.fps <= FASTEST, "output.fps", self.fps, f"between 1 and {FASTEST}")
        _require(
            self.video is None or self.video in VIDEO_FORMATS,
            "output.video",
            self.video,
            "mp4, gif, webp or null",
        )


@dataclass(frozen=True)
class RuntimeConfig:
    """The machine: device, number format, threads, quicker blocks; how often state is saved; short memory."""

    device: str
    precision: str
    threads: int | None
    accelerate: bool
    state_every: Interval
    state_seconds: float
    low_memory: bool

    def __post_init__(self) -> None:
        fits = self.threads is None or 1 <= self.threads <= MOST_THREADS
        _require(fits, "runtime.threads", self.threads, f"1 to {MOST_THREADS}")
        _require(self.state_every >= 0, "runtime.state_every", self.state_every, "0 (off) or more")
        ok = self.state_seconds >= 0 and math.isfinite(self.state_seconds)
        _require(ok, "runtime.state_seconds", self.state_seconds, "0 (off) or more")


@dataclass(frozen=True)
class GuideConfig:
    """One of `perceptors`: its name, the weight of its loss, and the share of the cutouts that it sees."""

    name: str
    weight: float = 1.0
    share: float = 1.0

    def __post_init__(self) -> None:
        rule = "a finite number above 0"
        _require(self.weight > 0 and math.isfinite(self.weight), f"the weight of {self.name!r}", self.weight, rule)
        _require(0 < self.share <= 1, f"the share of {self.name!r}", self.share, "above 0 and at most 1")

    def __str__(self) -> str:
        numbers = {key: float(getattr(self, key)) for key in GUIDE_KEYS}
        return self.name + "".join(f" {key}={decimal(number)}" for key, number in numbers.items() if number != 1)


@dataclass(frozen=True)
class Config:
    """One run, as the user asked for it or, after `plan.make_plan`, as it will be done."""

    prompts: list[str]
    seed: int | None
    seeds: list[int]
    count: int
    quality: str
    size: str
    drawer: str
    vqgan: VqganConfig
    fourier: FourierConfig
    pixelart: PixelartConfig
    strokes: StrokesConfig
    perceptors: list[str]
    prior: PriorConfig
    init: InitConfig
    mask: MaskConfig
    image_prompts: list[FilePath]
    negatives: list[str]
    targets: TargetsConfig
    cutouts: CutoutsConfig
    losses: dict[str, float]
    filters: list[str]
    optimise: OptimiseConfig
    overlay: OverlayConfig
    output: OutputConfig
    runtime: RuntimeConfig

    def __post_init__(self) -> None:
        _require(
            self.seed is None or 0 <= self.seed < SEED_LIMIT,
            "seed",
            self.seed,
            f"between 0 and {SEED_LIMIT - 1}",
        )
        for seed in self.seeds:
            _require(0 <= seed < SEED_LIMIT, "seeds", seed, f"between 0 and {SEED_LIMIT - 1}")
        rule = f"as many as seeds ({len(self.seeds)}), or left out"
        _require(not self.seeds or self.count in (1, len(self.seeds)), "count", self.count, rule)
        _require(len(self.seeds) <= 10_000, "seeds", f"{len(self.seeds)} numbers", "at most 10000")
        _require(1 <= self.count <= 10_000, "count", self.count, "between 1 and 10000")
        _require(
            self.seed is None or self.seed + self.count <= SEED_LIMIT,
            "seed",
            self.seed,
            f"at most {SEED_LIMIT - self.count} for {self.count} pictures",
        )
        pictured = self.init.image is not None or self.mask.original is not None
        rule = f"a file where init.kind is {', '.join(sorted(PICTURES))}"
        later = self.init.kind == VARY  # a layer's own; its picture comes with the command
        _require(pictured or later or self.init.kind not in PICTURES, "init.image", self.init.image, rule)
        kept = self.init.image is None or self.init.kind in PICTURES or self.init.strength < 1
        rule = f"below 1 with an init.image and init.kind {self.init.kind}: at 1 nothing of it stays"
        _require(kept, "init.strength", self.init.strength, rule)
        _require(
            self.init.weight == 0 or pictured or self.init.kind in (AUTO, *PRIORS, *PICTURES),
            "init.weight",
            self.init.weight,
            "0 unless init.kind starts from a picture or the prior, or is auto where that is the prior",
        )
        alone = self.count == 1 and len(self.seeds) < 2 and len(self.prompts) < 2 and not self.mask.original
        rule = "empty unless it is one picture's, and nothing is masked"
        _require(alone or not self.targets.path, "targets.path", self.targets.path, rule)
        staged = bool(self.targets.path and self.optimise.pyramid)
        _require(not staged, "optimise.pyramid", self.optimise.pyramid, "[] where a path is travelled (targets.path)")
        _require(
            not (self.overlay.image and self.mask.original), "overlay.image", self.overlay.image, "null beside a mask"
        )
        _require(len(self.perceptors) > 0, "perceptors", self.perceptors, "a list with at least one model")
        if self.size != AUTO_SIZE:
            parse_size(self.size)
        for name, weight in self.losses.items():
            _require(math.isfinite(weight), f"losses.{name}", weight, "a finite number")
        _ = self.guides

    @property
    def guides(self) -> list[GuideConfig]:
        """The perceptors, with their weights and shares."""
        return [parse_guide(entry) for entry in self.perceptors]


def parse_guide(entry: str) -> GuideConfig:
    """Read an entry of `perceptors`: a name, and at its end ` weight=W`, ` share=S`, both or none.

    Raises:
        UsageError: a weight or share that is no number, or out of range.
    """
    name, numbers = entry, dict[str, float]()
    while found := re.fullmatch(rf"(.+) ({'|'.join(GUIDE_KEYS)})=(\S*)", name, re.DOTALL):
        name, key, value = found.groups()
        _require(key not in numbers, "perceptors", entry, f"given one {key} each")
        _require(bool(re.fullmatch(r"(?=.*[0-9])[0-9]{0,400}\.?[0-9]{0,400}", value)), key, value, "a number")
        numbers[key] = float(value)
    return GuideConfig(name, **numbers)


IN_PIXELS = "WIDTHxHEIGHT in pixels, or one number for both, e.g. 256x256"
SIZES = "WIDTHxHEIGHT in pixels, one number for both, a shape such as 16:9 or square, or auto, e.g. 256x256"
"""What a size must be: where pixels alone are meant, and where a shape is turned into them."""


def parse_size(text: str, rule: str = SIZES) -> tuple[int, int]:
    """Read `WxH` in pixels, or one number for both; `rule` is what the sentence says that it must be.

    Raises:
        UsageError: not one or two whole numbers between 1 and 16384.
    """
    found = SIZE.fullmatch(text)
    width, height = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    _require(1 <= width <= LONGEST and 1 <= height <= LONGEST, "size", text, rule)
    return width, height


def in_pixels(size: str, before: str) -> str:
    """Turn a shape such as `16:9`, or a name of ASPECTS, into pixels: of about the area of `before`, or of as many as
    stand behind an `@` (`16:9@64k`; `@64k` alone keeps the shape); another size stays as it is.

    Raises:
        UsageError: a side of no length, or no number of pixels.
    """
    shape, at, pixels = size.partition("@")
    shape = ASPECTS.get(shape.strip(), shape.strip()) or ("1:1" if before == AUTO_SIZE else before)
    found = SHAPE.fullmatch(shape)
    if found is None or not (at or ":" in shape):
        _require(not at, "size", size, "a shape and a number of pixels, e.g. 16:9@64k")
        return size
    across, down = int(found[1]), int(found[2])
    _require(across > 0 and down > 0, "size", size, "a shape with two sides, e.g. 16:9")
    area = _count(pixels) if at else SHAPED if before == AUTO_SIZE else math.prod(parse_size(before))
    width = math.sqrt(area * across / down)
    return f"{max(1, round(width))}x{max(1, round(width * down / across))}"


def _count(pixels: str) -> float:
    """Read a number of pixels: `65536`, `64k` or `1.5M`."""
    found = PIXELS.fullmatch(pixels)
    _require(found is not None and float(found[1]) > 0, "pixels", pixels, "a number such as 65536, 64k or 1.5M")
    assert found is not None
    return float(found[1]) * FACTORS[found[2].lower()]
