"""Models: the card of each, or that the rules stand alone.

Belongs here: the page as text. Does not belong here: cards (`orchestration.scoring.card`).
"""

import re

from orchestration.documentation.facts import Facts, ModelCard
from orchestration.documentation.writing import chart, code, figure, source_link, text

# A card is Markdown; but it holds no markup of its own, and a link or picture in it would lead out of the site.
_HARMLESS = {ord(letter): f"&#{ord(letter)};" for letter in "&<>["}


def page(facts: Facts) -> str:
    """Status and cards."""
    status = facts.table("model_status")
    scored = facts.table("scores").value() or 0
    state = status.value("status")
    reason = status.value("reason")
    if scored:
        said = f"{figure(scored, 'scores')} customers carry a score; it can raise a tier and never lowers one."
    else:
        why = f" The run says: {text(reason)}." if reason else ""
        said = f"**The rules stand alone:** no customer carries a score.{why} {source_link('model_status')}"
    cards = "".join(map(_card, facts.cards)) or _none(facts)
    return f"# Models\n\nState of the score: {text(state or 'unknown')} {source_link('model_status')}. {said}\n\n{cards}\n"


def _none(facts: Facts) -> str:
    if "cards" in facts.missing:
        return f"The registry could not be read: {text(facts.missing['cards'])}."
    made = "A model is made with `segline model train` and promoted by another person."
    return f"No model is registered. {source_link('cards')} {made}"


def _card(card: ModelCard) -> str:
    """A card one level down, its text made harmless: names in it were typed by people."""
    carried = ", ".join(card.aliases) or "no alias"
    plain = card.text.translate(_HARMLESS)
    for name, drawn in card.plots.items():
        for caption in re.findall(rf"^!&#91;(.*)\]\({re.escape(name)}\)$", plain, flags=re.MULTILINE):
            plain = plain.replace(f"!&#91;{caption}]({name})", _drawn(drawn, caption))
    heading, _, rest = re.sub(r"^(#+ )", r"#\1", plain, flags=re.MULTILINE).strip().partition("\n")
    registered = f"Registered with {text(carried)}; SHA-256 {code(card.sha256)}. All figures of the card: {source_link('cards')}"
    return f"\n\n{heading}\n\n{registered}\n\n{rest.strip()}\n"


def _drawn(svg: str, caption: str) -> str:
    """A registered plot, whose fingerprint was checked, within the page: without the address that a file of its own names."""
    return chart(re.sub(r' xmlns="[^"]*"', "", svg).strip(), "cards", caption).strip()
