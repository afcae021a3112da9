"""The list of commands, and the one place where a failure becomes a sentence and an exit code."""

import contextlib
import gc
import os
import sys
from functools import reduce
from typing import Annotated

import typer

from vqclip.cli import (
    batch,
    classify,
    config,
    doctor,
    edit,
    embed,
    evaluate,
    foreign,
    gallery,
    generate,
    models,
    prompt,
    reconstruct,
    runs,
    score,
    search,
    upscale,
)
from vqclip.cli.command import VERSION, App, Root, show_version
from vqclip.cli.console import Console, ReaderGone, close_quietly, open_streams
from vqclip.common.deferred import defer_imports
from vqclip.common.errors import ExitCode, OutputError, VqclipError
from vqclip.common.remarks import quiet_pillow

SELDOM = (50_000, 50, 50)
"""When Python looks for cyclic garbage: every 50,000 new objects, not every 700. Importing torch and open_clip makes a
million that stay; walking them over and over takes 0.7 s, and once more at exit as long (hence `gc.freeze`)."""

PLAIN = {
    "Input should be a valid integer, unable to parse string as an integer": "it must be a whole number",
    "Input should be a valid number, unable to parse string as a number": "it must be a number",
    "Input should be ": "it must be ",
}
"""How typer's checks speak ─▶ how we do."""

app = App(
    name="vqclip",
    cls=Root,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("generate")(generate.generate)
app.command("vary")(edit.vary)
app.command("edit")(edit.edit)
app.command("outpaint")(edit.outpaint)
app.command("interpolate")(edit.interpolate)
app.command("batch")(batch.batch)
app.command("sample")(generate.sample)
app.command("evaluate")(evaluate.evaluate)
app.command("reconstruct")(reconstruct.reconstruct)
app.command("upscale")(upscale.upscale)
app.command("score")(score.score)
app.command("classify")(classify.classify)
app.command("search")(search.search)
app.command("embed")(embed.embed)
app.command("gallery")(gallery.gallery)
app.command("resume")(runs.resume)
app.command("rerun")(runs.rerun)
app.command("info")(runs.info)
app.add_typer(models.app, name="models")
app.add_typer(config.app, name="config")
app.add_typer(prompt.app, name="prompt")
app.command("import-settings")(foreign.import_foreign)
app.command("doctor")(doctor.doctor)


@app.callback()
def _vqclip(
    version: Annotated[
        bool, typer.Option(*VERSION, callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Text-to-image in the terminal: VQGAN pictures guided by CLIP."""


def main() -> None:
    """Run the command line; every failure ends in one sentence on stderr and the contract's exit code.

    `VQCLIP_DEBUG=1` shows the traceback before it.
    """
    gc.set_threshold(*SELDOM)
    defer_imports()
    open_streams()
    quiet_pillow()
    try:
        code = app(prog_name="vqclip", standalone_mode=False) or ExitCode.DONE
    except BaseException as error:
        code = _explain(error)
    close_quietly()
    gc.freeze()
    sys.exit(int(code))


def _explain(error: BaseException) -> int:
    """Print what went wrong, and return the exit code."""
    console = Console(as_json="--json" in sys.argv[1:])
    if os.environ.get("VQCLIP_DEBUG") == "1" and not isinstance(error, SystemExit | ReaderGone | typer.TyperException):
        with contextlib.suppress(OutputError):
            console.trace(error)
    match error:
        case ReaderGone():
            return ExitCode.DONE
        case SystemExit() if isinstance(error.__context__, BrokenPipeError):  # typer makes 1 of it
            return ExitCode.DONE
        case SystemExit():
            return error.code if isinstance(error.code, int) else ExitCode.DONE
        case VqclipError():
            message, code = str(error), error.code
        case typer.Abort() | KeyboardInterrupt():
            message, code = "Stopped.", ExitCode.INTERRUPT
        case typer.TyperException():
            message, code = _usage(error), ExitCode.USAGE
        case _ if _is_out_of_memory(error):
            message, code = (
                "Not enough memory; make --size smaller, or give fewer or smaller pictures.",
                ExitCode.MEMORY,
            )
        case _:
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            message, code = f"vqclip has a bug: {what} (VQCLIP_DEBUG=1 shows where).", ExitCode.BUG
    with contextlib.suppress(ReaderGone, OutputError):
        console.error(message, code)
    return code


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ended; only where torch is there already could it have been its own."""
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from vqclip.common.runtime import is_out_of_memory

    return is_out_of_memory(error)


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "vqclip"
    sentence = reduce(lambda text, words: text.replace(*words), PLAIN.items(), error.format_message())
    return f"{sentence}{'' if sentence.endswith(('.', '?')) else '.'} See {command} -h."
