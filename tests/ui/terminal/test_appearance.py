"""What the terminal is sent: no colours where none are wanted, native codes on sixteen colours, ASCII where
nothing else is; themes tried live; plots as F8, settings and theme say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from rich.segment import Segment
from rich.style import Style
from textual.pilot import Pilot
from textual.widgets import OptionList

from tests.benchmarks.terminal import LAB, PANE_KEYS, Terminal
from tests.records import parse
from tests.ui.helpers import said, screen_text, until
from tests.ui.sample_runs import figure, make_run
from tests.ui.screens.test_playground import PaperClient
from tests.ui.terminal.colour_math import contrast, rgb
from tui_lab.core.paths import config_dir
from tui_lab.core.settings import Settings, ascii_reason, load, path
from tui_lab.retention.stored import StrengthCurve
from tui_lab.runs.events import EventWriter
from tui_lab.runs.schema import StepEvent
from tui_lab.runs.state import Watcher
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.theme_chooser import ThemeChooser
from tui_lab.ui.terminal import filters, themes
from tui_lab.ui.views.retention_data import RetentionReport
from tui_lab.ui.views.retention_plots import curve_series, strength_series
from tui_lab.ui.views.run_plots import PLOTS
from tui_lab.ui.widgets.plot import Plot

#: The contrast (WCAG) that everything must have in the two themes that leave the least room for it.
CONTRAST = {"lab-light": 4.5, "lab-projector": 7.0}
PANES = ("setup", "train", "playground", "retention", "runs")
#: SGR parameters that set a colour: 30-38, 40-48, 90-97, 100-107.
_SGR = re.compile(r"\x1b\[([\d;:]*)m")


def sent(app: LabApp) -> str:
    """The whole screen as it would be written to the terminal."""
    update = app.screen._compositor.render_full_update()
    return str(update.render_segments(app.console))


def colour_parameters(written: str) -> set[int]:
    found = {int(each or 0) for codes in _SGR.findall(written) for each in re.split("[;:]", codes)}
    return {each for each in found if 30 <= each <= 38 or 40 <= each <= 48 or 90 <= each <= 107}


def segments(app: LabApp) -> Iterator[Segment]:
    for strip in app.screen._compositor.render_strips(app.size):
        yield from strip


async def every_pane(app: LabApp, pilot: Pilot[None]) -> Iterator[str]:  # type: ignore[misc]
    """Goes through all panes, help and the palette; the name of each, once it stands."""
    app.playground.client = PaperClient(lambda status: setattr(app, "playground_status", status))  # type: ignore[assignment]
    await until(lambda: app.first_frame.drawn)
    for name in PANES:
        app.action_pane(name)
        await until(lambda name=name: app.pane == name and "Setup" in screen_text(app))
        await pilot.pause(0.1)
        yield name  # type: ignore[misc]
    await pilot.press("f1")
    yield "help"  # type: ignore[misc]
    await pilot.press("escape", "ctrl+p")
    yield "palette"  # type: ignore[misc]
    await pilot.press("escape")


async def test_panes_send_no_colours_and_only_ascii_when_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    run = make_run()
    app = LabApp(settings=load({"ascii": True}).settings, run_id=str(run.path))
    assert app.theme == themes.MONO_THEME
    async with app.run_test(size=(100, 30)) as pilot:
        async for name in every_pane(app, pilot):  # type: ignore[attr-defined]
            written = sent(app)
            assert written.isascii(), name
            assert colour_parameters(written) == set(), name
            attributes = {code for codes in _SGR.findall(written) for code in codes.split(";")}
            # on every pane something is chosen; help is read only
            assert ({"1"} if name == "help" else {"1", "7"}) <= attributes, f"{name}: nothing is marked"
        await pilot.press("f9", "f8")
        assert said(app, "No colours") and not isinstance(app.screen, ThemeChooser)
        assert app.marker == "ascii" and said(app, "Plots stay in ASCII")


@pytest.mark.parametrize("pane", ["setup", "playground"])
async def test_the_focus_is_visible_without_colours(pane: str) -> None:
    app = LabApp(settings=Settings(color=False, pane=pane))
    async with app.run_test(size=(120, 40)) as pilot:
        app.playground.client = PaperClient(lambda status: setattr(app, "playground_status", status))  # type: ignore[assignment]
        await until(lambda: app.first_frame.drawn and app.focused is not None)
        await pilot.pause(0.3)
        before, held = sent(app), app.focused
        await pilot.press("escape" if pane == "playground" else "tab")
        await until(lambda: app.focused is not held)
        await pilot.pause()
        assert sent(app) != before


def test_brightness_becomes_bold_faint_and_reverse() -> None:
    def told(text: str) -> tuple[bool, bool, bool, bool]:
        style, seen = filters.uncoloured(Style.parse(text), Style.parse("black on #000000").bgcolor)  # type: ignore[arg-type]
        assert style.color is None and style.bgcolor is None
        return bool(style.bold), bool(style.dim), bool(style.reverse), seen

    assert told("#ffffff on #000000") == (True, False, False, True)
    assert told("#c6c6c6 on #000000") == (False, False, False, True)
    assert told("#8a8a8a on #000000") == (False, True, False, True)
    assert told("#000000 on #ffffff") == (False, False, True, True)
    assert told("#ffffff on #ffffff") == (False, False, True, True), "a verdict under the cursor"
    assert told("#ffffff on #000000 reverse") == (False, False, True, True)
    assert told("#000000 on #ffffff reverse")[2] is False, "reverse twice"
    assert told("#000000 on #000000")[3] is False, "an edge that is not meant to be seen"
    assert told("underline #c6c6c6") == (False, False, False, True)


async def test_drawn_text_has_enough_contrast() -> None:
    """Pairs as they come to be on the screen: tinted grounds, faint and reverse texts, chosen rows."""
    run = make_run()
    events = EventWriter(run.events_path)
    for step in (1, 2):
        events.write(StepEvent(step=step, loss=3.0 / step, learning_rate=0.1, tok_per_s=9.0))
    events.close()
    app = LabApp(run_id=str(run.path))
    bad = set()
    async with app.run_test(size=(130, 44), notifications=True) as pilot:
        async for name in every_pane(app, pilot):  # type: ignore[attr-defined]
            if name == "help":
                break
            app.clear_notifications()
            app.notify("a message", severity="error")
            for theme in CONTRAST:
                app.theme = theme
                await pilot.pause()
                for text, style, _ in segments(app):
                    if not any(map(str.isalnum, text)) or not style or not style.color or not style.bgcolor:
                        continue
                    over, under = (each.triplet for each in (style.color, style.bgcolor))
                    assert over is not None and under is not None
                    ratio = contrast(rgb(over.hex), rgb(under.hex))
                    if ratio < CONTRAST[theme]:
                        bad.add(f"{theme}, {name}: {text.strip()[:20]!r}, {over.hex} on {under.hex}")
    assert not bad


async def test_a_message_names_its_severity() -> None:
    app = LabApp(settings=Settings(pane="runs"))
    async with app.run_test(size=(100, 40), notifications=True):
        await until(lambda: app.first_frame.drawn)
        app.notify("all is well")
        app.notify("look here", severity="warning")
        app.notify("not done", severity="error")
        app.notify("a file", severity="warning", title="Left out")
        await until(lambda: "a file" in screen_text(app))
        shown = " ".join(screen_text(app).replace("▌", " ").split())
    for words in ("! Warning look here", "✗ Error not done", "Left out a file"):
        assert words in shown
    assert shown.count("Warning") == 1


async def test_the_colour_option_overrides_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TUI_LAB_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    app = LabApp(settings=load().settings, pane="runs")
    async with app.run_test(size=(80, 24)):
        await until(lambda: app.first_frame.drawn)
        colours = {style.color.triplet for _, style, _ in segments(app) if style and style.color}
        assert any(len(set(triplet)) > 1 for triplet in colours if triplet), "not only greys"


async def test_sixteen_colours_get_native_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLORTERM", raising=False)
    for terminal in ("linux", "screen", "xterm"):
        monkeypatch.setenv("TERM", terminal)
        app = LabApp(pane="runs")
        assert app.theme == themes.ANSI_THEME
    async with app.run_test(size=(80, 24)):
        await until(lambda: app.first_frame.drawn)
        found = colour_parameters(sent(app))
        assert found and not found & {38, 48}


@pytest.mark.parametrize(
    ("words", "said_of"),
    [
        ({}, ""),
        ({"LANG": "en_US.UTF-8"}, ""),
        ({"LANG": "C.utf8"}, ""),
        ({"LANG": "C"}, "LANG=C"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, "LC_ALL=C"),
        ({"LANG": "de_DE.ISO-8859-1"}, "LANG=de_DE.ISO-8859-1"),
        ({"LANG": "C", "LC_CTYPE": "en_US.UTF-8"}, ""),
        ({"LANG": "en_US.UTF-8", "PYTHONIOENCODING": "ascii:replace"}, "PYTHONIOENCODING=ascii"),
        ({"LANG": "en_US.UTF-8", "PYTHONIOENCODING": "utf_8"}, ""),
        ({"PYTHONIOENCODING": ":replace"}, ""),
    ],
)
def test_a_locale_without_utf8_chooses_ascii(words: dict[str, str], said_of: str, tmp_path: Path) -> None:
    reason = ascii_reason(words)
    assert reason.startswith(said_of) and bool(reason) == bool(said_of)
    file = tmp_path / "settings.toml"
    assert load({}, words, file).settings.ascii == bool(said_of)
    assert not load({}, {**words, "TUI_LAB_ASCII": "0"}, file).settings.ascii


async def test_the_lab_says_why_it_writes_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    app = LabApp(settings=load().settings, pane="runs")
    async with app.run_test(size=(80, 24)):
        await until(lambda: said(app, "LC_ALL=C is not a UTF-8 locale"))
        assert sum("UTF-8" in note.message for note in app._notifications) == 1


# --------------------------------------------------------------------------------------------------
# themes tried live


def ground(app: LabApp) -> str:
    """The colour behind the first letter of the pane's header line, as it is drawn now."""
    style = next(iter(segments(app))).style
    assert style is not None and style.bgcolor is not None and style.bgcolor.triplet is not None
    return style.bgcolor.triplet.hex


