"""The console script `ringfence`."""

import sys
from importlib import import_module

__all__ = ["main"]

_COMMANDS = ("tools", "instruments", "opinions", "running", "living", "observing", "halting", "keeping", "reading",
             "books", "listing", "figures")  # fmt: skip
"""The modules that hold commands, in the order in which the help lists them."""


def main() -> None:
    """Run the command line of this process and leave with its exit code."""
    try:
        from ringfence.faces.cli.boundary import guarded

        code = guarded(_run)
    except KeyboardInterrupt:  # before anything of ours has begun
        code = 130
    sys.exit(code)


def _run() -> int | None:
    from typer.main import get_command

    from ringfence.faces.cli.app import app, refuse_passwords

    refuse_passwords(sys.argv[1:])
    for commands in _COMMANDS:
        import_module(f"ringfence.faces.cli.{commands}")
    command = get_command(app)
    with command.make_context("ringfence", sys.argv[1:]) as context:
        command.invoke(context)
    return 0
