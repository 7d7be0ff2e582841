"""Items from the prompt templates of ``standard.toml``, where "{column}" is the text in a column of the row.

Braces are the only syntax; a template is data of the package, and nothing in it is executed."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from functools import cache

from tui_lab.data.rows import RawRow
from tui_lab.retention.suites.records import BenchmarkSource, Item
from tui_lab.retention.suites.row_fields import choice_item, label_of, text_of


@cache
def columns_of(template: str) -> tuple[str, ...]:
    """The columns that a template names, in their order and once each."""
    named = (name for _, name, _, _ in string.Formatter().parse(template) if name)
    return tuple(dict.fromkeys(named))


def from_template(benchmark: BenchmarkSource, row: RawRow, identity: str) -> Item:
    """The item that a row makes with the templates of its benchmark. Raises BadItem."""
    values = _values(benchmark, row, (benchmark.prompt, *benchmark.choices))
    choices = [choice.format_map(values) for choice in benchmark.choices]
    right = label_of(row, len(choices), benchmark.labels, *benchmark.label)
    question = " / ".join(values[name] for name in columns_of(benchmark.prompt))
    category = row.get(benchmark.category) if benchmark.category else None
    return choice_item(
        identity,
        benchmark.prompt.format_map(values),
        choices,
        [right],
        question,
        str(category)[:80] if isinstance(category, str | int) else "",
    )


def _values(benchmark: BenchmarkSource, row: RawRow, templates: Iterable[str]) -> Mapping[str, str]:
    names = dict.fromkeys(name for template in templates for name in columns_of(template))
    return {name: text_of(row, name, *benchmark.aliases.get(name, ())) for name in names}
