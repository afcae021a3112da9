"""vqclip config: the settings that exist, and what a set of layers comes to."""

from typing import Annotated

import typer

from vqclip.cli.command import App, Group
from vqclip.cli.console import Console
from vqclip.cli.options import Json, Layers, Overrides
from vqclip.common.errors import UsageError
from vqclip.config.loader import ConfigReader, available_configs, load_config, to_dict, to_yaml

app = App(cls=Group, help="Show and check configs.")

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME|FILE]...", help="Config layers, later ones win.")]


@app.command("list")
def list_configs(as_json: Json = False) -> None:
    """List the configs that come with vqclip, for generate -c NAME: vqclip config list"""
    console = Console(as_json=as_json)
    for name, path in available_configs().items():
        about = _about(path.read_text("utf-8"))
        console.result(f"{name:<18} {about}", {"event": "config", "name": name, "path": str(path), "about": about})


@app.command()
def show(layers: Names = None, config: Layers = None, overrides: Overrides = None, as_json: Json = False) -> None:
    """Show every setting after merging default.yaml, the layers and --set: vqclip config show best"""
    console = Console(as_json=as_json)
    settings = load_config([*(layers or []), *(config or [])], overrides or [])
    if as_json:
        console.result("", {"event": "config", "config": to_dict(settings)})
    else:
        console.text(to_yaml(settings))


@app.command()
def validate(layers: Names = None, config: Layers = None, overrides: Overrides = None, as_json: Json = False) -> None:
    """Check keys, values, prompts, and the names of models and devices: vqclip config validate mine.yaml

    Each layer is checked by itself, and several also together, as a run would take them. What is wrong is said with
    exit code 2.
    """
    console = Console(as_json=as_json)
    given, reader = [*(layers or []), *(config or [])] or ["default"], ConfigReader()
    for layer in given:
        _check(reader, [layer], overrides)
        console.result(f"{layer}: ok", {"event": "valid", "name": layer})
    if len(given) > 1:
        try:
            _check(reader, given, overrides)
        except UsageError as error:
            raise UsageError(f"These layers do not go together: {error}") from error
        console.result("together: ok", {"event": "valid", "name": "together", "layers": given})


def _check(reader: ConfigReader, layers: list[str], overrides: list[str] | None) -> None:
    """Check what layers and overrides come to.

    Raises:
        UsageError: a key, a value, a prompt or a name is not right.
        ModelError: an upscaler's file is none.
    """
    from vqclip.common.runtime import resolve_device
    from vqclip.config.starts import AUTO
    from vqclip.hub.model_files import check_models
    from vqclip.hub.upscaler_files import upscaler_scale
    from vqclip.pipeline.checks import check

    settings = reader.load(layers, overrides or [])
    check(settings)
    check_models(settings)
    if settings.output.upscale != AUTO:
        upscaler_scale(settings.output.upscale)
    resolve_device(settings.runtime.device)


def _about(text: str) -> str:
    """Return the first line of the YAML's comment that is a sentence, not the command."""
    lines = [line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#")]
    return next((line for line in lines if line and not line.startswith("vqclip ")), "")
