"""Hostile text stays text: independent parsers of HTML and Markdown find the same elements whatever the
text, and read the text back, sanitised. Charts are well-formed for any values and stay inside their frame."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tui_lab.core.sanitize import sanitize
from tui_lab.report.blocks import (
    AnswerPair,
    AnswersBlock,
    Bullets,
    CommandsBlock,
    DetailsBlock,
    Document,
    FigureBlock,
    Headline,
    Paragraph,
    Quote,
    Section,
    Tile,
)
from tui_lab.report.charts import Chart, ChartSeries, Table, some, thinned
from tui_lab.report.forest import ForestBlock, ForestLine, forest
from tui_lab.report.render import DARK, LIGHT, MAX_CHARACTERS, escape, fenced, html, markdown, sparkline
from tui_lab.report.svg import HEIGHT, WIDTH, round_steps, svg
from tui_lab.retention.statistics import Interval

HOSTILE = (
    "<script>alert(1)</script>", "</pre></td><img src=x onerror=alert(1)>", "\"><svg onload='x'>",
    "&lt;b&gt;",
    "a | b |\n| --- |\n| c", "```\n# out\n```", "~~~~\nx", "[x](javascript:alert(1))", "![x](http://a/b.png)",
    "www.evil.com http://evil.com me@evil.com <http://evil.com>", "\x1b[2J\x1b]0;x\x07", "\u202etxt.exe",
    "<!--",
    "- a\n- b", "1. one", "---", "===", "# heading", "> quote", "\\", "`", "``` ```",
    "*b* _i_ ~~s~~ $x$ ^[n]",
    "| | |", "\r\n\x85\u2028", "]]>", "&#60;script&#62;", "a\\", "    code", "\ud800", "{{ x }}", "+ x",
    "2) x",
    "<details><summary>x", "[^1]: x", "[a]: http://x", "-", "=", "12.", "",
)  # fmt: skip
texts = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=30),
    st.lists(st.sampled_from((*HOSTILE, "\n", " ", "x")), max_size=4).map("".join),
    st.text(alphabet="<>&\"'`|\\*_[]()#~-+=!$^:/.@\n x1\x1b\u202e", max_size=24),
)


def sample(text: str) -> Document:
    """A document with ``text`` in every place that takes text."""
    table = Table(text, (text, "b"), ((text, text), ("x", text)), right=(1,))
    line = ChartSeries(f"a{text}", 0, [1, 2], [3.0, 4.0])
    chart = Chart("loss", text, text, (line,), x_name=text)
    blocks = (
        Paragraph(text), Bullets((text, "x")), table, Quote(text, text), CommandsBlock(text),
        FigureBlock(chart),
        DetailsBlock(text, (table,)),
        AnswersBlock(text, (text, text), (AnswerPair(text, f"x{text}", text, text, True, False),)),
        ForestBlock(text, (ForestLine(text, text, Interval(0.9, 0.8, 1.0), "green"),), 0.9),
    )  # fmt: skip
    head = Headline("good", text, text, (Tile(text, text, text, "good"),))
    return Document(text, text, (Section("one", text, blocks),), head)


class Reader(HTMLParser):
    """Collects elements with their attribute names, texts, and links."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.other: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(sorted(name for name, _ in attrs))))
        self.links += [
            str(value) for name, value in attrs if name in ("href", "src", "action", "style", "xlink:href")
        ]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    def unknown_decl(self, data: str) -> None:
        self.other.append(data)

    def handle_pi(self, data: str) -> None:
        self.other.append(data)


PLAIN = Reader(html(sample("x")))


@given(texts)
@example("\ud800")
def test_text_cannot_add_elements_to_the_html(text: str) -> None:
    page = html(sample(text))
    found = Reader(page)
    assert found.tags == PLAIN.tags and found.links == PLAIN.links == ["#one"] and not found.other
    assert not any(name.startswith("on") for _, names in found.tags for name in names)
    shown = sanitize(text)
    if shown.strip():
        assert "".join(found.texts).count(shown) >= 10
    page.encode()  # raises for lone surrogates
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", page)


