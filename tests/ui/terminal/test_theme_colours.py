"""The colours of the shipped themes by independent arithmetic: everything can be read on what it stands on,
and in the colour-blind theme everything that must be told apart stays apart in every eye."""

from __future__ import annotations

from itertools import combinations

import pytest
from rich.color import Color as RichColor
from rich.color import ColorSystem
from rich.style import Style
from textual.app import App, ComposeResult
from textual.color import Color
from textual.content import Content
from textual.widgets import Static

from tests.ui.terminal import colour_math as math_
from tui_lab.ui.terminal import filters, themes

SHIPPED = {
    theme.name: theme
    for theme in themes.load_themes(sorted(themes.resource_dir("themes").glob("*")))[0].values()
}
TRUECOLOUR = sorted(name for name, theme in SHIPPED.items() if not theme.ansi)
#: What text stands on.
GROUNDS = (
    "background",
    "surface",
    "panel",
    "panel-lighten-2",  # the title of the lane or tile that has the focus
    "block-cursor-background",
    "block-cursor-blurred-background",
    "screen-selection-background",  # what the mouse has marked keeps its colours
)
#: What the panes write with, beside the semantic names.
TEXTS = (
    "foreground",
    "primary",
    "accent",
    "success",
    "warning",
    "error",
    "text-error",
    "text-warning",
    "text-success",
    "text-muted",
    "text-disabled",  # empty lists speak with it
    "footer-key-foreground",
)
STRICT = dict.fromkeys(("lab-contrast", "lab-contrast-light", "lab-projector", "lab-projector-dark"), 7.0)
#: CIEDE2000 of 2.3 is just visible side by side; marks as thin as a braille dot need several times that.
APART = 20.0
SIX = ("strategy-greedy", "strategy-beam", "strategy-top-k", "strategy-top-p", "strategy-temperature")
GROUPS = {
    "losses": ("train", "smoothed", "validation", "forecast"),
    "memory": ("memory", "memory-reserved", "memory-total", "forecast"),
    "verdicts": ("retained", "forgotten", "undecided"),
    "models": ("base-model", "tuned-model"),
    "states": ("state-running", "state-paused", "state-finished", "state-failed"),
    "strategies": (*SIX, "strategy-contrastive"),
    "runs": tuple(f"run-{number}" for number in range(1, 7)),
    "surprise": tuple(f"surprise-{number}" for number in range(5)),
}


def hexed(value: str, ground: str) -> str:
    """A colour of a style sheet as it comes out on ``ground``: "auto 60%" is contrast text, 60 % opaque."""
    base = Color.parse(ground)
    words = value.split()
    share = float(words[1].rstrip("%")) / 100 if len(words) == 2 else 1.0
    top = base.get_contrast_text(1.0) if words[0] == "auto" else Color.parse(words[0])
    alpha = top.a * share
    mixed = (round(under + (over - under) * alpha) for under, over in zip(base.rgb, top.rgb, strict=True))
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def colours_of(name: str) -> dict[str, str]:
    """Everything that a style sheet can name, as the app puts it together."""
    theme = SHIPPED[name]
    return {**themes.fallbacks(theme), **theme.to_color_system().generate(), **theme.variables}


def test_contrast_and_difference_match_published_values() -> None:
    # WCAG: black on white is 21; #767676 is the lightest grey that reaches 4.5 on white
    assert math_.contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21)
    assert math_.contrast(math_.rgb("#767676"), (1, 1, 1)) == pytest.approx(4.54, abs=0.005)
    # of the test data of Sharma, Wu, Dalal (2005)
    for one, other, expected in (
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ):
        assert math_.ciede2000(one, other) == pytest.approx(expected, abs=1e-4)
    # every vision leaves grey as it is, and red is close to dark olive for who has no red cones
    for vision, rows in math_.VISIONS.items():
        assert [sum(row) for row in rows] == pytest.approx([1, 1, 1], abs=1e-5), vision
    assert math_.apart("#d00000", "#4d5a00", "protanopia") < math_.apart("#d00000", "#4d5a00", "normal") / 2


