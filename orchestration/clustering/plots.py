"""The plots of a fit: each cluster beside the book, and how stable each number of clusters was.

Belongs here: what a plot looks like, drawn from the report of a fit. Does not belong here: its figures (`fitting`), rendering. No
point stands for a person: a cell is the mean of a cluster, which has a hundred people at least.
"""

from collections.abc import Mapping
from typing import Any

from orchestration.clustering.stability import LEAST_RAND
from orchestration.rendering import BAR, INK, WIDTH, markdown_picture

TITLES = {
    "profiles": "What sets each cluster apart: standard deviations from the book",
    "stability": "Which number of clusters comes out again when people are drawn again",
}
FARTHEST = 2.0


def of_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """The charts that the report of a fit allows, by name."""
    found = {}
    if report.get("profiles"):
        found["profiles"] = profiles(report["profiles"])
    if report.get("trials"):
        found["stability"] = stability(report["trials"])
    return found


def profiles(rows: Mapping[str, Any]) -> Any:
    """A heat map of clusters by features: above the book's mean orange, below it blue, with the number."""
    import altair as alt

    values = [
        {"cluster": cluster, "feature": row["feature"], "deviations": row["deviations"], "text": f"{row['deviations']:+.1f}"}
        for cluster, features in rows.items()
        for row in features
    ]
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X("cluster:N", title="cluster", sort=None, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("feature:N", title=None, sort=None, axis=alt.Axis(labelLimit=260)),
    )
    scale = alt.Scale(domain=[-FARTHEST, 0, FARTHEST], range=["#0072b2", "#ffffff", "#e69f00"], clamp=True)
    cells = base.mark_rect().encode(color=alt.Color("deviations:Q", title="deviations", scale=scale))
    drawn = cells + base.mark_text(color=INK).encode(text="text:N")
    return drawn.properties(width=WIDTH, height=alt.Step(26), title=TITLES["profiles"])


def stability(trials: list[Mapping[str, Any]]) -> Any:
    """The adjusted Rand index of each number of clusters, and the least that is asked."""
    import altair as alt

    values = [{"count": trial["count"], "rand": trial["rand"]} for trial in trials]
    base = alt.Chart(alt.Data(values=values)).encode(x=alt.X("count:O", title="clusters", axis=alt.Axis(labelAngle=0)))
    y = alt.Y("rand:Q", title="adjusted Rand index", scale=alt.Scale(domain=[0, 1]))
    limit = alt.Chart(alt.Data(values=[{"least": LEAST_RAND}])).mark_rule(color=INK, strokeDash=[4, 4]).encode(y="least:Q")
    return (base.mark_bar(color=BAR).encode(y=y) + limit).properties(width=WIDTH, height=220, title=TITLES["stability"])


def pictures(report: Mapping[str, Any]) -> dict[str, str]:
    """The charts as pictures within Markdown, by name."""
    return {name: markdown_picture(chart, TITLES[name]) for name, chart in of_report(report).items()}
