"""`sync` and `delta-mirror`: the commands, what all of them take, and what an error means to the shell.

Invariants:

- Results go to standard output, everything else to standard error. A closed pipe ends silently.
- Nobody sees a traceback except for a defect of the program (exit 1).
- Nothing is imported that the command at hand does not need: each command lives in a module of its own.
"""

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from delta_mirror import __version__
from delta_mirror.cli.messages import complain, set_up_messages
from delta_mirror.errors import BusyError, DeltaMirrorError, RefusedError, UnfinishedError

EXIT_DEFECT = 1
EXIT_CODES: dict[type[DeltaMirrorError], int] = {RefusedError: 2, UnfinishedError: 3, BusyError: 4}
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM

COMMANDS = {
    "deltas": "Bring every configured stream up to date.",
    "status": "Show every stream: state, lag, watermark, records, last error.",
    "changes": "Show what changed: one line a change.",
    "quarantine": "Look at what could not be applied, try it again, or give it up.",
    "refetch": "Fetch single records anew.",
    "demo": "Show the whole thing on a simulated salon; no account needed.",
}


@dataclass(frozen=True, slots=True)
class Globals:
    """What was said before the command."""

    config: str | None
    verbose: bool
    quiet: bool
    log_format: str


class _ClosedPipeError(Exception):
    """Whoever read our standard output has enough. No OSError, because click would make exit code 1 of that."""


class Commands(click.Group):
    """The commands, each imported when it is called; their short help stands here so that `--help` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which a person meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"delta_mirror.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Return what the command returns, its output written out.

        Raises:
            _ClosedPipeError: nobody reads it any more.
        """
        try:
            returned: object = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise _ClosedPipeError from error
        return returned

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all done, 2 refused, 3 not all done, 4 another run holds the mirror, 5 a check does not hold.",
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
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        code = sync.main(list(arguments), prog_name=_called_as(), standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except _ClosedPipeError:
        # Python would complain once more when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except DeltaMirrorError as error:
        complain(str(error))
        return next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
    return code if isinstance(code, int) else 0


def _called_as() -> str:
    return Path(sys.argv[0]).name if Path(sys.argv[0]).name in ("sync", "delta-mirror") else "sync"
