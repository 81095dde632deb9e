"""The commands of the master keys: `keys status|rotate`."""

import typer

keys_app = typer.Typer(no_args_is_help=True, help="The master keys.")


@keys_app.callback()
def keys() -> None:
    """The master keys."""
