"""Markdown and HTML of the pages: escaped text, figures with their source, tables.

Whatever comes from the store, a file of the tenant or a name that somebody typed is text and stays text: it can neither mark
up a page nor run in it. Tables are HTML, for a cell of a Markdown table cannot hold a bar or a line break.

Belongs here: how a value is written. Does not belong here: which values (`pages`).
"""

import html
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

_MARKED = frozenset("\\`*_{}[]()<>#!|~&\"'")


class Html(str):
    """A text that is HTML already."""

    __slots__ = ()


def shown(value: Any) -> str:
    """A value as people read it: thousands set apart, times in UTC to the minute, nothing as an en dash."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float | Decimal):
        return f"{value:,.4g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}" if value.hour or value.minute else f"{value:%Y-%m-%d}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return ", ".join(shown(one) for one in value)
    return str(value)


def text(value: Any) -> Html:
    """A value within a sentence: neither Markdown nor HTML in it counts."""
    if isinstance(value, Html):
        return value
    plain = " ".join(shown(value).split())
    return Html("".join(f"&#{ord(letter)};" if letter in _MARKED else letter for letter in plain))


def cell(value: Any) -> Html:
    """A value within HTML."""
    return value if isinstance(value, Html) else Html(html.escape(shown(value), quote=True))


def code(value: Any) -> Html:
    """A name, a condition or a fingerprint."""
    return Html(f"<code>{text(value)}</code>")


def block(value: str) -> Html:
    """Lines to be copied as they stand: SQL, commands, a checkpoint."""
    lines = html.escape(value.strip("\n"), quote=True).replace("\n", "&#10;")
    return Html(f"<pre>{lines}</pre>")


def source_link(source: str) -> Html:
    """The small link from a figure to its source."""
    return Html(f'<a class="source" href="sources.html#{html.escape(source)}" title="where this comes from">source</a>')


def figure(value: Any, source: str) -> Html:
    """A number within a sentence, with its source."""
    return Html(f'<span class="figure">{text(value)}</span> {source_link(source)}')


def share(part: float, whole: float) -> str:
    """A part as a percentage of the whole."""
    return f"{100 * part / whole:.2f} %" if whole else "\N{EN DASH}"


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], source: str, caption: str = "") -> str:
    """A table with its source in the caption. Numbers stand to the right. Without rows: a sentence that says so."""
    rows = list(rows)
    if not rows:
        title = f"{text(caption)}: " if caption else ""
        return f"\n\n{title}nothing is on record. {source_link(source)}\n\n"
    head = "".join(f"<th>{cell(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(_td(value) for value in row) + "</tr>" for row in rows)
    title = f"<caption>{cell(caption)} {source_link(source)}</caption>"
    return f'\n\n<div class="wide"><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n\n'


def chart(svg: str, source: str, caption: str) -> str:
    """A drawing with its source. The numbers stand in a table beside it, for those who do not see it."""
    return f'\n\n<figure>{svg}<figcaption>{cell(caption)} {source_link(source)}</figcaption></figure>\n\n'


def folded(summary: Any, inside: str) -> str:
    """What opens on a click, without a script; `inside` is HTML."""
    return f"\n\n<details><summary>{cell(summary)}</summary>{inside.strip()}</details>\n\n"


def _td(value: Any) -> str:
    is_number = (isinstance(value, int | float | Decimal) and not isinstance(value, bool)) or str(value).endswith(" %")
    return f'<td class="number">{cell(value)}</td>' if is_number else f"<td>{cell(value)}</td>"
