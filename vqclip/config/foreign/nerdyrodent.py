"""nerdyrodent/VQGAN-CLIP: its command line, and its defaults (generate.py, 2022)."""

import shlex
from collections.abc import Mapping
from itertools import zip_longest

from vqclip.common.errors import UsageError
from vqclip.config.foreign.rules import (
    BESIDE,
    OF_RECIPE,
    Keys,
    Tool,
    clips,
    image_prompts,
    known,
    listed,
    noise,
    number,
    optimiser,
    rate,
    seed,
    size,
    start,
    stories,
    text,
    text_of,
    whole,
)
from vqclip.config.yaml_text import Structure

SHORT = {
    "p": "prompts",
    "ip": "image_prompts",
    "i": "iterations",
    "se": "save_every",
    "s": "size",
    "ii": "init_image",
    "in": "init_noise",
    "iw": "init_weight",
    "m": "clip_model",
    "conf": "vqgan_config",
    "ckpt": "vqgan_checkpoint",
    "nps": "noise_prompt_seeds",
    "npw": "noise_prompt_weights",
    "lr": "learning_rate",
    "cutm": "cut_method",
    "cuts": "num_cuts",
    "cutp": "cut_power",
    "sd": "seed",
    "opt": "optimiser",
    "o": "output",
    "vid": "video",
    "zvid": "zoom_video",
    "zs": "zoom_start",
    "zse": "zoom_save_every",
    "zsc": "zoom_scale",
    "zsx": "zoom_shift_x",
    "zsy": "zoom_shift_y",
    "cpe": "change_prompt_every",
    "vl": "video_length",
    "ofps": "output_video_fps",
    "ifps": "input_video_fps",
    "vsd": "video_style_dir",
    "d": "deterministic",
    "aug": "augments",
    "cd": "cuda_device",
}
"""Short options of generate.py ─▶ the long ones."""


def _noise_prompts(theirs: Mapping[str, Structure]) -> Keys:
    """Seeds of noise prompts with their weights, which each picture gets."""
    seeds, weights = (listed(theirs.get(key) or "") for key in ("noise_prompt_seeds", "noise_prompt_weights"))
    weighed = zip_longest(seeds, (float(weight) for weight in weights[: len(seeds)]), fillvalue=1.0)
    return {BESIDE: [f"@noise:{int(str(seed))}:{weight:g}" for seed, weight in weighed]}


CUTS = {"latest": "nerdyrodent", "updated": "crowson", "original": "crowson"}
"""Its ways of cutting ─▶ our recipes."""

IGNORED = (
    "noise_prompt_seeds noise_prompt_weights deterministic zoom_start zoom_save_every zoom_scale zoom_shift_x "
    "zoom_shift_y"
)
"""What says nothing about a picture here, or is read together."""

NERDYRODENT = Tool(
    name="nerdyrodent/VQGAN-CLIP",
    defaults={
        "vqgan.name": "imagenet-16384",
        "perceptors": ["ViT-B-32-quickgelu:openai"],
        "size": "512x512",
        "init.kind": "codes",
        "cutouts.recipe": "nerdyrodent",
        "cutouts.count": 32,
        "optimise.steps": 500,
        "optimise.name": "adam",
        "optimise.lr": 0.1,
        "optimise.schedule": "constant",
    },
    rules={
        "prompts": stories,
        "image_prompts": image_prompts,
        "iterations": whole("optimise.steps"),
        "save_every": whole("output.save_every"),
        "size": size,
        "init_image": start,
        "init_noise": noise,
        "init_weight": number("init.weight"),
        "clip_model": clips,
        "vqgan_config": text("vqgan.config"),
        "vqgan_checkpoint": text("vqgan.file"),
        "learning_rate": number("optimise.lr"),
        "cut_method": lambda value: {"cutouts.recipe": known(CUTS, text_of(value))},
        "cut_power": OF_RECIPE,
        "num_cuts": whole("cutouts.count"),
        "seed": seed,
        "optimiser": optimiser,
        "output": text("output.path"),
        "video": lambda value: {"output.video": "mp4"},
        "video_length": "a video has output.fps frames a second: say output.save_every for how many there are",
        "output_video_fps": rate,
        "input_video_fps": "frames are not interpolated; left out",
        "zoom_video": "zooming is not there",
        "change_prompt_every": "each story is a picture of its own here; vqclip interpolate goes from one to the next",
        "video_style_dir": "a folder of pictures is a batch: one line a picture, with init_image",
        "augments": OF_RECIPE,
        "cuda_device": text("runtime.device"),
    },
    ignored=frozenset(IGNORED.split()),
    together=_noise_prompts,
)


def flags(line: str, source: str) -> dict[str, Structure]:
    """Take nerdyrodent's command line apart: the option's long name, and its value, its values, or true."""
    try:
        words = shlex.split(line.replace("\\\n", " "))
    except ValueError as error:
        raise UsageError(f"{source} is no whole command line: {error}.") from error
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for word in words:
        if word.startswith("-") and word.lstrip("-") in SHORT | {name: name for name in SHORT.values()}:
            name = word.lstrip("-")
            found[SHORT.get(name, name)] = current = []
        elif word.startswith("-") and word[1:2].isalpha():
            found[word.lstrip("-")] = current = []
        elif found:
            current.append(word)
    return {name: values[0] if len(values) == 1 else list(values) or "true" for name, values in found.items()}