async def chooser(app: LabApp, pilot: Pilot[None]) -> OptionList:
    await until(lambda: app.first_frame.drawn and app.appearance.theme_names)
    await pilot.press("f9")
    await until(
        lambda: isinstance(app.screen, ThemeChooser) and app.screen.query_one(OptionList).option_count
    )
    return app.screen.query_one(OptionList)


async def test_the_cursor_previews_a_theme_and_escape_restores_it() -> None:
    app = LabApp(settings=Settings(theme="lab-dark", pane="runs"))
    async with app.run_test(size=(80, 24)) as pilot:
        options = await chooser(app, pilot)
        names = [option.id for option in options.options]
        assert set(names) >= {"lab-dark", "lab-light", "lab-colorblind", "lab-projector"}
        assert options.highlighted == names.index("lab-dark")
        for word in ("train", "forgotten", "contrastive", "F", "learning rate", "surprise", "muted"):
            assert word in screen_text(app), word
        await pilot.press("down")
        await until(lambda: app.theme == "lab-light" and ground(app) == "#e0e4e8")
        await pilot.press("down")
        while names[options.highlighted or 0] != "lab-projector":
            await pilot.press("down")
        await until(lambda: app.marker == "block" and app.plot_weight == "thick")
        await pilot.press("escape")
        await until(lambda: app.theme == "lab-dark" and ground(app) == "#262b33")
        assert app.marker == "braille" and app.plot_weight == "normal"
        assert not path().exists()


