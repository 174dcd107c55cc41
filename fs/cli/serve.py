"""`firepond serve`: any set of roles in this process, in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from firepond.fs.cli.options import ConfigOption, SetOption, load_settings
from firepond.fs.errors import ConfigInvalid


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(serve)


def serve(
    roles: Annotated[str, typer.Option(help="Some of manager,meta,storage.")],
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Run roles in this process until SIGTERM; logs go to standard error as JSON lines.

    Settings come from defaults, the file, FIREPOND_SECTION__KEY and --set; later ones win.
    `firepond admin config` prints all of them.
    """
    known = ("manager", "meta", "storage")
    wanted = list(dict.fromkeys(part.strip() for part in roles.split(",") if part.strip()))
    for role in wanted:
        if role not in known:
            raise ConfigInvalid("no such role", {"role": role, "roles": ", ".join(known)})
    if not wanted:
        raise ConfigInvalid("name at least one role", {"roles": ", ".join(known)})
    settings = load_settings(config, assignments).settings
    from firepond.fs.service.process import serve as run

    run(settings, wanted)
