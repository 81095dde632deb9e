"""The plots of a model: calibration, capture, drift, groups. Each is drawn from figures of a report, never from rows.

Belongs here: what a plot looks like. Does not belong here: its figures (`curves`, `drift`, `fairness`), rendering.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.rendering import BAR, COLOURS, INK, WIDTH, markdown_picture, svg_file

HEADLINE = 0.05
HEIGHT = 300
MOST_GROUPS = 30
TITLES = {
    "calibration": "Calibration: incidents that came against those that the score announced",
    "capture": "Capture: share of incidents found against share of customers flagged",
    "fairness": "Share flagged by group; of those without an incident, where that may be told",
    "drift": "Drift: PSI of each feature and of the score against what chance gives",
}


def of_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """The charts that a training's or an evaluation's report allows, by name; none is drawn of figures that are missing."""
    found = {}
    if report.get("calibration_bins"):
        found["calibration"] = calibration(report["calibration_bins"])
    if report.get("capture_curves"):
        found["capture"] = capture(report["capture_curves"], report.get("capture_headline"))
    if any(report.get("fairness", {}).values()):
        found["fairness"] = fairness(report["fairness"])
    if report.get("drift"):
        found["drift"] = drift(report["drift"])
    return found


def calibration(bins: Sequence[Mapping[str, float]]) -> Any:
    """Observed against expected rate per bin, with intervals and the line of perfect calibration; both axes logarithmic, for
    incidents are rare."""
    import altair as alt

    least = min(min(row["expected"], row["low"]) for row in bins) or 1e-6
    least = max(min(least, min(row["expected"] for row in bins)), 1e-5)
    most = max(max(row["expected"], row["high"]) for row in bins)
    values = [{**row, "low": max(row["low"], least), "observed": max(row["observed"], least)} for row in bins]
    scale = alt.Scale(type="log", domain=[least * 0.9, most * 1.1], nice=False)
    x = alt.X("expected:Q", title="expected rate", scale=scale, axis=alt.Axis(format="~p", tickCount=6))
    base = alt.Chart(alt.Data(values=values)).encode(x=x)
    y = alt.Y("low:Q", title="observed rate, 90 % interval", scale=scale, axis=alt.Axis(format="~p", tickCount=6))
    line = [{"expected": least, "observed": least}, {"expected": most, "observed": most}]
    perfect = alt.Chart(alt.Data(values=line)).mark_line(color="#999999", strokeDash=[4, 4])
    drawn = (
        perfect.encode(x=x, y=alt.Y("observed:Q", scale=scale))
        + base.mark_rule(color=BAR).encode(y=y, y2="high:Q")
        + base.mark_point(color=BAR, filled=True, size=70).encode(y=alt.Y("observed:Q", scale=scale))
    )
    return drawn.properties(width=WIDTH, height=HEIGHT, title=TITLES["calibration"])


def capture(curves: Mapping[str, Sequence[Mapping[str, float]]], headline: Mapping[str, float] | None = None) -> Any:
    """One line per model, and the 5 % flagged marked with what is captured there."""
    import altair as alt

    values = [{**point, "model": name} for name, points in curves.items() for point in points]
    names = list(curves)
    percent = alt.Axis(format=".0%", tickCount=6)
    lines = (
        alt.Chart(alt.Data(values=values))
        .mark_line(point=True)
        .encode(
            x=alt.X("flagged:Q", title="share of customers flagged", axis=percent),
            y=alt.Y("captured:Q", title="share of incidents captured", axis=percent),
            color=alt.Color(
                "model:N",
                title=None,
                scale=alt.Scale(domain=names, range=[COLOURS[place % len(COLOURS)] for place in range(len(names))]),
                legend=alt.Legend(orient="bottom", columns=4),
            ),
        )
    )
    chance = alt.Chart(alt.Data(values=[{"x": 0, "y": 0}, {"x": 1, "y": 1}])).mark_line(color="#999999", strokeDash=[4, 4])
    place = {"x": HEADLINE, "y": 0.04, "text": f"{HEADLINE:.0%} flagged"}
    if headline:
        place |= {name: headline[name] for name in ("value", "low", "high")}
        place["text"] += f": {headline['value']:.0%} captured ({headline['low']:.0%} to {headline['high']:.0%})"
    mark = alt.Chart(alt.Data(values=[place])).encode(x="x:Q")
    drawn = chance.encode(x="x:Q", y="y:Q") + lines + mark.mark_rule(color=INK, strokeDash=[2, 2])
    drawn += mark.mark_text(align="left", dx=5, color=INK).encode(y="y:Q", text="text:N")
    if headline:
        drawn += mark.mark_rule(color=INK, strokeWidth=3).encode(y="low:Q", y2="high:Q")
        drawn += mark.mark_point(color=INK, filled=True, size=80).encode(y="value:Q")
    return drawn.properties(width=WIDTH, height=HEIGHT, title=TITLES["capture"])


def drift(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A bar per feature and for the score, largest first, each with the limit from which it counts as drift."""
    import altair as alt

    ordered = sorted(rows, key=lambda row: (row["name"] != "score", -row["psi"]))
    values = [{"name": row["name"], "psi": row["psi"], "limit": row["alarm_from"], "drifted": row["drifted"]} for row in ordered]
    most = 1.05 * max(0.1, *(value for row in values for value in (row["psi"], row["limit"]) if value != float("inf")))
    values = [{**row, "limit": min(row["limit"], most)} for row in values]
    base = alt.Chart(alt.Data(values=values)).encode(y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=260)))
    x = alt.X("psi:Q", title="PSI against the training rows; the tick is the limit", scale=alt.Scale(domain=[0, most]))
    bars = base.mark_bar().encode(x=x, color=alt.condition("datum.drifted", alt.value("#d55e00"), alt.value(BAR)))
    ticks = base.mark_tick(color=INK, thickness=2).encode(x=alt.X("limit:Q"))
    return (bars + ticks).properties(width=WIDTH, height=alt.Step(16), title=TITLES["drift"])


