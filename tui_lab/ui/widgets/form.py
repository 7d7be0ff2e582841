"""The fields of a recipe as a list. Each line has a label, a value, and a mark when the value differs from
the preset; problems are below the field, help is at the foot. Arrows move, Enter edits in place, Left and
Right change a choice, Backspace restores the preset's value. Groups that a first run does not need are
closed; Enter opens them."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.core.sanitize import sanitize
from tui_lab.recipes.recipe import FIELDS, RecipeProblem, check_values, parse_value
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.actions.search_line import SearchLine
from tui_lab.ui.views.form_fields import (
    CLOSED_AT_FIRST,
    ELSEWHERE,
    in_order,
    matching,
    set_in,
    unused,
)

#: Cells of the labels.
LABEL_WIDTH = 22


class Rows(OptionList):
    """The list of fields. Left and Right change a choice instead of scrolling."""

    BINDINGS = bindings("form")

    def action_turn(self, by: int) -> None:
        if isinstance(form := self.parent, FieldsForm):
            form.turn(by)

    def action_reset(self) -> None:
        if isinstance(form := self.parent, FieldsForm):
            form.reset()

    def action_reset_all(self) -> None:
        if isinstance(form := self.parent, FieldsForm):
            form.reset_all()


class FieldsForm(Vertical):
    """Every field of a recipe. :meth:`load` sets the values; a change posts :class:`Changed`."""

    BINDINGS = bindings("editor")
    DEFAULT_CSS = """
    FieldsForm { layers: base editor; height: 1fr; }
    FieldsForm SearchLine, FieldsForm SearchLine:focus { layer: base; }
    FieldsForm Rows, FieldsForm Rows:focus {
        layer: base; height: 1fr; border: none; padding: 0; background: $background;
        text-wrap: nowrap; text-overflow: ellipsis; scrollbar-size-vertical: 1;
    }
    FieldsForm Rows > .option-list--option-disabled { color: $primary; text-style: bold; }
    FieldsForm #about { layer: base; height: 3; padding: 0 1; color: $text-muted; background: $surface; }
    #editor, #picker { layer: editor; display: none; position: absolute; border: none; }
    #picker:focus { border: none; }
    #editor { height: 1; padding: 0; background: $panel; }
    #picker {
        height: auto; padding: 0; background: $panel; width: 26; scrollbar-size-vertical: 1;
    }
    """

    @dataclass
    class Changed(Message):
        """The values changed. ``key``: the field, "" for all."""

        values: dict[str, Any]
        key: str

    @dataclass
    class Locked(Message):
        """Somebody tried to change a field that is locked."""

        key: str

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.values: dict[str, Any] = {}
        self.base: dict[str, Any] = {}
        self.problems: list[RecipeProblem] = []
        self.advice: dict[str, str] = {}
        self.automatic: dict[str, str] = {}  # what fields that are auto come to
        self.locked: frozenset[str] = frozenset()  # fields that come from an earlier run
        self._editing = ""
        self._heights: dict[str, int] = {}
        self._found: frozenset[str] | None = None  # the fields that the filter leaves
        self._open: set[str] = set()

    def compose(self) -> ComposeResult:
        yield SearchLine("part of a name; Escape shows all")
        yield Rows(id="rows")
        yield Static(id="about")
        yield Input(id="editor", compact=True)
        yield OptionList(id="picker", compact=True)

    @property
    def _rows(self) -> Rows:
        return self.query_one(Rows)

    @property
    def _editor(self) -> Input:
        return self.query_one("#editor", Input)

    @property
    def _picker(self) -> OptionList:
        return self.query_one("#picker", OptionList)

    # ------------------------------------------------------------------ values

    def load(self, values: Mapping[str, Any], base: Mapping[str, Any]) -> None:
        """Shows ``values``. ``base``: the values to compare with (the preset over the defaults)."""
        self._close(focus=False)
        self.values, self.base = dict(values), dict(base)
        self.problems = check_values(self.values)
        self._open |= {FIELDS[name].group for name in set_in(CLOSED_AT_FIRST, self.values)}
        self._fill()

    def _fill(self) -> None:
        """Fills the rows of all open groups. The cursor stays on its field."""
        rows, cursor = self._rows, self.key
        rows.clear_options()
        options: list[Option] = []
        group, query = "", self._found is not None
        for name in in_order():
            info = FIELDS[name]
            if info.group != group and (not query or self._shown(name)):
                group = info.group
                foldable = group in CLOSED_AT_FIRST and not query
                options.append(Option(self._group_prompt(group), id=f"group-{group}", disabled=not foldable))
            if self._shown(name):
                options.append(Option(self._prompt(name), id=name))
        rows.add_options(options)
        ids = [option.id for option in options]
        if cursor in ids:
            rows.highlighted = ids.index(cursor)
        elif options:
            rows.highlighted = 1
        self._describe()

    # ------------------------------------------------------------------ the filter

    def open_filter(self) -> None:
        """Opens the line that filters the fields."""
        self.query_one(SearchLine).open_search()

    @on(Input.Changed, "SearchLine")
    def _filtered(self, event: Input.Changed) -> None:
        event.stop()
        self._found = matching(event.value) if event.value.strip() else None
        self._fill()

    @on(Input.Submitted, "SearchLine")
    def _filter_taken(self, event: Input.Submitted) -> None:
        event.stop()
        self._rows.focus()

    def on_key(self, event: events.Key) -> None:
        """Escape shows all fields again; the arrows go from the filter into the list."""
        line = self.query_one(SearchLine)
        if event.key == "escape" and (line.has_focus or line.value) and not self._editing:
            line.close_search()
            self._rows.focus()
        elif event.key in ("down", "up") and line.has_focus:
            self._rows.focus()
        else:
            return
        event.stop()
        event.prevent_default()

    # ------------------------------------------------------------------ groups

    def _shown(self, name: str) -> bool:
        group = FIELDS[name].group
        if name in ELSEWHERE:
            return False
        if self._found is not None:
            return name in self._found
        return group not in CLOSED_AT_FIRST or group in self._open

    def _group_prompt(self, group: str) -> Content:
        """The title line of a group, with the number of fields that are set or changed."""
        if group in CLOSED_AT_FIRST and self._found is None:
            count = len(set_in((group,), self.values))
            note = f"   {count} set" if count else "   as usual"
            mark = "▾ " if group in self._open else "▸ "
        else:
            count = sum(FIELDS[name].group == group for name in self.changed if name not in ELSEWHERE)
            note, mark = f"   {count} changed" if count else "", ""
        return Content.assemble((f"{mark}{group}", "bold $primary"), (note, "$text-muted"))

    def toggle(self, group: str) -> None:
        """Opens or closes a group."""
        self._open ^= {group}
        self._fill()

    def set_advice(self, advice: Mapping[str, str], automatic: Mapping[str, str]) -> None:
        """Sets warnings, and what fields that are ``auto`` come to, by field."""
        if (dict(advice), dict(automatic)) != (self.advice, self.automatic):
            self.advice, self.automatic = dict(advice), dict(automatic)
            self._rewrite()

    def set_locked(self, names: AbstractSet[str]) -> None:
        """Sets the fields that come from an earlier run and cannot be changed."""
        if names != self.locked:
            self.locked = frozenset(names)
            self._rewrite()

    def _is_locked(self, key: str) -> bool:
        """Whether a field is locked; posts :class:`Locked` if so."""
        if key in self.locked:
            self.post_message(self.Locked(key))
        return key in self.locked

    @property
    def key(self) -> str:
        """The field under the cursor."""
        rows = self._rows
        if rows.highlighted is None or not rows.option_count:
            return ""
        return rows.get_option_at_index(rows.highlighted).id or ""

    @property
    def explains(self) -> str:
        """The term that F10 explains: the field that is edited, or under the cursor."""
        return f"fields.{self._editing or self.key}"

    def go_to(self, key: str) -> None:
        """Moves the cursor to a field."""
        if key in FIELDS and not self._shown(key):
            self.query_one(SearchLine).close_search()
            self._found = None
            self._open.add(FIELDS[key].group)
            self._fill()
        rows = self._rows
        rows.highlighted = rows.get_option_index(key)

    @property
    def changed(self) -> dict[str, Any]:
        """Values that differ from the preset's."""
        return {k: v for k, v in self.values.items() if k in self.base and v != self.base[k]}

    def set_value(self, key: str, value: Any) -> None:
        """Sets a field and posts :class:`Changed`. Epochs that are set decide the length, as on the command
        line."""
        before = self.values.get(key)
        if before == value and type(before) is type(value):
            return
        changes = {key: value}
        if key == "num_train_epochs" and self.values.get("max_steps"):
            changes["max_steps"] = 0
        self._set(changes, key)

    def _set(self, changes: Mapping[str, Any], key: str) -> None:
        self.values |= changes
        self.problems = check_values(self.values)
        self._rewrite()
        if self._found is None:
            for group in dict.fromkeys(FIELDS[name].group for name in changes):
                index = self._rows.get_option_index(f"group-{group}")
                self._rows.replace_option_prompt_at_index(index, self._group_prompt(group))
        self.post_message(self.Changed(dict(self.values), key))

    # ------------------------------------------------------------------ drawing

    def _problem(self, name: str) -> str:
        return "; ".join(problem.message for problem in self.problems if problem.key == name)

    def _prompt(self, name: str) -> Content:
        info = FIELDS[name]
        value = self.values.get(name, info.default)
        shown = info.shown(value)
        if shown == "auto" and (found := self.automatic.get(name)):
            shown = f"auto (= {found})"
        changed = name in self.base and value != self.base[name]
        notes = [f"preset: {sanitize(info.shown(self.base[name])) or '–'}"] if changed else []
        if name in self.locked:
            notes.append("from the earlier run")
        elif reason := unused(name, self.values):
            notes.append(reason)
        muted = "$text-muted" if name in self.locked or unused(name, self.values) else ""
        parts: list[Any] = [
            (f"{'●' if changed else ' '} ", "$changed"),
            (f"{info.label:<{LABEL_WIDTH}}", muted),
            (sanitize(shown) or "–", "bold" if changed else muted),
            (f"   {'; '.join(notes)}" if notes else "", "$text-muted"),
        ]
        extra_lines = 0
        if problem := self._problem(name):
            parts += ["\n", (f"    ✗ {sanitize(problem)}", "$text-error")]
            extra_lines += 1
        if advice := self.advice.get(name):
            parts += ["\n", (f"    ! {sanitize(advice)}", "$text-warning")]
            extra_lines += 1
        self._heights[name] = 1 + extra_lines
        return Content.assemble(*parts)

    def _rewrite(self) -> None:
        rows = self._rows
        for name in FIELDS:
            if self._shown(name) and rows.option_count:
                before = self._heights.get(name)
                prompt = self._prompt(name)
                index = rows.get_option_index(name)
                if before != self._heights[name] or rows.get_option_at_index(index).prompt != prompt:
                    rows.replace_option_prompt_at_index(index, prompt)
        self._describe()

    def _describe(self, candidate: Any = None) -> None:
        """Shows help for the field under the cursor at the foot, or its problem."""
        about, key = self.query_one("#about", Static), self._editing or self.key
        if key not in FIELDS:
            group = key.removeprefix("group-")
            names = ", ".join(i.label for n, i in FIELDS.items() if i.group == group and n not in ELSEWHERE)
            verb = "close" if group in self._open else "open"
            about.update(Content(f"Enter to {verb}: {names}" if names else ""))
            return
        info = FIELDS[key]
        problem = (
            "; ".join(p.message for p in check_values({key: candidate}) if p.key == key)
            if candidate is not None
            else self._problem(key)
        )
        advice = self.advice.get(key, "")
        note = (f"{key}: {info.allowed()}", "$text-muted")
        if problem:
            note = (sanitize(f"✗ {problem}"), "$text-error")
        elif advice:
            note = (sanitize(f"! {advice}"), "$text-warning")
        about.update(Content.assemble(info.help, "\n", note))

    # ------------------------------------------------------------------ editing

    def _row_top(self, key: str) -> int:
        """The row of a field, relative to the top of the form."""
        top = self._rows.virtual_region.y
        for option in self._rows.options:
            if option.id == key:
                break
            top += self._heights.get(option.id or "", 1)
        return top - round(self._rows.scroll_offset.y)

    @on(OptionList.OptionHighlighted, "#rows")
    def _moved(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if not self._editing:
            self._describe()

    @on(OptionList.OptionSelected, "#rows")
    def _edit(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id in FIELDS:
            self.edit(event.option_id)
        elif event.option_id:
            self.toggle(event.option_id.removeprefix("group-"))

    def edit(self, key: str) -> None:
        """Opens the editor of a field; a switch is toggled at once."""
        info, value = FIELDS[key], self.values.get(key)
        if self._is_locked(key):
            return
        if info.kind == "bool":
            self.set_value(key, not value)
            return
        self._editing = key
        left, top = LABEL_WIDTH + 2, self._row_top(key)
        if info.kind == "choice":
            picker = self._picker
            picker.clear_options()
            picker.add_options([Option(Content(choice), id=choice) for choice in info.choices])
            height = min(len(info.choices), max(3, self._rows.size.height))
            top = max(0, min(top, self._rows.size.height - height))
            picker.styles.max_height = height
            picker.styles.offset = (left, top)
            picker.display = True
            picker.highlighted = info.choices.index(value) if value in info.choices else 0
            picker.focus()
        else:
            editor = self._editor
            editor.styles.offset = (left, top)
            editor.styles.width = max(12, self.size.width - left - 2)
            editor.value = info.shown(value)
            editor.display = True
            editor.focus()
            editor.action_end()
        self._describe()

    @on(Input.Changed, "#editor")
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self._editing:
            self._describe(parse_value(self._editing, event.value))

    @on(Input.Submitted, "#editor")
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        key = self._editing
        if not key:
            return
        value = parse_value(key, event.value)
        if any(problem.key == key for problem in check_values({key: value})):
            self._describe(value)  # stays open until the value is valid, or Escape
            self.app.bell()
            return
        self._close()
        self.set_value(key, value)

    @on(OptionList.OptionSelected, "#picker")
    def _picked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        key = self._editing
        self._close()
        if key and event.option_id is not None:
            self.set_value(key, event.option_id)

    @on(OptionList.OptionHighlighted, "#picker")
    def _passing(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return bool(self._editing) if action == "leave" else super().check_action(action, parameters)

    def action_leave(self) -> None:
        self._close()

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        if self._editing and event.widget in (self._editor, self._picker):
            self._close(focus=False)

    def _close(self, focus: bool = True) -> None:
        if not self._editing:
            return
        self._editing = ""
        self._editor.display = False
        self._picker.display = False
        if focus:
            self._rows.focus()
        self._describe()

    def turn(self, by: int) -> None:
        """Takes the choice ``by`` places further, or toggles the switch."""
        key = self.key
        info = FIELDS.get(key)
        if info is None or self._is_locked(key):
            return
        if info.kind == "bool":
            self.set_value(key, not self.values.get(key))
        elif info.kind == "choice":
            value = self.values.get(key)
            place = info.choices.index(value) if value in info.choices else 0
            self.set_value(key, info.choices[(place + by) % len(info.choices)])

    def reset(self) -> None:
        """Restores the preset's value."""
        key = self.key
        if key in self.base and not self._is_locked(key):
            self._set({key: self.base[key]}, key)

    def reset_all(self) -> None:
        """Restores all values of the preset."""
        if changed := [key for key in self.changed if key not in ELSEWHERE]:
            self._set({key: self.base[key] for key in changed}, "")
