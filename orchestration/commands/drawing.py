"""How commands show things: progress bars on standard error, tables on standard output.

Belongs here: drawing. Does not belong here: what is drawn.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(stderr=True)
output = Console()


@contextmanager
def bar(title: str) -> Iterator[None]:
    """A progress bar fed by `progress.report`; plain lines where the output is no terminal."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from orchestration import progress

    if not console.is_terminal:
        said: list[str] = []

        def say(stage: str, fraction: float) -> None:
            if stage not in said[-1:]:
                said.append(stage)
                console.print(f"  {stage} …", highlight=False)

        console.print(f"{title} …", highlight=False)
        with progress.watched_by(say):
            yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as drawn:
        task = drawn.add_task(title, total=None)

        def draw(stage: str, fraction: float) -> None:
            drawn.update(task, description=stage, total=1.0 if fraction else None, completed=fraction)

        with progress.watched_by(draw):
            yield


def print_rows(columns: list[str], rows: list, title: str | None = None) -> None:
    """Write rows (a list of sequences) as a table; columns of whole numbers stand to the right."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        numeric = bool(rows) and all(str(row[columns.index(column)]).replace(",", "").isdigit() for row in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    output.print(table)
    output.print()
