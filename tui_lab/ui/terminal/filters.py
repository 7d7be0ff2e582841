"""Filters of rendered lines: one removes control characters; one writes black or white text on palette
backgrounds; one replaces colours by bold, faint and reverse; one leaves only ASCII."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from rich.color import Color as RichColor
from rich.color import ColorType
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter, Monochrome, NoColor

from tui_lab.core.settings import Settings
from tui_lab.ui.terminal.ascii import to_ascii

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
#: Luminance (0 to 1) from which a background counts as light and becomes reverse.
LIGHT_GROUND = 0.18
#: Luminance from which text is bold, and below which it is faint, as themes/lab-mono.toml expects.
BOLD_FROM, FAINT_BELOW = 0.9, 0.35
#: Text with a smaller WCAG contrast to its background is meant to be invisible.
VISIBLE_FROM = 1.25
_FAINT = Style(color=RichColor.default(), dim=True)
#: Palette codes of black, white and bright white; and the backgrounds on which white is more readable.
_INKS, _DARK_GROUNDS = frozenset({0, 7, 15}), frozenset({1, 4, 5, 8})


@lru_cache(maxsize=512)
def _luminance(colour: RichColor) -> float:
    """Relative luminance as in WCAG; 0 for palette codes."""
    if colour.triplet is None:
        return 0.0
    parts = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in colour.triplet.normalized
    )
    red, green, blue = parts
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@lru_cache(maxsize=2048)
def uncoloured(style: Style, ground: RichColor) -> tuple[Style, bool]:
    """``style`` without colours, and whether its text is visible. ``ground``: the background of a style
    without one."""
    over = _luminance(style.color) if style.color and style.color.triplet else 1.0
    under = _luminance(style.bgcolor) if style.bgcolor and style.bgcolor.triplet else _luminance(ground)
    light, dark = max(over, under), min(over, under)
    on_light = under >= LIGHT_GROUND  # a cursor, whose bright text is meant to be read
    seen = on_light or (light + 0.05) / (dark + 0.05) >= VISIBLE_FROM
    reverse = on_light != bool(style.reverse)
    plain = style.without_color
    if style.meta:
        plain += Style.from_meta(style.meta)
    if reverse != bool(style.reverse):
        plain += Style(reverse=reverse)
    if not reverse and over >= BOLD_FROM:
        plain += Style(bold=True, dim=False)
    elif not reverse and over < FAINT_BELOW:
        plain += Style(dim=True)
    return plain, seen


class Uncoloured(LineFilter):
    """Removes all colours."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        ground = background.rich_color
        out = []
        for text, style, control in segments:
            if style is None or control:
                out.append(Segment(text, None, control))
                continue
            plain, seen = uncoloured(style, ground)
            out.append(Segment(text if seen else " " * len(text), plain))
        return out


class NoControls(LineFilter):
    """Removes control characters. Panes show them as glyphs, but a text field draws pasted text as it is."""

    def apply(self, segments: list[Segment], _background: Color) -> list[Segment]:
        return [
            each
            if each.control or each.text.isprintable()
            else Segment(CONTROLS.sub("", each.text), each.style)
            for each in segments
        ]


@lru_cache(maxsize=1024)
def inked(style: Style) -> Style:
    """``style`` in black or white where its background is a palette code, as of a cursor or a selection,
    because other pairs of palette colours may be unreadable. Bright black, the background of some palettes,
    becomes faint."""
    over, under = style.color, style.bgcolor
    if under is None or under.type is not ColorType.STANDARD or under.number in (None, 0) or style.reverse:
        if over is not None and over.type is ColorType.STANDARD and over.number == 8:
            return style + _FAINT
        return style
    if over is not None and over.type is ColorType.STANDARD and over.number in _INKS - {under.number}:
        return style + Style(dim=False) if style.dim else style
    ink = RichColor.from_ansi(15 if under.number in _DARK_GROUNDS else 0)
    return style + Style(color=ink, dim=False)


class Inked(LineFilter):
    """Applies :func:`inked`. Only themes of palette codes have such colours."""

    def apply(self, segments: list[Segment], _background: Color) -> list[Segment]:
        return [
            each
            if (style := each.style) is None or (style.bgcolor is not None and style.bgcolor.triplet)
            else Segment(each.text, inked(style), each.control)
            for each in segments
        ]


class AsciiOnly(LineFilter):
    """Replaces other characters than ASCII by ASCII of the same width."""

    def apply(self, segments: list[Segment], _background: Color) -> list[Segment]:
        return [Segment(to_ascii(text), style, control) for text, style, control in segments]


def for_settings(settings: Settings) -> list[LineFilter]:
    """The filters of these settings."""
    filters: list[LineFilter] = [NoControls(), Inked() if settings.color else Uncoloured()]
    return [*filters, AsciiOnly()] if settings.ascii else filters


def combined(textuals: Sequence[LineFilter], ours: Sequence[LineFilter]) -> list[LineFilter]:
    """Textual's filters, then ours. Textual's filters for NO_COLOR turn colours into greys; ours replace
    them."""
    return [*(each for each in textuals if not isinstance(each, Monochrome | NoColor)), *ours]
