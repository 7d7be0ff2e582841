"""Draws the token inspector as rows of text with roles for colours: the lane's text coloured by surprise, the
statistics of the current token, and as many panels as fit side by side. Pure functions of the inspector's
state, a width and a height in cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len, chop_cells

from tui_lab.core.format import percent
from tui_lab.core.sanitize import sanitize
from tui_lab.decoding.records import Alternative
from tui_lab.ui.views.inspector_panels import PANELS
from tui_lab.ui.views.inspector_state import (
    GLYPHS,
    NO_TEXT,
    ROLES,
    TITLES,
    InspectorRow,
    InspectorState,
    PanelName,
    bits,
    level,
    padded,
    surprise_bits,
    token_text,
)
from tui_lab.ui.views.spans import InspectorSpan, fit

#: Least width of a panel in cells; wider screens show several.
PANEL_COLUMNS = 54
#: Least rows of a panel, and the largest share of the height for the text.
_PANEL_ROWS = 9
_TEXT_SHARE = 0.34
_FIXED_ROWS = 1 + 2 + 1  # title, token statistics, names of the panels


@dataclass(frozen=True)
class TokenPiece:
    """A piece of a token in a row of the text; ``token`` is the token's index."""

    token: int
    text: str


def draw(
    scene: InspectorState, layout: Sequence[Sequence[TokenPiece]], width: int, height: int
) -> list[InspectorRow]:
    """The inspector in at most ``height`` rows of ``width`` cells. ``layout``: :func:`lay_out` for this
    width."""
    if not scene.tokens:
        return [title_row(scene, width), padded((InspectorSpan("The lane has no tokens.", "axis"),), width)]
    first, count = text_window(scene, layout, height)
    panel_height = max(1, height - _FIXED_ROWS - 2 * count)
    rows = [title_row(scene, width), *text_rows(scene, layout[first : first + count], width)]
    rows += statistics_rows(scene, width)
    shown = panels_shown(scene, width)
    rows.append(_names_row(scene, shown, width))
    if shown:
        rows += _side_by_side(scene, shown, width, panel_height)
    else:
        sentence = "This lane was decoded without details, so there is nothing more to show."
        rows.append(padded((InspectorSpan(sentence, "axis"),), width))
    return rows[:height]


