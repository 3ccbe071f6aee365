"""How `sync demo` tells its story: what comes next, the calls that it makes, what a query answers."""

from pathlib import Path

import click


def call_sync(config: Path, *arguments: str) -> int:
    """Show a call, make it, and return its exit code."""
    from delta_mirror.cli.main import run

    click.echo(f"$ sync {' '.join(arguments)}")
    return run(["--config", str(config), *arguments])


def show_query(mirror: Path, query: str) -> None:
    """Show *query* and what the mirror answers to it, as a table."""
    from delta_mirror.mirror.read import Reader

    with Reader.open(mirror) as reader:
        names, rows = reader.ask(query)
    click.echo("\n".join(f"  {line}" for line in query.splitlines()))
    table = [names, *([("" if value is None else str(value)) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(names))]
    for row in table:
        click.echo("  | " + " | ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)) + " |")


def step(*lines: str) -> None:
    """Say what comes next."""
    click.echo("")
    say(*lines)


def say(*lines: str) -> None:
    """Say *lines*."""
    for line in lines:
        click.echo(line)
