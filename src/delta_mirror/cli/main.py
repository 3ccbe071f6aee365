"""`sync` and `delta-mirror`: the commands, what all of them take, and what an error means to the shell.

Invariants:

- Results go to standard output, everything else to standard error. A closed pipe ends silently.
- Nobody sees a traceback except for a defect of the program (exit 1).
- Nothing is imported that the command at hand does not need: each command lives in a module of its own.
"""

import importlib
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import click

from delta_mirror import __version__
from delta_mirror.cli.messages import complain, printable, set_up_messages
from delta_mirror.cli.output import ClosedPipeError, let_go, open_closed_streams, writing_results
from delta_mirror.errors import BusyError, DeltaMirrorError, RefusedError, UnfinishedError

EXIT_DEFECT = 1
EXIT_CODES: dict[type[DeltaMirrorError], int] = {RefusedError: 2, UnfinishedError: 3, BusyError: 4}
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM

COMMANDS = {
    "deltas": "Bring every configured stream up to date.",
    "full-starter": "Load a Starter Export as the new baseline.",
    "verify": "Compare the mirror with a Starter Export, and list what differs.",
    "status": "Show every stream: state, lag, watermark, records, last error.",
    "changes": "Show what changed: one line a change.",
    "quarantine": "Look at what could not be applied, try it again, or give it up.",
    "refetch": "Fetch single records anew.",
    "nexus": "Take SCRAM Nexus messages into the mirror.",
    "accela": "Tie mirrored people to Accela contacts, and push what changed.",
    "doctor": "Look for trouble: configuration, services, clock, mirror, disk; and what to do about it.",
    "backup": "Copy the mirror to a file, also while a run writes.",
    "prune": "Forget old entries of the logs; say what is kept, and why.",
    "erase": "Remove a person everywhere in the mirror, and keep them from coming back.",
    "demo": "Show the whole thing on a simulated salon; no account needed.",
}


@dataclass(frozen=True, slots=True)
class Globals:
    """What was said before the command."""

    config: str | None
    verbose: bool
    quiet: bool
    log_format: str

    @property
    def as_lines(self) -> bool:
        """Whether progress is told in lines of its own, and not in one that is written over."""
        return self.verbose or self.log_format == "json"


class Commands(click.Group):
    """The commands, each imported when it is called; their short help stands here so that `--help` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which a person meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"delta_mirror.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that *args* begin with; where there is none, say which was perhaps meant."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"No such command {args[0]!r}.{f' Did you mean {near[0]!r}?' if near else ''}")
        return super().resolve_command(ctx, args)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return the context of a call; `--help` and `--version` have been answered by then."""
        with writing_results():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Return what the command returns, its output written out."""
        with writing_results():
            try:
                returned: object = super().invoke(ctx)
            except EOFError as error:  # click would take it for the end of an input that it had prompted for
                raise RuntimeError("a file ends too early") from error
        return returned

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples:\n  sync demo                            see it at work, without an account\n"
    "  sync --config PATH deltas            bring the mirror up to date\n"
    "  sync --quiet --config PATH deltas    the same from cron: only trouble is said\n\n"
    "Exit codes: 0 all done, 2 refused, 3 not all done, 4 another run holds the mirror, 5 a check does not hold.",
)
@click.option("--config", metavar="PATH", help="The configuration file; else $DELTA_MIRROR_CONFIG, ./config.toml, the user's.")
@click.option("--verbose", is_flag=True, help="Tell of every call: path, status, time, RequestId.")
@click.option("--quiet", is_flag=True, help="Say nothing at all on success.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="How messages are written.")
@click.version_option(__version__, prog_name="delta-mirror", message="%(prog)s %(version)s")
@click.pass_context
def sync(ctx: click.Context, config: str | None, *, verbose: bool, quiet: bool, log_format: str) -> None:
    """Keep an exact, queryable copy of a service's records in one SQLite file."""
    ctx.obj = Globals(config, verbose, quiet, log_format)
    set_up_messages(verbose=verbose, quiet=quiet, log_format=log_format)
    if ctx.invoked_subcommand is None:
        raise RefusedError(
            "no command was given. `sync --help` lists them. (If you meant sync(1), which flushes file systems: "
            "that is /bin/sync; this one hides it inside a virtual environment.)"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    open_closed_streams()
    set_up_messages(verbose=False, quiet=False, log_format="text")
    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    let_go()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        code = sync.main(list(arguments), prog_name=_called_as(), standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption) and error.option_name in _general_options():
            there = f"{_called_as()} {error.option_name} ..."
            error = click.UsageError(f"{error.message} It stands before the command: {there}", error.ctx)
        told = StringIO()
        error.show(told)
        # It repeats what was typed; line ends and tabs are click's own.
        sys.stderr.write("".join(each if each in "\n\t" else printable(each) for each in told.getvalue()))
        return 2
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except ClosedPipeError:
        let_go()
        return 0
    except DeltaMirrorError as error:
        complain(str(error))
        return next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
    return code if isinstance(code, int) else 0


def _general_options() -> set[str]:
    return {name for option in sync.params for name in option.opts}


def _called_as() -> str:
    return Path(sys.argv[0]).name if Path(sys.argv[0]).name in ("sync", "delta-mirror") else "sync"