def panels_shown(scene: InspectorState, width: int) -> list[PanelName]:
    """The panels that fit side by side: the selected one, then those after it."""
    views = scene.views
    if not views:
        return []
    at = views.index(scene.view) if scene.view in views else 0
    count = max(1, min(len(views), width // PANEL_COLUMNS))
    return [views[(at + step) % len(views)] for step in range(count)]


def _names_row(scene: InspectorState, shown: Sequence[PanelName], width: int) -> InspectorRow:
    """The names of all panels on a rule; those in view are highlighted."""
    parts = [InspectorSpan("── " if scene.marks == "block" else "-- ", "axis")]
    for view in scene.views:
        on = view in shown
        parts += [InspectorSpan(f" {TITLES[view]} ", "title" if on else "axis", on), InspectorSpan(" ")]
    used = sum(cell_len(part.text) for part in parts)
    rule = "─" if scene.marks == "block" else "-"
    return padded((*parts, InspectorSpan(rule * max(0, width - used), "axis")), width)


def _side_by_side(
    scene: InspectorState, shown: Sequence[PanelName], width: int, height: int
) -> list[InspectorRow]:
    gap = 2
    each = (width - gap * (len(shown) - 1)) // len(shown)
    columns = [_panel(scene, view, each, height)[:height] for view in shown]
    out: list[InspectorRow] = []
    for at in range(max(len(column) for column in columns)):
        parts: list[InspectorSpan] = []
        for number, column in enumerate(columns):
            parts += [InspectorSpan(" " * gap)] if number else []
            parts += column[at] if at < len(column) else (InspectorSpan(" " * each),)
        out.append(padded(parts, width))
    return out


def _panel(scene: InspectorState, view: PanelName, width: int, height: int) -> list[InspectorRow]:
    if scene.position < 0 and view != "aligned":
        sentence = "This token is of the prompt and of earlier turns; the answer comes after it."
        return [padded((InspectorSpan(sentence, "axis"),), width)]
    return PANELS[view](scene, width, height)


# ------------------------------------------------------------------ the lane's text


def lay_out(texts: Sequence[str], width: int, prompt: int = 0) -> list[list[TokenPiece]]:
    """Token texts in rows of at most ``width`` cells. Rows break after line feeds, and before tokens that
    begin with a blank where possible. The first ``prompt`` texts are of the prompt and have indices below
    0."""
    width = max(4, width)
    rows: list[list[TokenPiece]] = [[]]
    used = 0
    starts = [0, *(at for at, text in enumerate(texts) if at and (not text or text[0].isspace())), len(texts)]
    for begin, end in pairwise(dict.fromkeys(starts)):
        word = [(at, piece) for at in range(begin, end) for piece in _pieces(texts[at])]
        size = sum(cell_len(piece.rstrip("\n")) for _, piece in word)
        if used and used + size > width and size <= width:
            rows.append([])
            used = 0
        for at, piece in word:
            shown = piece.rstrip("\n")
            for chunk in [shown] if used + cell_len(shown) <= width else _chopped(shown, width):
                if used and used + cell_len(chunk) > width:
                    rows.append([])
                    used = 0
                if chunk:
                    rows[-1].append(TokenPiece(at - prompt, chunk))
                    used += cell_len(chunk)
            if piece.endswith("\n"):
                rows.append([])
                used = 0
    if len(rows) > 1 and not rows[-1]:
        rows.pop()
    return rows


def _pieces(text: str) -> list[str]:
    """A token's text split at line feeds, which are shown as ⏎ and end the row."""
    if not text:
        return [NO_TEXT]
    shown = sanitize(text.replace("\r\n", "\n").replace("\t", "⇥"), keep_newlines=True)
    parts = shown.split("\n")
    return [f"{part}⏎\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _chopped(text: str, width: int) -> list[str]:
    return chop_cells(text, width) if text else []


def row_of(rows: Sequence[Sequence[TokenPiece]], token: int) -> int:
    """The first row that contains a token."""
    low, high = 0, len(rows) - 1
    while low < high:  # tokens stand in order
        middle = (low + high) // 2
        low, high = (low, middle) if _last_token(rows, middle) >= token else (middle + 1, high)
    return max(0, low)


def _last_token(rows: Sequence[Sequence[TokenPiece]], at: int) -> float:
    """The last token up to the end of a row, which may be empty."""
    while at >= 0 and not rows[at]:
        at -= 1
    return rows[at][-1].token if at >= 0 else -math.inf


def text_window(
    scene: InspectorState, layout: Sequence[Sequence[TokenPiece]], height: int
) -> tuple[int, int]:
    """(first row, number of rows) of the text to show around the current token, for an inspector of
    ``height`` rows. A row of text takes two rows on the screen: the text, and glyphs for its colours."""
    available = min(int(height * _TEXT_SHARE), height - _FIXED_ROWS - _PANEL_ROWS)
    count = max(1, min(len(layout), available // 2))
    at = row_of(layout, scene.position)
    return max(0, min(at - count // 2, len(layout) - count)), count


def text_rows(
    scene: InspectorState, layout: Sequence[Sequence[TokenPiece]], width: int
) -> list[InspectorRow]:
    """Rows of the lane's text, each followed by a row of glyphs with the level of surprise of every token."""
    glyphs = GLYPHS[scene.marks]
    out: list[InspectorRow] = []
    for row in layout:
        text, under = [], []
        for place in row:
            size = level(scene.logprob(place.token)) if place.token >= 0 else 0
            role = ROLES[size] if place.token >= 0 else "axis"
            current = place.token == scene.position
            text.append(InspectorSpan(place.text, role, current))
            glyph = ("^" if scene.marks == "ascii" else "▲") if current else glyphs[size]
            under.append(InspectorSpan(glyph * cell_len(place.text), role if not current else "title"))
        out += [padded(text, width), padded(under, width)]
    return out


# ------------------------------------------------------------------ one token


def title_row(scene: InspectorState, width: int) -> InspectorRow:
    """The lane, the position in it, and the model that colours the text."""
    done = scene.done
    on = f" on {sanitize(done.on)}" if done.on and f"on={done.on}" not in done.description else ""
    where = f"{scene.position + 1}/{len(scene.tokens)}" if scene.tokens else "0/0"
    where = where if scene.position >= 0 else "of the prompt"
    by = f", coloured by {sanitize(scene.colour_by)}" if scene.colour_by else ""
    left = f"{sanitize(done.description)}{on}"
    right = f"token {where}{by}"
    return padded(
        (
            InspectorSpan(fit(left, max(8, width - cell_len(right) - 2)), "title"),
            InspectorSpan("  "),
            InspectorSpan(right, "axis"),
        ),
        width,
    )


def statistics_rows(scene: InspectorState, width: int) -> list[InspectorRow]:
    """Probability, rank, surprise and entropy of the current token, in two rows."""
    if scene.position < 0:
        name = token_text(scene.prompt[scene.position])
        note = "The prompt, with the turns before it. The answer is coloured by surprise."
        return [
            padded((InspectorSpan(fit(name, min(cell_len(name), 24)), "title"),), width),
            padded((InspectorSpan(note, "axis"),), width),
        ]
    token = scene.tokens[scene.position]
    statistics = [
        f"p {percent(math.exp(token.logprob))}",
        f"rank {token.rank:,}",
        f"surprise {surprise_bits(token.logprob):.2f} bits",
    ]
    name = token_text(token.text, token.token_id)
    left = InspectorSpan(f"{fit(name, min(cell_len(name), 24))} ", "title", False)
    number = InspectorSpan(f"id {token.token_id}  ", "axis")
    first_row = padded(
        (left, number, InspectorSpan("   ".join(statistics), ROLES[level(token.logprob)])), width
    )
    perplexity = math.exp(min(token.entropy, 700.0))
    entropy = f"entropy {bits(token.entropy):.2f} bits: as if {perplexity:,.1f} tokens were equally likely"
    after = entropy_after(token.alternatives)
    if after is not None:
        entropy += f"; {bits(after):.2f} bits after warping"
    return [first_row, padded((InspectorSpan(entropy),), width)]


def entropy_after(alternatives: Sequence[Alternative]) -> float | None:
    """Entropy in nats of the warped distribution; None when the alternatives do not cover it."""
    shares = [a.warped_probability for a in alternatives if a.warped_probability > 0]
    if not shares or sum(shares) < 0.9995:
        return None
    return max(0.0, -sum(share * math.log(share) for share in shares))
