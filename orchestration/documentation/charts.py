"""The drawings: Altair's charts as SVG within the page, so that it opens offline and without a script.

Belongs here: what a chart looks like. Does not belong here: what it shows (`pages`), how it becomes a picture (`rendering`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestration.rendering import BAR, COLOURS, INK, WIDTH, svg


def bars(rows: Iterable[tuple[str, float]], unit: str, label: str) -> str:
    """Horizontal bars in the given order, each with its number."""
    import altair as alt

    values = [{"name": name, "value": value, "text": f"{value:,}"} for name, value in rows]
    base = alt.Chart(alt.Data(values=values)).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=260, ticks=False, domain=False)),
        x=alt.X("value:Q", title=unit, axis=alt.Axis(grid=True, tickCount=5, format=",d")),
    )
    drawn = base.mark_bar(color=BAR) + base.mark_text(align="left", dx=4, color=INK).encode(text="text:N")
    return svg(drawn.properties(width=WIDTH, height=alt.Step(24)), label)


def stacked(rows: Iterable[Mapping[str, Any]], order: Sequence[str], unit: str, label: str) -> str:
    """One bar per `name`, made of the parts `part` with their `value`, in the given order of parts."""
    import altair as alt

    place = {part: position for position, part in enumerate(order)}
    values = [dict(row) | {"place": place[row["part"]]} for row in rows]
    drawn = (
        alt.Chart(alt.Data(values=values))
        .mark_bar()
        .encode(
            y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=260, ticks=False, domain=False)),
            x=alt.X("value:Q", title=unit, axis=alt.Axis(tickCount=5, format=",d")),
            color=alt.Color(
                "part:N",
                title=None,
                scale=alt.Scale(domain=list(order), range=[COLOURS[i % len(COLOURS)] for i in range(len(order))]),
                legend=alt.Legend(orient="bottom", columns=4),
            ),
            order="place:Q",
        )
    )
    return svg(drawn.properties(width=WIDTH, height=alt.Step(24)), label)