async def test_enter_saves_a_theme() -> None:
    app = LabApp(settings=Settings(theme="lab-dark", pane="runs"))
    async with app.run_test(size=(80, 24)) as pilot:
        await chooser(app, pilot)
        await pilot.press("down", "enter")
        await until(lambda: not isinstance(app.screen, ThemeChooser))
        assert app.theme == "lab-light" == app.settings.theme
        assert load({}, {}).settings.theme == "lab-light"


async def test_files_are_read_again_and_a_faulty_one_is_one_message() -> None:
    folder = config_dir() / "themes"
    folder.mkdir(parents=True)
    mine = folder / "mine.toml"
    mine.write_text('[colors]\nprimary = "#ff0000"\npanel = "#010203"')
    app = LabApp(settings=Settings(theme="mine", pane="runs"))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: app.theme == "mine" and app.first_frame.drawn and ground(app) == "#010203")
        mine.write_text('[colors]\nprimary = "#ff0000"\npanel = "#040506"')
        (folder / "bad.toml").write_text("[[[")
        await chooser(app, pilot)
        await until(lambda: ground(app) == "#040506")
        assert sum("bad.toml" in note.message for note in app._notifications) == 1
        await pilot.press("escape")
        (folder / "bad.toml").unlink()
        mine.unlink()
        await chooser(app, pilot)
        assert app.theme == "mine", "what is shown stays until another is taken"
        await pilot.press("up", "enter")
        options = await chooser(app, pilot)
        assert "mine" not in [option.id for option in options.options]


