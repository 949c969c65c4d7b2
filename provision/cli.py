"""`rentune`, `plan` and `provision-and-run`: the umbrella over all commands.

Nothing but click is imported here, not even what most commands need (msgspec and pathlib are a quarter of `--help`): a
command's code is loaded when that command is asked for, so planning loads neither Pulumi nor SSH.
"""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Literal, NamedTuple

import click

from planner.asking.options.plain import PlainCommand, PlainOption, help_option, with_dashes
from provision import output

# measured: collections take 5 % of `rentune plan`, and find nothing there (25 pairs of runs, Python 3.11, 2026-11-26)
NEW_OBJECTS_BEFORE_COLLECTION = 50_000
HELP = ("-h", "--help")


class Entry(NamedTuple):
    """One command: where its help stands, where its code lies, its line in `rentune --help`, when it looks for runs that
    nobody controls (`run` may take hours, so before it rents; others once they have done what they were asked), and whether
    it acts on a run: such a one comes to its end whether or not anybody reads what it prints.
    """

    group: str
    module: str
    help: str
    looks: Literal["never", "before", "after"] = "never"
    acts: bool = False


COMMANDS: dict[str, Entry] = {
    "plan": Entry("Plan", "provision.commands.plan", "Rank the ways to do a job by what the whole job costs."),
    "estimate": Entry("Plan", "provision.commands.estimate", "Memory and time of one training configuration."),
    "check": Entry("Plan", "provision.commands.check", "Look through a data file or a job file before paying."),
    "quantize": Entry(
        "Plan", "provision.commands.quantize", "Pack a base in 4 or 8 bits on this disk, before anything is rented."
    ),
    "catalog": Entry("Plan", "provision.commands.catalog", "What can be rented, at which price, seen when."),
    "run": Entry(
        "Run", "provision.commands.run", "Rent, train, bring the adapter home, tear down, account.", looks="before", acts=True
    ),
    "ls": Entry("Run", "provision.commands.ls", "Runs, and what may still bill.", looks="after"),
    "logs": Entry("Run", "provision.commands.logs", "What a run's trainer said, live or from any offset.", looks="after"),
    "resume": Entry(
        "Run", "provision.commands.resume", "Take control of a run again, wherever it stands.", looks="after", acts=True
    ),
    "down": Entry(
        "Run", "provision.commands.down", "End a run, or everything of yours that nobody controls.", looks="after", acts=True
    ),
    "doctor": Entry("Run", "provision.commands.doctor", "What is there, what is missing, how to get it.", looks="after"),
    "report": Entry(
        "Account", "provision.commands.report", "Planned against metered: one run, or many added up.", looks="after"
    ),
}


class Umbrella(PlainCommand, click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = importlib.import_module(entry.module).command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}{_nearest(args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for group in dict.fromkeys(entry.group for entry in COMMANDS.values()):
            with formatter.section(group):
                formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items() if entry.group == group])


def _nearest(word: str) -> str:
    from planner.nearest import near

    found = near(word, COMMANDS)
    return f"; did you mean {found!r}?" if found else f"; the commands are {', '.join(COMMANDS)}"


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's signature
    if wanted:
        from provision import __version__

        click.echo(f"rentune {__version__}")
        ctx.exit()


@click.command(cls=Umbrella, context_settings={"help_option_names": list(HELP), "token_normalize_func": with_dashes})
@click.option(
    "--version",
    cls=PlainOption,
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version.",
)
@help_option(*HELP)
def rentune() -> None:
    """Rent a GPU, tune a model, pay only for what you planned."""


def call(arguments: list[str]) -> int:
    """Run the command line `arguments` and return its exit code. What goes wrong is said in one sentence on stderr."""
    looks = _looks(arguments)
    if looks == "before":
        _tell_forsaken(arguments)
    code = _called(arguments)
    if looks == "after":
        _tell_forsaken(arguments)
    return code


def _looks(arguments: list[str]) -> str:
    """When this very command looks for runs that nobody controls; never where it only explains itself."""
    entry = COMMANDS.get(arguments[0]) if arguments else None
    return "never" if entry is None or not set(HELP).isdisjoint(arguments) else entry.looks


def _tell_forsaken(words: list[str]) -> None:
    """And see that somebody ends them. A home or a ledger that can't be read the command tells of itself."""
    import os
    import time
    from contextlib import suppress

    from provision.charge.guard import set_again
    from provision.charge.ownerless.forsaken import forsaken_runs, forsaken_sentence
    from provision.errors import RentuneError
    from provision.home.places import read_places

    with suppress(RentuneError, OSError):
        places, now_s = read_places(), time.time()
        forsaken = forsaken_runs(places, now_s=now_s)
        if sentence := forsaken_sentence(words, forsaken, now_s=now_s):
            click.echo(sentence, err=True)
        set_again(forsaken, places, os.environ)


def _called(arguments: list[str]) -> int:
    try:
        code = rentune.main(arguments, prog_name="rentune", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - the outermost frame: known failures are told, others pass through
        from provision.envelope.failure import tell

        return tell(error, arguments)
    except KeyboardInterrupt:
        from provision.errors import Exit

        click.echo("Interrupted.", err=True)
        return Exit.INTERRUPTED
    return code if isinstance(code, int) else 0


def main(words: list[str] | None = None) -> int:
    """`rentune WORDS`; without any, those that the process was given."""
    words = sys.argv[1:] if words is None else words
    _prepare(words)
    code = call(words)
    output.flush()
    return code


def _prepare(words: list[str]) -> None:
    """Once for the process: what is made at start-up stays, so it is not searched for garbage; output can't fail."""
    gc.set_threshold(NEW_OBJECTS_BEFORE_COLLECTION)
    entry = COMMANDS.get(words[0]) if words else None
    output.make_safe(outlives_reader=entry is not None and entry.acts)
