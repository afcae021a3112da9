"""What a shell completes behind an option: the names that there are."""

from collections.abc import Iterable, Mapping

from vqclip.config.loader import available_configs, load_config, to_dict
from vqclip.config.schema import ASPECTS, AUTO_SIZE
from vqclip.config.starts import QUALITIES

DEVICES = ("auto", "cpu", "cuda", "cuda:0", "mps")


def configs(incomplete: str) -> list[str]:
    """Names for `-c`."""
    return _beginning(incomplete, available_configs())


def drawers(incomplete: str) -> list[str]:
    """Names for `--drawer`."""
    return _beginning(incomplete, _named("drawer"))


def devices(incomplete: str) -> list[str]:
    """Names for `--device`."""
    return _beginning(incomplete, DEVICES)


def videos(incomplete: str) -> list[str]:
    """Formats for `--video`."""
    from vqclip.config.schema import VIDEO_FORMATS

    return _beginning(incomplete, VIDEO_FORMATS)


def models(incomplete: str) -> list[str]:
    """Names of published models and of the user's own."""
    from vqclip.hub.clip_catalogue import CLIPS
    from vqclip.hub.store_index import stored_names
    from vqclip.hub.upscaler_catalogue import UPSCALERS
    from vqclip.hub.vqgan_catalogue import VQGANS

    return _beginning(incomplete, dict.fromkeys([*VQGANS, *CLIPS, *UPSCALERS, *stored_names()]))


def perceptors(incomplete: str) -> list[str]:
    """Names of CLIP models."""
    from vqclip.hub.clip_catalogue import CLIPS

    return _beginning(incomplete, ["embedded", *CLIPS])


def settings(incomplete: str) -> list[str]:
    """Keys for `--set`; behind the equals sign the names of recipes, optimisers and starts."""
    key, equals, value = incomplete.partition("=")
    if equals:
        return [f"{key}={name}" for name in _beginning(value, _named(key))]
    losses = [f"losses.{name}=" for name in _losses()] if key.startswith("losses") else []
    return _beginning(incomplete, [*(f"{name}=" for name in _keys(to_dict(load_config()))), *losses])


def qualities(incomplete: str) -> list[str]:
    """Names for `--quality`."""
    return _beginning(incomplete, QUALITIES)


def sizes(incomplete: str) -> list[str]:
    """Names of shapes for `--size`."""
    return _beginning(incomplete, [*ASPECTS, AUTO_SIZE])


def _keys(section: Mapping[str, object], above: str = "") -> list[str]:
    """The dotted keys of a config."""
    found: list[str] = []
    for name, value in section.items():
        found += _keys(value, f"{above}{name}.") if isinstance(value, dict) and value else [f"{above}{name}"]
    return found


def _named(key: str) -> Iterable[str]:
    """The names that a key takes."""
    from vqclip.guidance.recipes import RECIPES
    from vqclip.optimisation.optimisers import OPTIMISERS, SCHEDULES
    from vqclip.optimisation.start import INITS
    from vqclip.pipeline.drawing import DRAWERS

    tables: Mapping[str, Iterable[str]] = {
        "drawer": DRAWERS,
        "cutouts.recipe": RECIPES,
        "optimise.name": OPTIMISERS,
        "optimise.schedule": SCHEDULES,
        "init.kind": ["auto", *INITS],
    }
    return tables.get(key, ())


def _losses() -> Iterable[str]:
    from vqclip.guidance.likeness import OF_FILES
    from vqclip.guidance.losses import LOSSES, TOLD

    told = {**{name: example for name, (example, _) in TOLD.items()}, **OF_FILES}
    return [*LOSSES, *(f"{name}:{example}" for name, example in told.items())]


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
