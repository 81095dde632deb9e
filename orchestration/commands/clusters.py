"""The commands around clusters: `segline clusters fit|list|show|name`.

Belongs here: their arguments and what they print. Does not belong here: work (`orchestration.clustering`).
"""

import functools
from collections.abc import Callable
from typing import Annotated, Any

import typer

from orchestration.commands.drawing import bar, output, print_rows
from orchestration.commands.options import EXIT_LOCKED, Failure, settings_of

clusters_app = typer.Typer(
    no_args_is_help=True,
    help="Groups of alike customers: fit them, look at them, name them. Marketing or compliance (--side), never both.\n\n"
    "A fit reads only people whom the consent gate allows now, and takes as many clusters as come out again when people are "
    "drawn again; if none do, that is the result. It assigns from the next `segline run` on. Identifiers last from fit to fit; "
    "a name is approved by somebody other than whoever fitted.",
)
ByOption = Annotated[str, typer.Option("--by", help="Who does this; on record.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; on record.")]
SideOption = Annotated[
    str, typer.Option("--side", help="audience: marketing data; risk: compliance data. A clustering is of one side only.")
]


def _plain(command: Callable[..., Any]) -> Callable[..., Any]:
    """Errors that a user can mend end as text."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from orchestration.clustering.errors import ClusteringError
        from orchestration.run_lock import RunLocked

        try:
            return command(*args, **kwargs)
        except ClusteringError as error:
            raise Failure(f"{type(error).__name__}: {error}") from None
        except RunLocked as error:
            raise Failure(str(error), EXIT_LOCKED) from None

    return wrapped


@clusters_app.command("fit")
@_plain
def fit(by: ByOption, side: SideOption = "audience") -> None:
    """Fit clusters on the features of the newest build and put the result on record, stable or not.

    The same people give the same clusters. Nothing that is published changes before the next run.
    """
    from orchestration.clustering.lifecycle import fit_and_record
    from orchestration.clustering.sides import side_of

    with bar("fitting clusters"):
        found = fit_and_record(settings_of(), side_of(side), by)
    _print_trials(found.report)
    output.print(f"{found.document['version']}: {found.state}. {found.reason}", highlight=False, soft_wrap=True)
    for cluster in found.document["clusters"]:
        output.print(f"  {cluster['cluster_id']}  {cluster['people']:,} people: {cluster['profile']}", highlight=False)
    if found.document["clusters"]:
        first = found.document["clusters"][0]["cluster_id"]
        output.print(
            "It assigns from the next `segline run` on. Next, by another person:\n"
            f"  segline clusters show\n  segline clusters name {first} NAME --by NAME --reason TEXT",
            highlight=False,
        )


@clusters_app.command("list")
@_plain
def list_clusters(side: SideOption = "audience") -> None:
    """All fits, newest first, and the clusters of the newest with their approved names."""
    from orchestration.clustering.sides import side_of

    past, names = _record(side_of(side))
    rows = [
        (one.version, f"{one.fitted_at:%Y-%m-%d %H:%M}", one.fitted_by, f"{one.people:,}", one.state, one.sha256[:12])
        for one in reversed(past)
    ]
    print_rows(["version", "fitted (UTC)", "by", "people", "state", "sha256"], rows, "Fits")
    if not past:
        output.print("Nobody fitted yet: segline clusters fit --by NAME", highlight=False)
        return
    newest = past[-1]
    clusters = [
        (one["cluster_id"], names.get(one["cluster_id"], "(no name approved)"), f"{one['people']:,}", one["profile"])
        for one in newest.document["clusters"]
    ]
    if clusters:
        print_rows(["cluster", "name", "people", "what stands out"], clusters, newest.version)
    else:
        output.print(newest.reason, highlight=False, soft_wrap=True)


@clusters_app.command("show")
@_plain
def show(side: SideOption = "audience") -> None:
    """The newest fit in full: how stable each number of clusters was, every cluster beside the book, and the noise."""
    from orchestration.clustering.sides import side_of

    past, names = _record(side_of(side))
    if not past:
        raise Failure("nobody fitted yet: segline clusters fit --by NAME")
    newest = past[-1]
    output.print(f"{newest.version}: {newest.state}. {newest.reason}\n", highlight=False, soft_wrap=True)
    _print_trials(newest.report)
    for cluster, rows in newest.report.get("profiles", {}).items():
        title = f"{cluster} {names.get(cluster, '(no name approved)')}"
        overlap = newest.report["kept"].get(cluster)
        if overlap is not None:
            title += f", {overlap:.0%} of its people the same as before"
        lines = [(row["feature"], row["here"], row["book"], f"{row['deviations']:+.2f}") for row in rows]
        print_rows(["feature", "here", "book", "deviations"], lines, title)
    for density in (newest.report.get("density"), newest.report.get("nested_density")):
        if not density:
            continue
        output.print(
            f"By density ({density.get('method', 'DBSCAN')} on {density['sample']:,} people, the rest at the nearest of them "
            f"within reach): {density['groups']} dense groups, {density['noise_share']:.1%} of all people in none of them; "
            "by cluster "
            + ", ".join(f"{name} {share:.1%}" for name, share in density["noise_by_cluster"].items()),
            highlight=False,
            soft_wrap=True,
        )


@clusters_app.command("name")
@_plain
def name(
    cluster: Annotated[str, typer.Argument(help="Identifier of `segline clusters list`, such as A1.")],
    text: Annotated[str, typer.Argument(metavar="NAME", help="What people shall call it.")],
    by: ByOption,
    reason: ReasonOption,
    side: SideOption = "audience",
) -> None:
    """Approve a name; whoever fitted the clusters cannot. It is published from the next `segline run` on."""
    from orchestration.clustering.record import name_cluster
    from orchestration.clustering.sides import side_of

    name_cluster(settings_of(), side_of(side), cluster, text, by, reason)
    output.print(f"{cluster} is called {text} from the next run on, as long as it holds the same people.", highlight=False)


def _record(side: Any) -> tuple[list[Any], dict[str, str]]:
    from orchestration.clustering.record import history, names_of
    from orchestration.lake import open_lake

    with open_lake(settings_of(), read_only=True) as connection:
        return history(connection, side), names_of(connection, side)


def _print_trials(report: dict[str, Any]) -> None:
    rows = [
        (one["count"], f"{one['rand']:.3f}", f"{one['jaccard']:.3f}", f"{one['smallest_share']:.1%}") for one in report["trials"]
    ]
    if rows:
        columns = ["clusters", "adjusted Rand index", "least Jaccard", "smallest"]
        print_rows(columns, rows, "What comes out again when people are drawn again")
