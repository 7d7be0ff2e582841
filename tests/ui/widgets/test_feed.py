"""A feed keeps its scroll position when it grows, is wrapped again, or is replaced."""

from __future__ import annotations

from textual.app import App, ComposeResult

from tests.ui.helpers import screen_text, until
from tui_lab.ui.widgets.feed import Feed


class Page(App[None]):
    def compose(self) -> ComposeResult:
        yield Feed("nothing yet")


def entry(number: int) -> tuple[tuple[str, str], ...]:
    return (
        (f"entry {number:03d} ", "title"),
        ("and some words that need a second line in a narrow window", ""),
    )


async def test_the_scroll_position_survives_any_width() -> None:
    app = Page()
    async with app.run_test(size=(90, 12)) as pilot:
        feed = app.query_one(Feed)
        feed.update_entries([entry(n) for n in range(100)])
        await pilot.pause()
        assert "entry 099" in screen_text(app), "it follows the end"
        feed.scroll_to(y=40, animate=False, immediate=True)
        await pilot.pause()
        assert screen_text(app).startswith(" entry 040")
        for size in ((40, 12), (33, 20), (200, 10), (90, 12)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert "entry 040" in screen_text(app).split("\n")[0], size
        feed.update_entries([entry(n) for n in range(110)])
        await pilot.pause()
        assert screen_text(app).startswith(" entry 040"), "what is new comes below"
        feed.replace([*(entry(n) for n in range(120))])
        await pilot.pause()
        assert screen_text(app).startswith(" entry 040")


async def test_the_feed_follows_its_end() -> None:
    app = Page()
    async with app.run_test(size=(90, 12)) as pilot:
        feed = app.query_one(Feed)
        feed.update_entries([entry(n) for n in range(100)])
        for size in ((40, 12), (200, 10)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert "entry 099" in screen_text(app), size
        feed.update_entries([entry(n) for n in range(50, 102)])  # the oldest made room
        await until(lambda: "entry 101" in screen_text(app))
        assert [parts[0][0] for parts in feed.entries][-2:] == ["entry 100 ", "entry 101 "]
