"""What is known of a model, by its kind: where it is published, its terms, and what is stored of it."""

from collections.abc import Callable, Mapping
from typing import Any


def _vqgan_facts(name: str) -> dict[str, Any]:
    from vqclip.hub.store import published
    from vqclip.hub.store_index import read_record, stored_file
    from vqclip.hub.vqgan_catalogue import VQGANS

    path, record = stored_file(name), read_record(name)
    entry = VQGANS.get(name) if path else published(name)
    facts: dict[str, Any] = {"name": name, "kind": "vqgan"}
    if entry:
        sizes = entry.architecture
        facts |= {
            "trained_on": entry.trained_on,
            "good_for": entry.good_for,
            "terms": entry.terms,
            "codes": f"{sizes.n_embed:,} of {sizes.embed_dim} numbers, {entry.factor} pixels a cell, {entry.quantiser}",
            "to_fetch": entry.size_text,
            "sha256": entry.sha256,
            "places": [place.host for place in entry.places],
            "memory": _memory_of(name),
        }
    stored = {"stored_as": str(path) if path else "not on this machine"}
    if path and record:
        stored |= {"made_of": record.source, "stored_sha256": record.sha256, "half": str(record.half).lower()}
        stored |= {"state": "damaged"} if record.damaged else {}
    return {**facts, **stored}


def _memory_of(name: str) -> str | None:
    """What a run with the config of this name needs, by shapes."""
    from vqclip.config.loader import available_configs, load_config
    from vqclip.pipeline.memory_estimate import estimate_memory
    from vqclip.pipeline.plan import make_plan

    if name not in available_configs():
        return None
    config = load_config([name], [], {"prompts": ["-"], "runtime.device": "cpu"})
    return f"about {estimate_memory(make_plan(config)) / 2**30:.1f} GiB for generate -c {name} ({config.size})"


def _clip_facts(name: str) -> dict[str, Any]:
    from vqclip.hub.clip_catalogue import CLIPS
    from vqclip.hub.clip_files import clip_place

    place, path = clip_place(name)
    facts: dict[str, Any] = {"name": name, "kind": "clip"}
    if name in CLIPS:
        clip = CLIPS[name]
        cost = f", {clip.gflop:g} GFLOP an image" if clip.gflop else ""
        accuracy = f"; {clip.zero_shot} % of ImageNet zero-shot" if clip.zero_shot else ""
        facts |= {
            "good_for": clip.good_for,
            "terms": clip.terms,
            "sees": f"{clip.side} pixels{cost}{accuracy}",
            "to_fetch": clip.size_text,
            "memory": f"about {4 * clip.image_parameters} MB for the image tower, which is all that a run keeps",
            "needs": clip.needs and f"pip install 'vqclip[siglip]' ({clip.needs})",
        }
    return {**facts, "places": [place], "stored_as": str(path) if path else "not on this machine"}


def _upscaler_facts(name: str) -> dict[str, Any]:
    from vqclip.hub.upscaler_catalogue import UPSCALERS
    from vqclip.hub.upscaler_store import stored_upscaler

    entry, path = UPSCALERS[name], stored_upscaler(name)
    return {
        "name": name,
        "kind": "upscaler",
        "good_for": entry.good_for,
        "terms": entry.terms,
        "scale": f"{entry.scale} x",
        "to_fetch": entry.size_text,
        "sha256": entry.sha256,
        "places": [entry.place.host],
        "needs": None if entry.own_form else "pip install 'vqclip[upscale]'",
        "stored_as": str(path) if path else "not on this machine",
    }


FACTS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "vqgan": _vqgan_facts,
    "clip": _clip_facts,
    "upscaler": _upscaler_facts,
}
"""Kind ─▶ what is known of a model of that name."""