async def test_several_faulty_files_are_one_message_over_the_list_of_themes() -> None:
    folder = config_dir() / "themes"
    folder.mkdir(parents=True)
    for name in "abcd":
        (folder / f"{name}.toml").write_text("[[[")
    app = LabApp(settings=Settings(theme="lab-drak", pane="runs"))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: said(app, "'lab-drak'"))
        assert "'lab-drak'" in next(iter(app._notifications)).message, "what was asked for comes first"
        await chooser(app, pilot)
        await until(lambda: said(app, "and 3 more"))
        assert len(app._notifications) == 1


async def test_an_unknown_theme_names_those_that_exist() -> None:
    app = LabApp(settings=Settings(theme="lab-drak", pane="runs"))
    async with app.run_test(size=(80, 24)):
        await until(lambda: said(app, "'lab-drak'"))
        assert said(app, "lab-dark, lab-light") and app.theme == "lab-dark"


# --------------------------------------------------------------------------------------------------
# plots


async def test_f8_overrides_settings_and_theme_for_plots() -> None:
    run = make_run()
    app = LabApp(settings=Settings(theme="lab-projector"), run_id=str(run.path))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.first_frame.drawn)
        assert {plot.options.marker for plot in app.screen.query(Plot)} == {"block"}
        assert {plot.options.weight for plot in app.screen.query(Plot)} == {"thick"}
        await pilot.press("f8")
        assert {plot.options.marker for plot in app.screen.query(Plot)} == {"ascii"}
    assert LabApp(settings=Settings(theme="lab-projector", plots="braille")).marker == "braille"
    assert LabApp(settings=Settings(theme="lab-dark")).marker == "braille"
    assert LabApp(settings=Settings(theme="lab-projector", ascii=True)).marker == "ascii"


def test_curves_of_one_plot_differ_by_their_marks() -> None:
    run = make_run()
    watcher = Watcher(run)
    watcher.poll()
    state = watcher.state
    state.apply(
        parse(
            [
                {"kind": "step", "step": step, "loss": 9.0 / step, "learning_rate": 0.1, "tok_per_s": 9.0}
                for step in range(1, 9)
            ]
        )
    )
    state.apply(parse([{"kind": "eval", "step": 8, "loss": 2.0}]))
    strength = {
        "points": [
            {"strength": place, "acquisition": 0.5, "retention": figure(0.9)} for place in (0.0, 0.5, 1.0)
        ],
        "keep": 0.9,
    }
    plots = [
        curve_series(RetentionReport(run, None, state), "everyday"),
        strength_series(msgspec.convert(strength, StrengthCurve)),
        *(make(state) for _, make in PLOTS.values()),
    ]
    assert sum(len(series) > 1 for series in plots) >= 3
    for series in plots:
        marks = [one.mark or one.style for one in series if one.name]
        assert len(set(marks)) == len(marks), [one.name for one in series]


def test_a_real_terminal_gets_no_colours_and_only_ascii(tmp_path: Path) -> None:
    """What was asserted of drawn screens holds for all that the program writes, from start to end."""
    written = bytearray()

    class Recorded(Terminal):
        def read(self, seconds: float) -> bytes:
            data = super().read(seconds)
            written.extend(data)
            return data

    lab = Recorded(tmp_path, 80, 24, (*LAB, "--ascii", "--no-color"))
    try:
        lab.until("Start")
        lab.press(PANE_KEYS["runs"], 0.0)
        lab.until("sorted by")
    finally:
        lab.close()
    text = written.decode("ascii")  # fails on anything else
    assert colour_parameters(text) == set()
    assert any("7" in codes.split(";") for codes in _SGR.findall(text)), "what is marked is reverse"
