"""Altair's charts as pictures that load nothing: SVG for a page, and within Markdown for Dagster's pages.

Belongs here: turning a chart into bytes, and the look that all share. Does not belong here: what a chart shows
(`documentation.charts`, `scoring.plots`, `clustering.plots`).
Altair: https://altair-viz.github.io, rendering without a browser: https://github.com/vega/vl-convert
"""

import base64
import html
import re
from typing import Any

INK, BAR = "#1f2933", "#35608f"
# Blue, orange, green, grey, purple: told apart by the colour-blind as well (Okabe and Ito).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#999999", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
WIDTH = 560
VEGA_LITE = "6.4"


def svg(chart: Any, label: str, background: str = "transparent") -> str:
    """The drawing as an SVG element that says what it shows and names no address."""
    import vl_convert

    drawn = vl_convert.vegalite_to_svg(_specification(chart, background), vl_version=VEGA_LITE)
    drawn = re.sub(r"\s+", " ", drawn[drawn.index("<svg") :])
    drawn = re.sub(r' xmlns(:\w+)?="[^"]*"', "", drawn)
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label, quote=True)}" ', 1)


def svg_file(chart: Any, label: str, background: str = "white") -> str:
    """The same as a document of its own, for a file that Markdown names."""
    return svg(chart, label, background).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def markdown_picture(chart: Any, label: str) -> str:
    """The drawing as a picture within Markdown, as Dagster's documentation advises for metadata; its pages show images of `data`
    addresses. SVG, for the same chart takes ten times as much as PNG, and Dagster keeps every picture of every run.

    https://docs.dagster.io/guides/build/assets/metadata-and-tags
    """
    drawn = base64.b64encode(svg_file(chart, label, "white").encode()).decode()
    plain = re.sub(r"[\[\]\\\n]", " ", label)
    return f"![{plain}](data:image/svg+xml;base64,{drawn})"


def _specification(chart: Any, background: str) -> dict[str, Any]:
    specification = chart.configure_view(stroke=None).configure(font="sans-serif", background=background).to_dict()
    specification.pop("$schema", None)
    return specification
