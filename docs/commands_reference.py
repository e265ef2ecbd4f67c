"""Writes the table of ``commands.md`` from the commands: ``python -m docs.commands_reference``.

A test compares the page with what this writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from flask_genesys_auth.cli import genesys_auth

PAGE = Path(__file__).with_name("commands.md")
BEGIN, END = "<!-- from the commands -->\n", "<!-- until here -->\n"


def commands(group: click.Group = genesys_auth, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield each command with what is typed after ``flask genesys-auth``, in the order of the groups."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def written(page: str) -> str:
    """Return the page with the table of the commands.

    :raises LookupError: if the page has no markers for it.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise LookupError("commands.md has no markers for the table")
    rows = [_row(name, command) for name, command in commands()]
    table = "\n".join(["| command | | options |", "|---|---|---|", *rows, ""])
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _row(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    arguments = [
        parameter.make_metavar(context) if _takes_context(parameter) else parameter.make_metavar()  # type: ignore[call-arg]
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    ]
    usage = " ".join([name, *arguments])
    options = [_option(parameter, context) for parameter in command.params if isinstance(parameter, click.Option)]
    first, _, _ = (command.help or command.short_help or "").partition("\n\n")
    text = " ".join(first.replace("\b", "").split())
    cells = (f"`{usage}`", text, "<br>".join(one for one in options if one))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _takes_context(parameter: click.Parameter) -> bool:
    # click 8.2 and later need the context.
    return parameter.make_metavar.__code__.co_argcount > 1


def _option(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    if record is None:
        return ""
    return f"`{record[0]}` {record[1]}".strip()


def main() -> None:
    """Write the page."""
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")


if __name__ == "__main__":
    main()
