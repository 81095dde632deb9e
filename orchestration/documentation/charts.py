"""The drawings: Altair's charts as SVG within the page, so that it opens offline and without a script.

Belongs here: what a chart looks like. Does not belong here: what it shows (`pages`).
Altair: https://altair-viz.github.io, rendering without a browser: https://github.com/vega/vl-convert
"""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

INK, BAR = "#1f2933", "#35608f"
# Blue, orange, green, grey, purple: told apart by the colour-blind as well (Okabe and Ito).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#999999", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
WIDTH = 560


def bars(rows: Iterable[tuple[str, float]], unit: str, label: str) -> str:
    """Horizontal bars in the given order, each with its number."""
    import altair as alt

    values = [{"name": name, "value": value, "text": f"{value:,}"} for name, value in rows]
    base = alt.Chart(alt.Data(values=values)).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=260, ticks=False, domain=False)),
        x=alt.X("value:Q", title=unit, axis=alt.Axis(grid=True, tickCount=5, format=",d")),
    )
    drawn = base.mark_bar(color=BAR) + base.mark_text(align="left", dx=4, color=INK).encode(text="text:N")
    return _svg(drawn.properties(width=WIDTH, height=alt.Step(24)), label)


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
    return _svg(drawn.properties(width=WIDTH, height=alt.Step(24)), label)


def _svg(chart: Any, label: str) -> str:
    """The drawing as an SVG element that says what it shows and names no address."""
    import vl_convert

    spec = chart.configure_view(stroke=None).configure(font="sans-serif", background="transparent").to_dict()
    spec.pop("$schema", None)
    drawn = vl_convert.vegalite_to_svg(spec, vl_version="6.4")
    drawn = re.sub(r"\s+", " ", drawn[drawn.index("<svg") :])
    drawn = re.sub(r' xmlns(:\w+)?="[^"]*"', "", drawn)
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label, quote=True)}" ', 1)
