"""Text that grows is wrapped like the complete text, and is sanitized."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult

from tests.ui.helpers import screen_text, until
from tui_lab.ui.widgets.stream_text import HeadPart, StreamText, wrap

WILD = st.text(alphabet=st.one_of(st.characters(exclude_characters="\n"), st.sampled_from("ab  漢字🧪é")))


@given(WILD, st.integers(2, 40))
@example("00 \x1b", 2)  # blanks hang over the edge, and what follows has no width
def test_lines_fit_and_join_to_the_text(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert "".join(lines) == text
    assert all(cell_len(line.rstrip()) <= width for line in lines)


@given(st.lists(st.text(alphabet="ab ", max_size=12), max_size=12), st.integers(2, 20))
def test_a_break_between_words_is_preferred(pieces: list[str], width: int) -> None:
    text = "".join(pieces)
    for line, following in zip(wrap(text, width), wrap(text, width)[1:], strict=False):
        broken_word = not line[-1:].isspace() and not following[:1].isspace()
        if broken_word:
            assert len(line.split(" ")[-1]) == width, "only a word as wide as the line is broken"


class Page(App[None]):
    def compose(self) -> ComposeResult:
        yield StreamText("nothing yet")


@given(st.data())
def test_appended_text_wraps_like_the_complete_text(data: st.DataObject) -> None:
    """The last line again and what came: the same lines as all at once."""
    text = data.draw(WILD)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    width = data.draw(st.integers(2, 30))
    lines = [""]
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        lines = [*lines[:-1], *wrap(lines[-1] + text[begin:end], width)]
    assert "".join(lines) == text
    assert all(cell_len(line.rstrip()) <= width for line in lines)


async def test_it_shows_a_hint_then_the_text_and_follows_its_end() -> None:
    app = Page()
    async with app.run_test(size=(20, 6)) as pilot:
        view = app.query_one(StreamText)
        assert "nothing yet" in screen_text(app)
        for number in range(40):
            view.append(f"line {number}\n")
        view.append("the end")
        await until(lambda: "the end" in screen_text(app))
        assert "nothing yet" not in screen_text(app)
        view.scroll_home(animate=False)
        await pilot.pause()
        view.append(" and more")
        await pilot.pause()
        assert "line 0" in screen_text(app), "somebody who scrolled back stays there"


async def test_hostile_text_is_sanitized() -> None:
    app = Page()
    async with app.run_test(size=(60, 6)) as pilot:
        view = app.query_one(StreamText)
        view.append("\x1b[31mred\x1b]0;title\x07 [bold]no[/bold] \u202eabc\r\x08")
        await pilot.pause()
        shown = screen_text(app)
        assert "␛[31mred" in shown
        assert "[bold]no[/bold]" in shown
        assert "⟨U+202E⟩abc" in shown
        assert "\x1b" not in shown
        assert "\u202e" not in shown


async def test_ten_thousand_tokens_without_a_space() -> None:
    app = Page()
    async with app.run_test(size=(40, 10)) as pilot:
        view = app.query_one(StreamText)
        for _ in range(1_000):
            view.append("abcdefghij" * 10)
        await pilot.pause()
        assert view.virtual_size.height >= 100_000 // 40
        assert "abcdefghij" in screen_text(app)


async def test_text_appended_while_hidden_is_shown_later() -> None:
    app = Page()
    async with app.run_test(size=(40, 6)) as pilot:
        view = app.query_one(StreamText)
        view.append("one ")
        view.display = False
        await pilot.pause()
        view.append("two ")
        view.append("three")
        view.display = True
        await until(lambda: "one two three" in screen_text(app))


async def test_a_narrower_window_wraps_again() -> None:
    app = Page()
    async with app.run_test(size=(40, 6)) as pilot:
        app.query_one(StreamText).append("word " * 12)
        await pilot.pause()
        await pilot.resize_terminal(12, 20)
        await until(lambda: all(len(line.rstrip()) <= 12 for line in screen_text(app).split("\n")))
        assert screen_text(app).count("word") == 12


async def test_a_head_stands_over_the_text_and_a_mark_stays_at_its_characters() -> None:
    app = Page()
    async with app.run_test(size=(12, 9)):
        view = app.query_one(StreamText)
        view.replace("", "wait", [HeadPart("› hi you", prominent=True), HeadPart("one two three\n")])
        await until(lambda: "wait" in screen_text(app))
        view.append("red \x1bgreen")
        view.append(" blue sky")
        await until(lambda: "sky" in screen_text(app))
        assert [line.rstrip() for line in view._lines] == [
            "› hi you", "one two", "three", "", "red ␛green", "blue sky",
        ]  # fmt: skip
        assert view.raw == "red \x1bgreen blue sky", "the head is no part of the text"
        at = view.raw.index("blue")
        view.mark((at, at + 4))
        marked = [
            (segment.text, bool(segment.style and segment.style.reverse))
            for y in range(6)
            for segment in view.render_line(y)
        ]
        assert [text for text, on in marked if on] == ["blue"]
        view.mark(None)
        assert not any(
            segment.style and segment.style.reverse for y in range(6) for segment in view.render_line(y)
        )
        view.replace("new")
        assert view._lines[-1] == "new"


async def test_the_scrollbar_hides_no_text() -> None:
    app = Page()
    async with app.run_test(size=(20, 4)):
        view = app.query_one(StreamText)
        line = "abcdefghijklmnopqrs"  # as wide as the window without the column of the scrollbar
        view.append("\n".join([line] * 9))
        await until(lambda: view.show_vertical_scrollbar)
        view.scroll_home(animate=False)
        await until(lambda: screen_text(app).count(line) == 4)