def test_the_page_loads_nothing_and_is_accessible() -> None:
    page = html(sample("x"))
    tags = {tag for tag, _ in PLAIN.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert "default-src 'none'" in page and "http" not in page.replace("http-equiv", "").replace(
        'xmlns="http://www.w3.org/2000/svg"', ""
    )
    assert "prefers-color-scheme: dark" in page and 'lang="en"' in page
    assert {"caption", "figcaption", "title", "desc", "main", "nav"} <= tags
    assert all("scope" in names for tag, names in PLAIN.tags if tag == "th")


@pytest.mark.parametrize(("colours", "back"), [(LIGHT, "#ffffff"), (DARK, "#17181b")])
def test_colours_have_enough_contrast(colours: tuple[str, ...], back: str) -> None:
    """WCAG 2.2, 1.4.11: graphics have a contrast of 3 to 1."""

    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in colours:
        low, high = sorted((light(colour), light(back)))
        assert (high + 0.05) / (low + 0.05) >= 3, colour


def parsed(text: str) -> list[Any]:
    """Tokens of a CommonMark parser with tables, strikethrough, bare links and HTML enabled."""
    reader = MarkdownIt("gfm-like", {"html": True, "linkify": True})
    return list(reader.parse(text))


def shape(tokens: list[Any]) -> list[str]:
    """The sequence of token types; adjacent texts count once."""
    kinds: list[str] = []
    for token in tokens:
        kinds.append(f"{token.type}{token.level}")
        for child in token.children or ():
            kind = "text" if child.type in ("text", "text_special") else child.type
            if kinds[-1] != kind or kind != "text":
                kinds.append(kind)
    return kinds


@given(texts)
def test_escaped_markdown_is_plain_text(text: str) -> None:
    tokens = parsed(f"before\n\n{escape(text)}\n\n- {escape(text)} x\n\nafter\n")
    wanted = " ".join(sanitize(text).split())
    inline = ["".join(c.content for c in token.children) for token in tokens if token.type == "inline"]
    assert inline == [t for t in ("before", wanted, f"{wanted} x".strip(), "after") if t]
    kinds = {child.type for token in tokens for child in token.children or ()}
    assert kinds <= {"text", "text_special"}
    assert {token.type for token in tokens} <= {
        "paragraph_open", "paragraph_close", "inline", "bullet_list_open", "bullet_list_close",
        "list_item_open", "list_item_close",
    }  # fmt: skip


@given(texts)
def test_cells_of_a_markdown_table_stay_separate(text: str) -> None:
    table = Table("caption", ("a", "b"), ((text, "x"), ("y", text)))
    tokens = parsed(markdown(Document("t", "s", (Section("i", "h", (table,)),))))
    inside = [t.type for t in tokens]
    assert inside.count("table_open") == 1 and inside.count("td_open") == 4 and inside.count("tr_open") == 3
    cells = [
        "".join(child.content for child in tokens[at + 1].children)
        for at, token in enumerate(tokens)
        if token.type == "td_open"
    ]
    shown = " ".join(sanitize(text).split())
    assert cells == [shown, "x", "y", shown]


@given(texts)
def test_text_cannot_close_its_fence(text: str) -> None:
    tokens = parsed(f"{fenced(text)}\n\nafter\n")
    assert [token.type for token in tokens][:2] == ["fence", "paragraph_open"]
    assert tokens[0].content == sanitize(text, keep_newlines=True) + "\n"


@given(texts.filter(lambda text: text.strip() != ""))
def test_text_cannot_add_elements_to_the_markdown(text: str) -> None:
    wanted = shape(parsed(markdown(sample("x"))))
    shown = sanitize(text)
    if shown.strip():
        assert shape(parsed(markdown(sample(text)))) == wanted


def test_long_text_is_shortened_with_a_note() -> None:
    assert len(escape("x" * 100_000)) < MAX_CHARACTERS + 50 and "100,000 characters" in escape("x" * 100_000)


# --- charts -------------------------------------------------------------------------------------------

figures = st.one_of(
    st.floats(), st.floats(-10, 10), st.sampled_from((math.nan, math.inf, 1e308, -1e308, 0.0))
)
series = st.lists(figures, max_size=12)


@given(series, series, st.sampled_from(("thin", "thick", "points", "dashed")), st.booleans(), st.booleans())
def test_a_chart_is_well_formed_for_any_values(
    ys: list[float], lows: list[float], style: Any, bytes_: bool, zero: bool
) -> None:
    xs = list(range(len(ys)))
    bounds = [*lows, *[math.nan] * len(ys)][: len(ys)]
    lines = (
        ChartSeries("a<b", 1, xs, ys, style, bounds, ys),
        ChartSeries("limit", 7, [0.0, 5.0], [0.5] * 2, "dashed"),
    )
    chart = Chart("id", "A & B", "y", lines, unit="bytes" if bytes_ else "number", from_zero=zero)
    root = ElementTree.fromstring(svg(chart))
    name = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{name}title").text == "A & B" and root.find(f"{name}desc").text  # type: ignore[union-attr]
    for element in root.iter():
        if element.tag in (f"{name}path", f"{name}circle", f"{name}line", f"{name}rect"):
            numbers = re.findall(r"-?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)", " ".join(
                value for key, value in element.attrib.items() if key != "class"
            ))  # fmt: skip
            values = [float(number) for number in numbers]
            assert all(math.isfinite(value) and -40 <= value <= max(WIDTH, HEIGHT) for value in values)
    assert all(len(row) == len(chart.table.headers) for row in chart.table.rows)
    sparkline(lines[0])


def test_pixel_positions() -> None:
    """Computed by hand from the frame: the lowest at the bottom, the highest at the top, a gap between."""
    chart = Chart("id", "t", "y", (ChartSeries("a", 0, [0, 5, 10], [0.0, math.nan, 4.0], "points"),))
    circles = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg(chart))
    assert circles[:2] == [("68.0", "208.0"), ("448.0", "40.0")]
    assert 'd="M68.0 208.0M448.0 40.0"' in svg(chart)
    assert chart.description == "A goes from 0 at step 0 to 4 at 10; lowest 0 at 0, highest 4 at 10."
    band = ChartSeries("bounds", 7, [0, 10], [2, 2], "band", [1, 1], [3, 3])
    drawn = svg(Chart("id", "t", "y", (*chart.series, band)))
    assert '<rect class="band c7" x="68.0" y="82.0" width="380.0" height="84.0"/>' in drawn


