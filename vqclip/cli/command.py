"""How every command reads its words and shows its help; `app` and its groups are made of these."""

from functools import partialmethod
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from vqclip.cli.words import PROMPT, first_word, our_words


class Command(TyperCommand):
    """A command that understands other tools' option names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words behind the command."""
        return super().parse_args(
            ctx, args if ctx.resilient_parsing else our_words(args, self._known(ctx), ctx.command_path)
        )

    def _known(self, ctx: Any) -> dict[str, bool]:
        """Each option's names, with whether it takes a value."""
        known: dict[str, bool] = {}
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
        return super().parse_args(ctx, args or ["--help"])


class Root(Group):
    """`vqclip` itself: a first word that is no command is a prompt to draw."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read all words."""
        return super().parse_args(ctx, first_word(args, self.commands) if args and not ctx.resilient_parsing else args)


class App(typer.Typer):
    """A set of commands of the class `Command`."""

    command = partialmethod(typer.Typer.command, cls=Command)
