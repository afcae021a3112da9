"""How every command reads its words and shows its help; `app` and its groups are made of these."""

from collections.abc import Mapping
from functools import partialmethod
from inspect import cleandoc
from itertools import takewhile
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from vqclip import __version__
from vqclip.cli.console import Console
from vqclip.cli.options import defaults
from vqclip.cli.words import PROMPT, first_word, our_words
from vqclip.common.errors import UsageError

FILES = ("FILE", "FOLDER", "DIR", "IMAGE", "PATH", "JOBS", "RUN")
"""What stands in the metavar of a parameter that names a file or folder."""

VERSION = ("--version", "-V")
"""What shows the version, behind any command too."""

EXAMPLE = ": vqclip "
"""Parts the first line of a command's docstring: what it does, and an example of it."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Results": ("output", "save_every", "video", "fps", "no_metadata", "tag", "overwrite", "as_json"),
    "Models and machine": ("perceptor", "device", "threads", "offline", "pull"),
    "Messages": ("preview", "opens", "quiet", "verbose", "dry_run", "help"),
}
"""Headings of the help, with the options under them; the others come first."""


class Command(TyperCommand):
    """A command that understands other tools' option names, and shows an example and its defaults."""

    def get_short_help_str(self, limit: int = 0) -> str:
        """What the command does, whole."""
        return _summary(self.help)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what the command does, the rest of its docstring, and the example."""
        first, _, rest = cleandoc(self.help or "").partition("\n")
        _, found, example = first.partition(EXAMPLE)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text("\n\n".join(filter(None, [_summary(first), rest.strip()])))
        if found:
            formatter.write(f"\n  Example: vqclip {example.rstrip('.')}\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options under their headings."""
        headings = {name: heading for heading, names in GROUPS.items() for name in names}
        found: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], **{each: [] for each in GROUPS}}
        known = defaults(self)
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                is_argument = isinstance(param, TyperArgument)
                name, help_ = (record[0].partition(" <list")[0], record[1]) if is_argument else record
                note = f"  [default: {known[param.name]}]" if param.name in known else ""
                heading = "Arguments" if is_argument else headings.get(str(param.name), "Options")
                found[heading].append((name, help_ + note))
        for heading, records in found.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words behind the command."""
        if not ctx.resilient_parsing:
            args = our_words(args, self._known(ctx), ctx.command_path)
            show_version(any(word in VERSION for word in takewhile(lambda word: word != "--", args)))
            self._check_filled(ctx, args)
        return super().parse_args(ctx, args)

    def _check_filled(self, ctx: Any, args: list[str]) -> None:
        """Refuse an empty word where a file or folder is meant, as a script's unset variable is: to Path it is `.`."""
        given = self.make_parser(ctx).parse_args(list(args))[0]
        for param in self.get_params(ctx):
            named = any(kind in str(param.metavar) for kind in FILES)
            values = given.get(str(param.name))
            if named and "" in (values if isinstance(values, list | tuple) else [values]):
                kinds = str(param.metavar).strip("[].").split("|")
                name = max(param.opts, key=len) if isinstance(param, TyperOption) else "|".join(kinds)
                files = all(kind.startswith(FILES) for kind in kinds)
                fits = "name a file or folder" if files else f"give {' or '.join(kinds)}"
                raise UsageError(f"{name} is empty; {fits}{'' if param.required else ', or leave it out'}.")

    def _known(self, ctx: Any) -> dict[str, bool]:
        """Each option's names, with whether it takes a value."""
        known: dict[str, bool] = dict.fromkeys(VERSION, False)
        for param in self.get_params(ctx):
            if isinstance(param, TyperOption):
                known |= dict.fromkeys([*param.opts, *param.secondary_opts], not (param.is_flag or param.count))
            elif isinstance(param, TyperArgument) and param.name == "prompts":
                known[PROMPT] = True
        return known


class Group(TyperGroup):
    """A group of commands; alone it shows its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words behind the group."""
        show_version(bool(args and ctx.parent and not ctx.resilient_parsing) and args[0] in VERSION)
        return super().parse_args(ctx, args or ["--help"])


class Root(Group):
    """`vqclip` itself: a first word that is no command is a prompt to draw."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read all words."""
        return super().parse_args(ctx, first_word(args, self.commands) if args and not ctx.resilient_parsing else args)


class App(typer.Typer):
    """A set of commands of the class `Command`."""

    command = partialmethod(typer.Typer.command, cls=Command)


def show_version(wanted: bool) -> None:
    """Show the version and end the command, if that is `wanted`."""
    if wanted:
        Console().text(f"vqclip {__version__}\n")
        raise typer.Exit


def _summary(help_: str | None) -> str:
    """The first line of a docstring, without its example."""
    summary = cleandoc(help_ or "").partition("\n")[0].partition(EXAMPLE)[0].rstrip(".")
    return f"{summary}." if summary else ""
