"""The pages of Learn: what each shows, what can be set on it, and the blocks that its answer is made of. The
lab and the command line read these; :mod:`tui_lab.evaluation.learn` computes them. No torch."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.records import from_plain
from tui_lab.core.sanitize import sanitize

JOB_MODULE = "tui_lab.evaluation.learn"


class Knob(msgspec.Struct, frozen=True):
    """A value of a page that can be set. ``choices`` are in order, for ← and →."""

    name: str
    title: str
    choices: tuple[float, ...]
    start: float


class Page(msgspec.Struct, frozen=True):
    """A page. ``uses``: what it computes on: a text, a run, or nothing but the knobs and the model."""

    name: str
    title: str
    about: str
    knobs: tuple[Knob, ...] = ()
    uses_text: bool = False
    text: str = ""  # the text that it starts with
    needs_model: bool = True  # its weights; otherwise the page is computed at once


class _PageFile(msgspec.Struct, frozen=True):
    pages: tuple[Page, ...]


def _read_pages() -> tuple[Page, ...]:
    text = (resources.files("tui_lab.evaluation") / "learn_pages.toml").read_text("utf-8")
    return from_plain(tomllib.loads(text), _PageFile, "learn_pages.toml").pages


PAGES = _read_pages()
BY_NAME = {page.name: page for page in PAGES}


class LearnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A page with its values, on a model or a run (its base, and for LoRA its adapter)."""

    page: str
    model: str = "pocket"
    text: str = ""
    values: dict[str, float] = {}
    runs_dir: str = ""

    @property
    def model_name(self) -> str:
        """What a sentence calls the model: of a folder its own name."""
        path = Path(self.model)
        return sanitize(path.name if path.is_absolute() else self.model)

    def page_and_values(self) -> tuple[Page, dict[str, float]]:
        """The page, and every value of it. Raises LabError."""
        page = BY_NAME.get(self.page)
        if page is None:
            raise LabError(f"there is no page {sanitize(self.page)!r}; there are {', '.join(BY_NAME)}")
        known = {knob.name: knob.start for knob in page.knobs}
        for name in self.values:
            if name not in known:
                names = ", ".join(known) or "none"
                raise LabError(f"{page.name} has no value {sanitize(name)!r}; it has {names}")
        return page, {**known, **self.values}


class PageText(msgspec.Struct, frozen=True, tag="text"):
    """A paragraph."""

    text: str


class PageBars(msgspec.Struct, frozen=True, tag="bars"):
    """PageBars from 0 to the largest value, with the value as text."""

    title: str
    rows: Sequence[tuple[str, float, str]]


class PageTable(msgspec.Struct, frozen=True, tag="rows"):
    """A table; its first column is text, the others are flush right."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


PageBlock = PageText | PageBars | PageTable


class LearnAnswer(msgspec.Struct, frozen=True):
    """What a page shows."""

    page: str
    model: str
    blocks: list[PageBlock]


def lines(blocks: Sequence[PageBlock], width: int, ascii_only: bool = False) -> list[str]:
    """The blocks as lines of at most ``width`` cells; the text comes from models and is sanitised here."""
    import textwrap

    from rich.cells import cell_len, set_cell_size

    from tui_lab.core.format import bar

    found: list[str] = []
    for block in blocks:
        if found:
            found.append("")
        if isinstance(block, PageText):
            found += textwrap.wrap(sanitize(block.text), width)
            continue
        if block.title:
            found.append(sanitize(block.title))
        if isinstance(block, PageBars):
            shown = [sanitize(name) for name, _, _ in block.rows]
            widest = min(22, max(map(cell_len, shown), default=0))
            names = [set_cell_size(name, widest) for name in shown]
            texts = [sanitize(text) for _, _, text in block.rows]
            room = max(8, width - widest - 2 - max(map(cell_len, texts), default=0) - 2)
            top = max((value for _, value, _ in block.rows), default=0.0) or 1.0
            found += [
                f"{name}  {bar(value / top, room, ascii_only=ascii_only).ljust(room)}  {text}"
                for name, (_, value, _), text in zip(names, block.rows, texts, strict=True)
            ]
        else:
            rows = [[sanitize(cell) for cell in row] for row in (block.head, *block.rows)]
            wide = [max(cell_len(row[at]) for row in rows) for at in range(len(rows[0]))]
            for row in rows:
                first, *others = row
                numbers = (
                    " " * (w - cell_len(cell)) + cell for w, cell in zip(wide[1:], others, strict=True)
                )
                found.append("  ".join([set_cell_size(first, wide[0]), *numbers]).rstrip())
    return found