def test_a_forest_plot_has_every_row_on_one_axis() -> None:
    rows = (
        ForestLine("all", "100 items", Interval(0.8, 0.6, 1.0), "amber"),
        ForestLine("part", "9 items", Interval(0.4, 0.2, 0.6), "red", part=True),
        ForestLine("none", "3 items", Interval(math.nan, math.nan, math.nan), "cannot_tell"),
        ForestLine("far", "3 items", Interval(9.0, -math.inf, math.inf), "green"),
    )
    plot = forest("Retention", rows, 0.9)
    assert plot is not None and plot.ticks == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert [plot.at(value) for value in (0.0, 0.9, 1.0, 9.0, -3.0)] == [0.0, 45.0, 50.0, 100.0, 0.0]
    assert rows[0].figures == "0.80 (0.60 – 1.00)" and rows[2].figures == "–"
    assert [row.tone for row in rows] == ["mild", "bad", "none", "good"]
    assert "part: 0.40 (0.20 – 0.60), ✗ forgotten." in plot.description
    page = html(Document("t", "s", (Section("one", "r", (plot,)),)))
    assert page.count('class="interval"') == 3 and 'x1="45.0%" x2="45.0%"' in page
    assert forest("Retention", rows[2:3], 0.9) is None


@given(st.lists(st.tuples(figures, figures, figures), min_size=1, max_size=4), st.none() | st.floats(0, 1))
def test_a_forest_plot_stays_inside_its_axis(
    estimates: list[tuple[float, float, float]], at: float | None
) -> None:
    rows = [ForestLine("a", "", Interval(*each), "green") for each in estimates]
    if (plot := forest("t", rows, at)) is not None:
        assert len(plot.ticks) <= 8
        for each in (*estimates[0], *estimates[-1], 1.0):
            assert 0 <= plot.at(each) <= 100
        html(Document("t", "s", (Section("one", "r", (plot,)),)))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.booleans())
def test_ticks_are_round_and_enclose_the_values(low: float, span: float, binary: bool) -> None:
    assume(span > 1e-9 * abs(low))  # smaller spans are lost in the rounding of the values
    ticks = round_steps(low, low + span, binary=binary)
    step = ticks[1] - ticks[0]
    assert ticks[0] <= low + 1e-6 * step and ticks[-1] >= low + span - 1e-6 * step and 2 <= len(ticks) <= 8
    digits = math.frexp(step)[0] if binary else float(f"{step:.6e}".split("e")[0])
    assert digits == 0.5 if binary else any(abs(digits - round_) < 1e-3 for round_ in (1, 2, 5, 10))


@given(st.lists(st.one_of(st.floats(-5, 5), st.just(math.nan)), min_size=1, max_size=400), st.integers(8, 60))
def test_thinning_keeps_extremes_ends_and_gaps(ys: list[float], most: int) -> None:
    points = thinned(range(len(ys)), ys, most)
    known = [y for y in ys if math.isfinite(y)]
    kept = [y for _, y in points if math.isfinite(y)]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert (min(known), max(known)) == (min(kept), max(kept)) if known else not kept
    assert len(points) <= 2 * most + 1 and {x for x, _ in points} <= set(range(len(ys)))
    if len(ys) > most and all(map(math.isfinite, ys)):
        assert points[-1] == (len(ys) - 1, ys[-1]) and len(points) <= most + 1


def test_some_selects_ends_and_evenly_spaced_values() -> None:
    assert some(list(range(100)), 4) == [0, 33, 66, 99] and some([1, 2], 5) == [1, 2]
