"""The entry point: finds the command, imports only its module, turns errors into one line.

Owns: exit codes (0 done, 1 failed, 2 wrong usage or configuration) and the form of errors:
`error: what / next: what to do`. No traceback ever reaches the user of a command.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

# The module that registers each command. Looked up by the first word, so that no command pays for
# the imports of another.
MODULES = {
    "up": "firepond.fs.cli.up",
    "down": "firepond.fs.cli.down",
    "status": "firepond.fs.cli.status",
    "serve": "firepond.fs.cli.serve",
    "doctor": "firepond.fs.cli.doctor",
    "bench": "firepond.fs.cli.bench",
    "admin": "firepond.fs.cli.admin",
    "ls": "firepond.client.commands",
    "cp": "firepond.client.commands",
    "cat": "firepond.client.commands",
    "stat": "firepond.client.commands",
    "mount": "firepond.client.mount",
    "umount": "firepond.client.mount",
}


def make_app(words: Sequence[str] = ()) -> typer.Typer:
    """The commands; only the one that `words` names, if it names one."""
    app = typer.Typer(
        name="firepond",
        help="A distributed file system with a KV-cache tier. Start with `firepond up`.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback()
    def root(
        _: Annotated[
            bool,
            typer.Option("--version", callback=_show_version, is_eager=True, help="The version."),
        ] = False,
    ) -> None:
        """A distributed file system with a KV-cache tier. Start with `firepond up`."""

    first = next((word for word in words if not word.startswith("-")), "")
    modules = [MODULES[first]] if first in MODULES else dict.fromkeys(MODULES.values())
    for module in modules:
        importlib.import_module(module).register(app)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        from firepond import __version__

        print(f"firepond {__version__}")
        raise typer.Exit


def main() -> None:
    """Runs the command line and exits."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs a command line; its exit code."""
    from firepond.fs.errors import ConfigInvalid, FirepondError

    try:
        code = make_app(arguments)(
            args=list(arguments), prog_name="firepond", standalone_mode=False
        )
        return code if isinstance(code, int) else 0
    except ConfigInvalid as error:
        return _fail(_text(error), error.next_step, 2)
    except FirepondError as error:
        return _fail(_text(error), error.next_step, 1)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", "run it again", 130)
    except BrokenPipeError:
        return 0  # The reader of our output, `head` for one, has enough.
    except OSError as error:
        return _fail(str(error), "look at the path or the permission that it names", 1)
    except Exception as error:
        if not hasattr(error, "format_message"):
            return _fail(f"a defect of firepond: {error!r}", "report it with this line", 1)
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message(), file=sys.stderr)
            return 2
        return _fail(_usage(error), f"`{_command(error)} --help` shows how it is used", 2)


def _fail(what: str, next_step: str, code: int) -> int:
    step = "" if next_step in ("", "none") else f" / next: {next_step}"
    print(f"error: {' '.join(what.split())}{step}", file=sys.stderr)
    return code


def _text(error: Any) -> str:
    """Kind, message and context, without the next step."""
    context = ", ".join(f"{key}={value}" for key, value in error.context.items())
    text = error.message or error.summary
    return f"{error.kind} [{error.code}]: {text}" + (f" ({context})" if context else "")


def _usage(error: Any) -> str:
    return str(error.format_message()).rstrip(".")


def _command(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return str(context.command_path) if context is not None else "firepond"
