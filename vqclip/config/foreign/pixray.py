"""pixray/pixray: its settings in YAML, and its defaults (pixray.py, 2022)."""

import re
from collections.abc import Mapping, Sequence

from vqclip.config.foreign.rules import (
    BESIDE,
    Keys,
    NoEqualError,
    Tool,
    all_known,
    chosen,
    clips,
    image_prompts,
    is_on,
    known,
    noise,
    number,
    optimiser,
    plain,
    seed,
    size,
    start,
    stories,
    text,
    text_of,
    whole,
)
from vqclip.config.yaml_text import Structure

QUALITIES: Mapping[str, tuple[int, int, int, float, str]] = {
    "draft": (200, 24, 1, 1, "ViT-B/16"),
    "normal": (250, 30, 1, 2, "ViT-B/32,ViT-B/16"),
    "better": (300, 36, 1, 3, "RN50,ViT-B/32,ViT-B/16"),
    "best": (350, 12, 2, 4, "RN50x4,ViT-B/32,ViT-B/16"),
    "supreme": (400, 8, 4, 5, "RN50x4,RN101,ViT-B/32,ViT-B/16"),
}
"""Steps, cutouts, how often they are drawn a step, size by ASPECTS, and guides of pixray's qualities."""

ASPECTS = {"square": (144, 144), "portrait": (128, 160), "widescreen": (192, 108)}
"""Width and height of pixray's forms at scale 1."""

EASY = {"small": 1.0, "medium": 2.0, "large": 4.0}
"""Scale of pixray's `ezsize`."""

LOSSES = {"smoothness": "smoothness", "saturation": "saturation", "symmetry": "symmetry", "edge": "edge:white"}
FILTERS = {"wallpaper": "tile", "tiler": "tile"}
"""pixray's losses and filters ─▶ ours."""

MODELS = {
    "imagenet_f16_16384": "imagenet-16384",
    "imagenet_f16_1024": "imagenet-1024",
    "wikiart_16384": "wikiart-16384",
    "wikiart_1024": "wikiart-1024",
    "coco": "coco",
    "faceshq": "faceshq",
    "sflckr": "sflckr",
    "openimages_f16_8192": "gumbel-f8",
    "imagenet": "imagenet-16384",
    "wikiart": "wikiart-16384",
    "openimages": "gumbel-f8",
    "sflickr": "sflckr",
}
"""pixray's and pytti's names of VQGANs ─▶ ours."""


def _of_quality(theirs: Mapping[str, Structure]) -> Keys:
    """What follows from quality, form and scale; each setting of its own counts more."""
    steps, cutouts, times, scale, guides = chosen(QUALITIES, theirs, "quality", "normal")
    easy = chosen(EASY, theirs, "ezsize", "") if theirs.get("ezsize") else scale
    scale = float(text_of(theirs.get("scale") or str(easy)))
    width, height = chosen(ASPECTS, theirs, "aspect", "widescreen")
    return {
        "size": f"{int(scale * width)}x{int(scale * height)}",
        "optimise.steps": steps,
        "cutouts.count": cutouts * times,
        "cutouts.micro_batch": cutouts if times > 1 else None,
        **clips(guides),
        **_overlay(theirs),
        BESIDE: _spots(theirs),
    }


def _overlay(theirs: Mapping[str, Structure]) -> Keys:
    """A picture laid over; pixray's alpha goes to 255, and is that where it is not said."""
    if not theirs.get("overlay_image"):
        return {}
    every, begin, end, alpha = (theirs.get(f"overlay_{key}") for key in ("every", "offset", "until", "alpha"))
    return {
        "overlay.image": text_of(theirs["overlay_image"]),
        "overlay.every": text_of(every or "10"),
        "overlay.begin": text_of(begin or "0"),
        "overlay.end": text_of(end) if end else None,
        "overlay.alpha": round(float(text_of(alpha or "255")) / 255, 3),
    }


def _spots(theirs: Mapping[str, Structure]) -> list[str]:
    """Prompts for a part of the picture: what is white in its mask, or the middle."""
    mask = theirs.get("spot_file")
    region = f"in {text_of(mask)}" if mask else "middle"
    texts = text_of(theirs.get("spot_prompts") or "").split("|")
    return [f"[{region}] {plain(text)}" for text in texts if text.strip()]


def _vectors(value: Structure) -> Keys:
    """Directions by name, at a tenth as there; files of theirs are of OpenAI's models alone."""
    names = [name.strip() for name in text_of(value).replace("|", ",").split(",") if name.strip()]
    kept = {BESIDE: ["@vector:textoff:0.1"]} if "textoff" in names else {}
    if set(names) - {"textoff"}:
        raise NoEqualError("of the vectors only textoff is there; make others with vqclip embed", kept)
    return kept