@pytest.mark.parametrize("name", TRUECOLOUR)
def test_every_text_has_contrast_on_every_background(name: str) -> None:
    colours = colours_of(name)
    least = STRICT.get(name, 4.5)
    bad = []
    for ground_name in GROUNDS:
        ground = hexed(colours[ground_name], colours["surface"])
        for role in (*themes.SEMANTIC, *themes.CHROME, *TEXTS):
            if name == themes.MONO_THEME and ground_name.startswith("block-cursor"):
                role = "block-cursor-foreground"  # reverse on a line without colours: one style for all
            if name == themes.MONO_THEME and ground_name.startswith("screen-selection"):
                role = "screen-selection-foreground"
            ratio = math_.contrast(math_.rgb(hexed(colours[role], ground)), math_.rgb(ground))
            if ratio < least:
                bad.append(f"{role} on {ground_name}: {ratio:.2f}")
    assert not bad


def rounded(colour: str) -> str:
    """What a terminal of 256 colours is sent for ``colour``: of the cube or of the greys (xterm's values)."""
    number = RichColor.parse(colour).downgrade(ColorSystem.EIGHT_BIT).number
    assert number is not None and number >= 16
    if number >= 232:
        return "#" + f"{8 + 10 * (number - 232):02x}" * 3
    parts = ((number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6)
    return "#" + "".join(f"{55 + 40 * part if part else 0:02x}" for part in parts)


@pytest.mark.parametrize("name", [name for name in TRUECOLOUR if name != themes.MONO_THEME])
def test_every_text_has_contrast_in_256_colours(name: str) -> None:
    """SSH hands COLORTERM on to few machines: then colours are rounded to the palette of 256."""
    colours = colours_of(name)
    bad = []
    for ground_name in GROUNDS:
        ground = hexed(colours[ground_name], colours["surface"])
        for role in (*themes.SEMANTIC, *themes.CHROME, *TEXTS):
            text, under = rounded(hexed(colours[role], ground)), rounded(ground)
            ratio = math_.contrast(math_.rgb(text), math_.rgb(under))
            if ratio < (4.5 if name in STRICT else 3.8):
                bad.append(f"{role} on {ground_name}: {ratio:.2f}")
    assert not bad


@pytest.mark.parametrize("name", TRUECOLOUR)
async def test_muted_text_is_fainter_than_text(name: str) -> None:
    class Beside(App[None]):
        def compose(self) -> ComposeResult:
            yield Static(Content.assemble(("beside", "$text-muted"), " the matter"))

    app = Beside()
    app.register_theme(SHIPPED[name])
    app.theme = name
    async with app.run_test(size=(40, 1)):
        [strip] = app.screen._compositor.render_strips(app.size)
    drawn = {text.strip(): style for text, style, _ in strip if text.strip() and style}
    faint, plain = (
        math_.contrast(math_.rgb(style.color.triplet.hex), math_.rgb(style.bgcolor.triplet.hex))  # type: ignore[union-attr]
        for style in (drawn["beside"], drawn["the matter"])
    )
    assert STRICT.get(name, 4.5) <= faint < 0.75 * plain


@pytest.mark.parametrize("name", TRUECOLOUR)
def test_the_cursor_stands_out(name: str) -> None:
    colours = colours_of(name)
    cursor = hexed(colours["block-cursor-background"], colours["surface"])
    style = colours["block-cursor-text-style"]
    assert math_.apart(cursor, colours["surface"], "normal") > 8
    assert "bold" in style or "underline" in style  # by more than a colour
    for edge, least in (("border", 3.0), ("border-blurred", 3.0 if name in STRICT else 1.8)):
        ratio = math_.contrast(
            math_.rgb(hexed(colours[edge], colours["surface"])), math_.rgb(colours["background"].lower())
        )
        assert ratio >= least, f"{edge}: {ratio:.2f}"


@pytest.mark.parametrize("name", TRUECOLOUR)
def test_a_selection_is_visible_and_readable(name: str) -> None:
    colours = colours_of(name)
    for field in ("surface", "panel"):
        marked = hexed(colours["input-selection-background"], colours[field])
        text = hexed(colours["input-selection-foreground"], marked)
        assert math_.contrast(math_.rgb(text), math_.rgb(marked)) >= STRICT.get(name, 4.5)
        assert math_.apart(marked, colours[field].lower(), "normal") > 8


@pytest.mark.parametrize("name", TRUECOLOUR)
def test_a_scrollbar_is_visible(name: str) -> None:
    colours = colours_of(name)
    track = hexed(colours["scrollbar-background"], colours["surface"]).lower()
    thumb = hexed(colours["scrollbar"], track)
    assert math_.contrast(math_.rgb(thumb), math_.rgb(track)) >= 3


@pytest.mark.parametrize("vision", math_.VISIONS)
@pytest.mark.parametrize("name", ["lab-colorblind", "lab-colorblind-light"])
def test_colour_groups_are_distinct_for_colour_blind_users(name: str, vision: str) -> None:
    colours = colours_of(name)
    for group, names in GROUPS.items():
        for one, other in combinations(names, 2):
            assert math_.apart(colours[one], colours[other], vision) >= APART, (group, one, other)


@pytest.mark.parametrize("vision", math_.VISIONS)
@pytest.mark.parametrize("name", [name for name in TRUECOLOUR if name != themes.MONO_THEME])
def test_good_and_bad_differ_in_every_eye(name: str, vision: str) -> None:
    """How something went is told by a glyph and a word, too; still the colours must not look the same."""
    colours = colours_of(name)
    for one, other in (("success", "error"), ("retained", "forgotten"), ("state-running", "state-failed")):
        least = 5 if name != "lab-colorblind" else APART
        assert math_.apart(colours[one].lower(), colours[other].lower(), vision) >= least, (one, other)


def test_every_theme_has_a_partner_of_the_other_brightness() -> None:
    pairs = {
        ("lab-dark", "lab-light"),
        ("lab-colorblind", "lab-colorblind-light"),
        ("lab-contrast", "lab-contrast-light"),
        ("lab-projector-dark", "lab-projector"),
    }
    assert {name for pair in pairs for name in pair} == {*TRUECOLOUR} - {themes.MONO_THEME}
    for dark, light in pairs:
        assert SHIPPED[dark].dark and not SHIPPED[light].dark
        assert SHIPPED[dark].weight == SHIPPED[light].weight


@pytest.mark.parametrize("name", [name for name in TRUECOLOUR if name != themes.MONO_THEME])
def test_colour_groups_are_distinct_in_every_theme(name: str) -> None:
    colours = colours_of(name)
    for group in GROUPS:
        for one, other in combinations(GROUPS[group], 2):
            assert math_.apart(colours[one].lower(), colours[other].lower(), "normal") >= 9, (one, other)


def test_colour_groups_are_distinct_in_palette_codes() -> None:
    colours = colours_of(themes.ANSI_THEME)
    for group in GROUPS.values():
        codes = [colours[role] for role in group]
        assert len(set(codes)) == len(codes), group
    assert not {"ansi_white", "ansi_bright_white", "ansi_black"} & {colours[role] for role in themes.SEMANTIC}


def test_text_on_palette_backgrounds_is_black_or_white() -> None:
    black, red, yellow, bright_white = 0, 1, 3, 15

    def ink(text: str) -> int | None:
        style = filters.inked(Style.parse(text))
        assert style.dim is not True
        return style.color.number if style.color else None

    assert ink("yellow on white") == ink("dim on white") == ink("white on white") == black
    assert (
        ink("black on bright_blue") == ink("dim black on white") == black
        and ink("red on blue") == bright_white
    )
    assert ink("yellow on default") == ink("yellow") == ink("yellow on black") == yellow
    assert not (dimmed := filters.inked(Style.parse("bright_black"))).color.number and dimmed.dim  # type: ignore[union-attr]
    assert ink("red reverse on white") == red, "what is reverse stands on its own colour"
    assert ink("#ffff00 on #ffffff") is None, "the colours of other themes stay theirs"
