"""pytti-tools/pytti-core: its config, and its defaults (assets/default.yaml, 2022)."""

import re
from collections.abc import Mapping

from vqclip.common.registry import shown
from vqclip.config.foreign.pixray import drawer, model
from vqclip.config.foreign.rules import (
    OF_RECIPE,
    Keys,
    Tool,
    all_known,
    clips,
    is_on,
    number,
    plain,
    rate,
    seed,
    start,
    text_of,
    whole,
)
from vqclip.config.yaml_text import Structure

CLIPS = {"ViTB32": "ViT-B/32", "ViTB16": "ViT-B/16", "ViTL14": "ViT-L/14"} | {
    name: name for name in ("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64")
}
"""pytti's switches of guides ─▶ OpenAI's names."""


def _scenes(theirs: Mapping[str, Structure]) -> Keys:
    """Scenes, each with what stands before and behind all of them; the guides that are switched on; the size."""
    before, behind = (str(theirs.get(key) or "") for key in ("scene_prefix", "scene_suffix"))
    scenes = (before + scene + behind for scene in text_of(theirs.get("scenes") or "").split("||") if scene.strip())
    guides = ",".join(name for key, name in CLIPS.items() if is_on(theirs.get(key, "true" if key == "ViTB32" else "")))
    width, height = (int(text_of(theirs.get(key) or default)) for key, default in (("width", "180"), ("height", "112")))
    prompts = (" | ".join(_part(part) for part in scene.split("|") if part.strip()) for scene in scenes)
    return {"prompts": list(prompts), **clips(guides), "size": f"{width}x{height}"}


def _part(part: str) -> str:
    """A prompt of a scene: a text or `[FILE]`, its weight, and behind `_` where it holds, of which sides and pictures
    are regions here. Without a weight and a place where these are formulas or anything else.
    """
    if _is_formula(part):
        part = part.partition(":")[0]
    placed = PLACED.fullmatch(part)
    part, mask = (placed[1] + placed[3], placed[2]) if placed else (part, "")
    region = SIDES.get(mask) or (f"in {mask[1:-1]}" if mask else "")
    picture = PICTURE.fullmatch(part.strip())
    return (f"[{region}] " if region else "") + (f"@image:{picture[1]}{picture[2]}" if picture else plain(part))


def _is_formula(part: str) -> bool:
    """Whether what stands behind the text is neither numbers nor a place that we know."""
    return ":" in part and not any(form.fullmatch(part.strip()) for form in (PLACED, PICTURE, WEIGHED))


def _direct(value: Structure) -> Keys:
    """Pictures to resemble as they stand, which come nearest to pictures as prompts; not those for a part only."""
    parts = [part.strip() for part in text_of(value).split("|") if part.strip()]
    read = {part: found[1] + found[2] for part in parts if (found := DIRECT.fullmatch(part))}
    return all_known(read, parts, lambda found: {"image_prompts": [read[part] for part in found]} if found else {})


def _unread(theirs: Mapping[str, Structure]) -> Mapping[str, str]:
    """What holds for pictures that are no VQGAN's, and the weights and places in scenes that are not read."""
    plain_vqgan = str(theirs.get("image_model") or "vqgan").lower() == "vqgan"
    parts = re.split(r"\|+", text_of(theirs.get("scenes") or ""))
    unread = ", ".join(shown(part.strip()) for part in parts if _is_formula(part))
    return {
        **{key: why for key, why in COLOURED.items() if not plain_vqgan and is_on(theirs.get(key))},
        **({"scenes": f"the weight and the place of {unread} are not read"} if unread else {}),
    }


COLOURED = {
    "palettes": "say which colours: filters: ['palette:red,white']",
    "pixel_size": "a picture has the pixels of its size here; left out",
}
"""pytti's settings of pictures of few colours, and what is said of them."""


SIDES = {"l": "left", "r": "right", "u": "top", "d": "bottom"}
"""pytti's sides ─▶ ours."""

PLACED = re.compile(r"([^:]*:\s*[-+.\d]+)_([lrud]|\[[^\]]+\])((?::\s*[-+.\d]+)?)\s*", re.DOTALL)
WEIGHED = re.compile(r"[^:]*(?::\s*[-+.\d]*\s*){1,2}", re.DOTALL)
DIRECT = re.compile(r"\[?([^\[\]:]+)\]?((?::[-+.\d]+)?)")
PICTURE = re.compile(r"\[([^\]]+)\]((?::[-+.\d]+)*)")

IGNORED = (
    "scenes scene_prefix scene_suffix width height steps_per_frame interpolation_steps reset_lr_each_frame "
    "cutout_border border_mode pre_animation_steps lock_camera file_namespace allow_overwrite "
    "display_every clear_every display_scale backups show_graphs approximate_vram_usage models_parent_dir "
    "gradient_accumulation_steps defaults gamma hdr_weight palette_size palettes random_initial_palette "
    "palette_normalization_weight show_palette pixel_size lock_palette"
)
"""What says nothing about a picture here, or is read together."""

PYTTI = Tool(
    name="pytti",
    defaults={
        "vqgan.name": "sflckr",
        "init.kind": "codes",
        "cutouts.recipe": "crowson",
        "cutouts.count": 40,
        "optimise.steps": 100,
        "optimise.name": "adam",
        "optimise.lr": 0.1,
        "optimise.schedule": "constant",
        "optimise.ema": 0.99,
    },
    rules={
        "vqgan_model": model,
        "steps_per_scene": whole("optimise.steps"),
        "learning_rate": number("optimise.lr"),
        "cutouts": whole("cutouts.count"),
        "seed": seed,
        "init_image": start,
        "smoothing_weight": lambda value: {"losses": {"tv": float(text_of(value))}},
        "save_every": whole("output.save_every"),
        "frames_per_second": rate,
        "image_model": drawer,
        "animation_mode": "animations are not there; each scene is a picture",
        "direct_image_prompts": _direct,
        "cut_pow": OF_RECIPE,
        "video_path": "films are not read",
    },
    ignored=frozenset(IGNORED.split()) | CLIPS.keys(),
    together=_scenes,
    first=frozenset({"image_model"}),
    unread=_unread,
)