def _losses(value: Structure) -> Keys:
    """`name:weight`, several with commas between them; ours are a dictionary."""
    parts = [part.strip().partition(":") for part in text_of(value).split(",") if part.strip()]
    weights = {name: float(weight or 1) for name, _, weight in parts}

    def read(names: Sequence[str]) -> Keys:
        return {"losses": {LOSSES[name]: weights[name] for name in names}} if names else {}

    return all_known(LOSSES, list(weights), read)


def _filters(value: Structure) -> Keys:
    names = [name.strip() for name in text_of(value).split(",") if name.strip()]
    return all_known(FILTERS, names, lambda found: {"filters": [FILTERS[name] for name in found]} if found else {})


def model(value: Structure) -> Keys:
    """A VQGAN by its name there."""
    return {"vqgan.name": known(MODELS, text_of(value).lower())}


DRAWERS: Mapping[str, Keys] = {
    "vqgan": {},
    "pixel": {"drawer": "pixelart"},
    "fast_pixel": {"drawer": "pixelart"},
    "clipdraw": {"drawer": "strokes"},
    "line_sketch": {"drawer": "strokes", "strokes.ink": "black"},
    "fft": {"drawer": "fourier"},
}
"""pixray's drawers ─▶ ours."""

SHAPES = {"rect": "square", "hex": "hexagon", "diamond": "diamond"}
"""pixray's forms of a pixel ─▶ ours."""


def drawer(value: Structure) -> Keys:
    """What draws, with a step size of ours where that is no VQGAN, whose latent is another."""
    name = text_of(value).lower()
    if name not in DRAWERS:
        raise NoEqualError(f"the drawer {text_of(value)!r} is not there; drawn with a VQGAN")
    return {**DRAWERS[name], **({"optimise.lr": 0.05} if DRAWERS[name] else {})}


def _palette(value: Structure) -> Keys:
    """Colours by name with `,` or `;` between them; ramps and pictures of colours are not there."""
    colours = text_of(value).strip("[]").replace(";", ",").replace(" ", "")
    if not re.fullmatch(r"[#\w]+(,[#\w]+)*", colours, re.ASCII):
        raise NoEqualError("only colours with commas between them are read: losses: {'palette:red,white': 1}")
    return {"losses": {f"palette:{colours}": 1.0}}


def _drops(value: Structure) -> Keys:
    """Any drop of the rate: ours comes at three quarters, as pixray's own."""
    return {"optimise.schedule": "drop"} if value else {}


IGNORED = (
    "display_every quality ezsize aspect scale wallpaper_edge_match smoothness_type display_clear cudnn_determinism "
    "perceptors overlay_image overlay_every overlay_offset overlay_until overlay_alpha spot_prompts spot_file"
)
"""What says nothing about a picture here, or is read together."""

PIXRAY = Tool(
    name="pixray",
    defaults={
        "vqgan.name": "imagenet-16384",
        "init.kind": "noise",
        "cutouts.recipe": "pixray",
        "optimise.name": "adam",
        "optimise.lr": 0.2,
        "optimise.schedule": "drop",
    },
    rules={
        "prompts": stories,
        "iterations": whole("optimise.steps"),
        "num_cuts": whole("cutouts.count"),
        "batches": "cutouts.count is how many a step sees, cutouts.micro_batch how many at once",
        "learning_rate": number("optimise.lr"),
        "learning_rate_drops": _drops,
        "clip_models": clips,
        "vqgan_model": model,
        "seed": seed,
        "size": size,
        "init_image": start,
        "init_noise": noise,
        "init_weight": number("init.weight"),
        "image_prompts": image_prompts,
        "optimiser": optimiser,
        "custom_loss": _losses,
        "filters": _filters,
        "palette": _palette,
        "output": text("output.path"),
        "save_every": whole("output.save_every"),
        "make_video": lambda value: {"output.video": "mp4"} if is_on(value) else {},
        "drawer": drawer,
        "use_pixeldraw": lambda value: drawer("pixel") if is_on(value) else {},
        "pixel_type": lambda value: {"pixelart.shape": known(SHAPES, text_of(value))},
        "vector_prompts": _vectors,
        "pixel_size": "say pixelart.cells, which are counted along the short side",
        "animation_dir": "films of stories are not made; left out",
        "outdir": "say output.path",
        "cuda_device": text("runtime.device"),
        "target_images": image_prompts,
        "spot_prompts_off": "say what is outside with the mask the other way round: [in MASK.png] TEXT",
    },
    ignored=frozenset(IGNORED.split()),
    together=_of_quality,
    first=frozenset({"drawer", "use_pixeldraw"}),
)
