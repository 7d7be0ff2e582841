"""A report as one HTML page that needs nothing else: its style sheet and its charts are inside, there is no
script, and its own policy forbids to load anything. Light and dark as the reader's system is, readable by
screen readers and on paper. Every text is escaped, whatever it holds."""

from __future__ import annotations

from collections.abc import Iterator

from tui_lab.report.blocks import Block, Code, Document, Figure, Folded, Items, Quote, Table, Text
from tui_lab.report.markdown import shortened
from tui_lab.report.svg import clean, svg

#: Colours 0 to 7 of the charts, for light and for dark; each has a contrast over 3 with its background.
LIGHT = ("#6b8fb5", "#1f5fa8", "#b3460b", "#11734b", "#7a4fb0", "#0f7280", "#a3365f", "#6b6b6b")
DARK = ("#6f9bc8", "#8fc1ff", "#ffa15c", "#5fd39a", "#c3a0f5", "#5cc7d6", "#f591b2", "#a5a5a5")


#: Nothing is loaded and nothing is run, whatever a text may smuggle in.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def _palette(colours: tuple[str, ...]) -> str:
    return " ".join(f"--c{place}: {colour};" for place, colour in enumerate(colours))


STYLE = f"""
:root {{ color-scheme: light dark; --back: #ffffff; --ink: #1c1c1e; --soft: #5a5a60; --line: #d5d5da;
  --panel: #f5f5f7; {_palette(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ --back: #17181b; --ink: #ececee; --soft: #a9a9b2;
  --line: #3b3c42; --panel: #202126; {_palette(DARK)} }} }}
body {{ background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 60rem; padding: 1.5rem 1rem 4rem; }}
h1 {{ font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }}
h2 {{ border-top: 1px solid var(--line); font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: 1rem; }}
.subtitle, caption, figcaption, .label {{ color: var(--soft); }}
nav ul {{ display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; padding: 0; }}
a {{ color: var(--c1); }}
.scroll {{ overflow-x: auto; margin: 1rem 0; }}
table {{ border-collapse: collapse; font-size: .9rem; }}
caption {{ padding: .2rem 0; text-align: left; }}
th, td {{ border-bottom: 1px solid var(--line); max-width: 32rem; overflow-wrap: anywhere; padding: .25rem .6rem;
  text-align: left; vertical-align: top; }}
td.right, th.right {{ font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }}
tbody th {{ font-weight: normal; }}
pre {{ background: var(--panel); border-radius: 4px; overflow-x: auto; padding: .6rem .8rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }}
figure {{ margin: 1.5rem 0; }}
.label {{ margin-bottom: 0; }} .label + pre {{ margin-top: .2rem; }}
svg {{ height: auto; width: 100%; }}
svg text {{ fill: var(--ink); font: 12px system-ui, sans-serif; }}
svg .tick, svg .name {{ fill: var(--soft); font-size: 11px; }}
svg .grid {{ stroke: var(--line); stroke-width: 1; }} svg .axis {{ stroke: var(--soft); stroke-width: 1; }}
svg path {{ fill: none; stroke-linejoin: round; }}
svg .thin, svg .points {{ stroke-width: 1.3; }} svg .thick {{ stroke-width: 2.4; }}
svg .dashed {{ stroke-dasharray: 7 5; stroke-width: 1.6; }} svg .bar {{ opacity: .7; stroke-width: 1.2; }}
svg .band {{ opacity: .15; stroke: none; }}
{" ".join(f"svg .c{n} {{ stroke: var(--c{n}); }} svg circle.c{n}, svg rect.c{n} {{ fill: var(--c{n}); }}" for n in range(8))}
@media print {{ details > * {{ display: block; }} nav {{ display: none; }} }}
"""


def html(document: Document) -> str:
    """The whole page."""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{clean(document.title)}</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
        "<header>",
        f"<h1>{clean(document.title)}</h1>",
        f'<p class="subtitle">{clean(document.subtitle)}</p>',
        "</header>",
        '<nav aria-label="Contents">',
        "<ul>",
        *(f'<li><a href="#{s.id}">{clean(s.title)}</a></li>' for s in document.sections),
        "</ul>",
        "</nav>",
        "<main>",
    ]
    for section in document.sections:
        parts += [
            f'<section id="{section.id}" aria-labelledby="{section.id}-title">',
            f'<h2 id="{section.id}-title">{clean(section.title)}</h2>',
            *(element for block in section.blocks for element in _block(block)),
            "</section>",
        ]
    parts += ["</main>", "</body>", "</html>"]
    return "\n".join(parts) + "\n"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Text):
        yield f"<p>{clean(block.text)}</p>"
    elif isinstance(block, Items):
        yield "<ul>"
        for text in block.texts:
            yield f"<li>{clean(shortened(text))}</li>"
        yield "</ul>"
    elif isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Quote):
        yield f'<p class="label">{clean(block.label)}:</p>'
        yield f"<pre>{_lines(block.text)}</pre>"
    elif isinstance(block, Code):
        yield f"<pre><code>{_lines(block.text)}</code></pre>"
    elif isinstance(block, Figure):
        chart = block.chart
        yield "<figure>"
        yield svg(chart)
        yield f"<figcaption><strong>{clean(chart.title)}.</strong> {clean(chart.words())}</figcaption>"
        headers, rows = chart.table()
        if rows and block.table:
            yield "<details>"
            yield "<summary>Some of its figures</summary>"
            caption = f"{chart.title} ({chart.y_name})"
            right = tuple(range(len(headers)))
            yield from _table(Table(caption, tuple(headers), tuple(map(tuple, rows)), right))
            yield "</details>"
        yield "</figure>"
    elif isinstance(block, Folded):
        yield "<details>"
        yield f"<summary>{clean(block.title)}</summary>"
        for inner in block.blocks:
            yield from _table(inner)
        yield "</details>"


def _lines(text: str) -> str:
    return "\n".join(map(clean, shortened(text).split("\n")))


def _table(table: Table) -> Iterator[str]:
    def cell(tag: str, column: int, text: str, scope: str = "") -> str:
        kind = ' class="right"' if column in table.right else ""
        return f"<{tag}{kind}{scope}>{clean(shortened(text))}</{tag}>"

    yield '<div class="scroll">'
    yield "<table>"
    yield f"<caption>{clean(table.caption)}</caption>"
    head = (cell("th", n, text, ' scope="col"') for n, text in enumerate(table.headers))
    yield f"<thead><tr>{''.join(head)}</tr></thead>"
    yield "<tbody>"
    for row in table.rows:
        cells = (
            cell("td", n, text) if n else cell("th", 0, text, ' scope="row"') for n, text in enumerate(row)
        )
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody>"
    yield "</table>"
    yield "</div>"