def fairness(report: Mapping[str, Sequence[Mapping[str, Any]]]) -> Any:
    """Per attribute and group the share of the good (or of all, where outcomes are not known) that is flagged, with its
    interval; groups that differ beyond chance and beyond the limit in orange. Of very many groups those are shown that differ,
    and those that are flagged most."""
    import altair as alt

    values = []
    for attribute, rows in report.items():
        for row in rows:
            share = "good_flagged" if row.get("good_flagged_share") is not None else "flagged"
            if row.get(f"{share}_share") is None:
                continue
            values.append(
                {
                    "name": f"{attribute}: {row['group']}", "share": row[f"{share}_share"], "low": row[f"{share}_low"],
                    "high": row[f"{share}_high"], "unequal": bool(row.get("unequal")),
                }
            )  # fmt: skip
    if len(values) > MOST_GROUPS:
        farthest = sorted(range(len(values)), key=lambda place: (not values[place]["unequal"], -values[place]["share"]))
        values = [values[place] for place in sorted(farthest[:MOST_GROUPS])]
    base = alt.Chart(alt.Data(values=values)).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=260)),
        color=alt.condition("datum.unequal", alt.value("#d55e00"), alt.value(BAR)),
    )
    title = "share flagged, 90 % interval"
    drawn = base.mark_rule().encode(x=alt.X("low:Q", title=title, axis=alt.Axis(format="~p")), x2="high:Q")
    drawn += base.mark_point(filled=True, size=60).encode(x="share:Q")
    return drawn.properties(width=WIDTH, height=alt.Step(18), title=TITLES["fairness"])


def pictures(report: Mapping[str, Any]) -> dict[str, str]:
    """The report's charts as pictures within Markdown, by name."""
    return {name: markdown_picture(chart, TITLES[name]) for name, chart in of_report(report).items()}


def within(text: str, drawn: Mapping[str, str]) -> str:
    """Markdown with its pictures in it instead of beside it: a page of Dagster's cannot open a file."""
    for name, picture in drawn.items():
        text = text.replace(beside(name), picture)
    return text


def beside(name: str) -> str:
    """Markdown that names the picture's file."""
    return f"![{TITLES[name]}]({name}.svg)"


def files(report: Mapping[str, Any]) -> dict[str, str]:
    """The report's charts as SVG documents by file name; the same figures give the same bytes."""
    return {f"{name}.svg": svg_file(chart, TITLES[name]) for name, chart in of_report(report).items()}
