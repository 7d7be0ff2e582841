"""Setup: a model, a preset, data and every field of the recipe, with a forecast of what they cost on this
machine, and the key that starts the run. A narrow window shows one list at a time, a wide one all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.widgets import OptionList

from tui_lab.recipes.mixture import short_name
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.screens import setup_items as items
from tui_lab.ui.screens.memory_fit import MemoryFit
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.screens.setup_access import AccessCheck
from tui_lab.ui.screens.setup_earlier import GoingOn
from tui_lab.ui.screens.setup_lists import SetupLists
from tui_lab.ui.screens.setup_preview import DataPreview
from tui_lab.ui.screens.setup_start import RunStarter
from tui_lab.ui.screens.setup_style import SETUP_CSS
from tui_lab.ui.views.access import Access
from tui_lab.ui.widgets.chooser import Chooser
from tui_lab.ui.widgets.panel import as_panel
from tui_lab.ui.widgets.tab_bar import TabBar

if TYPE_CHECKING:
    from tui_lab.recipes.presets import Preset
    from tui_lab.runs.stages import EarlierRun
    from tui_lab.ui.views.recipe_summary import RecipeSummary
    from tui_lab.ui.widgets.form import FieldsForm
    from tui_lab.ui.widgets.preview import Preview
    from tui_lab.ui.widgets.summary_view import SummaryView


#: Seconds until the rows of the data are read where nobody has asked for them: after the first use of the
#: lab.
PREVIEW_AFTER_S = 2.0
#: Changes that can be undone, less one.
MOST_UNDONE = 49


class SetupPane(Pane):
    """The pane. The heavy parts of its widgets (the recipe's schema, the catalog) come after its first
    frame."""

    GROUP = "setup"
    BINDINGS = bindings("setup")
    DEFAULT_CSS = SETUP_CSS

    def __init__(self) -> None:
        super().__init__()
        self.preset = ""
        self.values: dict[str, object] = {}
        self.base: dict[str, object] = {}
        self.overrides: dict[str, object] = {}
        self.summary: RecipeSummary | None = None
        self.presets: dict[str, Preset] = {}
        self._filled = False
        self._wanted: dict[str, object] = {}  # the recipe of a run, until the pane has its parts
        self._now: tuple[str, dict[str, object]] | None = None  # preset and overrides
        self._before: list[tuple[str, dict[str, object]]] = []
        self.memory = MemoryFit(self, self)
        self.starter = RunStarter(
            self,
            self.memory,
            lambda: self.summary,
            lambda: self.data_preview.refusal(self.values),
            lambda: self.data_preview.is_read(self.values),
        )
        self.lists = SetupLists(self, self)
        self.data_preview = DataPreview(self, lambda: self.preview, self.memory.set_data, self._show_summary)
        self.access = AccessCheck(self, self._show_summary)
        self.going_on = GoingOn(self, lambda: self.overrides, self._take_over)

    def compose_body(self) -> ComposeResult:
        yield TabBar(items.section_tabs({}, self.keymap))
        with Container(id="body"):
            yield Container(id="sections")
            yield Vertical(id="summary-place")

    # These widgets bring the recipe's schema with them, so their classes are imported after the first frame.
    @property
    def form(self) -> FieldsForm:
        return cast("FieldsForm", self.query_one("#form"))

    @property
    def situation(self) -> str:
        if self._filled and self.form.has_focus_within:
            return "fields"
        return "does-not-fit" if self._filled and self.memory.is_too_large() else ""

    @property
    def is_filled(self) -> bool:
        return self._filled

    @property
    def is_ready(self) -> bool:
        return self._filled and bool(self.lists.entries) and self.memory.budget is not None

    @property
    def summary_view(self) -> SummaryView:
        return cast("SummaryView", self.query_one("#summary"))

    @property
    def preview(self) -> Preview:
        return cast("Preview", self.query_one("#preview"))

    # ------------------------------------------------------------------ filling, after the first frame

    def on_mount(self) -> None:
        self.lab.after_first_frame(self._fill)

    def on_screen_resume(self) -> None:
        """What could not be had is asked about again: a licence may have been accepted meanwhile."""
        if self.summary is not None:
            self.access.ask_again(self.summary.recipe, self.summary.entry)

    async def _fill(self) -> None:
        from tui_lab.ui.screens.setup_parts import parts
        from tui_lab.ui.widgets.summary_view import SummaryView

        if self.is_left:
            return
        await self.query_one("#summary-place").remove()
        if self.is_left:
            return
        await self.query_one("#body").mount(as_panel(SummaryView(id="summary"), "What it takes"))
        if self.is_left:
            return
        await self.query_one("#sections").mount(*parts(self.keymap))
        if self.is_left:
            return
        self._load_presets()
        self.lists.load()
        self.memory.start_watching()
        self.lists.show_data()
        self._filled = True
        if self._wanted:
            self.choose_again(self._wanted)
        self.action_show(self.query_one(TabBar).active)
        self.set_timer(PREVIEW_AFTER_S, self._preview_if_shown)

    def _preview_if_shown(self) -> None:
        """Where the data is in view from the start, its rows are too."""
        if self.shows_all_parts and self.is_current and self.values:
            self.data_preview.show(self.values)

    def _load_presets(self) -> None:
        from tui_lab.recipes.presets import DEFAULT_PRESET, list_presets

        presets, messages = list_presets()
        self.presets = {preset.name: preset for preset in presets}
        for message in messages:
            self.notice(message, "warning")
        usable = [preset.name for preset in presets if not preset.problems]
        if usable:
            self._take_preset(DEFAULT_PRESET if DEFAULT_PRESET in usable else usable[0])
        else:
            self.notice("No preset can be read: reinstall tui-lab, or see `tui-lab presets`.", "error")

    # ------------------------------------------------------------------ choosing

    def choose_again(self, values: dict[str, object]) -> None:
        """Chooses the recipe of an earlier run, given by field."""
        self._wanted = values
        if not self._filled:
            return
        self._wanted = {}
        preset = str(values.get("preset", ""))
        if preset not in self.presets:
            preset = self.preset
        base = self.presets[preset].every_value(str(values.get("model", "")))
        known = {key: value for key, value in values.items() if key in base and key != "preset"}
        self.choose(preset, {key: value for key, value in known.items() if value != base[key]})
        self.going_on.read()

    def go_on(self, earlier: EarlierRun) -> None:
        """Chooses the recipe of an earlier run, going on from what that run learned; asks for the data."""
        self.going_on.add(earlier)
        self.choose_again(earlier.values)
        if self._filled:
            self.action_show("data")
        else:
            self.activate("data")

    def _take_over(self, earlier: EarlierRun | None) -> None:
        """Takes the values of a run that was named and read; without one the card says why."""
        if earlier is not None:
            self.overrides = {**self.overrides, **earlier.taken_by(self.overrides)}
            self.base = self._own_base()
            self.values = {**self.base, **self.overrides}
            self.form.load(self.values, self.base)
        self._show_choice()

    def _take_preset(self, name: str) -> None:
        """A preset's values; what was typed into fields goes, model and data that were chosen stay."""
        remaining = {key: value for key, value in self.overrides.items() if key in ("model", "data")}
        remaining |= self.going_on.taken
        dropped = len(self.overrides.keys() - remaining)
        self.preset, self.overrides = name, remaining
        self.base = self._own_base()
        self.values = {**self.base, **remaining}
        self.query_one("#preset-list", Chooser).choose(name)
        self.form.load(self.values, self.base)
        if dropped:
            fields = f"{dropped} changed hyperparameter{'s' * (dropped != 1)}"
            self.notice(f"{name}: {fields} went back to the preset's values")
        self._show_choice()

    def _own_base(self) -> dict[str, object]:
        """The chosen preset for the chosen model."""
        from tui_lab.recipes.recipe import FIELDS

        own = self.presets[self.preset].values.get("model", FIELDS["model"].default)
        return self.presets[self.preset].every_value(str(self.overrides.get("model", own)))

    def _take(self, key: str, value: str) -> None:
        """A model or data."""
        self.overrides[key] = self.values[key] = value
        if (base := self._own_base()) != self.base:
            self.base, self.values = base, {**base, **self.overrides}
            self.form.load(self.values, self.base)
        self.form.values[key] = value
        self._show_choice()

    def _show_choice(self) -> None:
        tabs = self.query_one(TabBar)
        model, data = str(self.values.get("model", "")), str(self.values.get("data", ""))
        chosen = {"models": model.rpartition("/")[2], "presets": self.preset, "data": short_name(data)}
        tabs.set_tabs(items.section_tabs(chosen, self.keymap))
        self.lists.show_data(data)
        self.query_one("#model-list", Chooser).choose(model)
        self.query_one("#data-list", Chooser).choose(data)
        self.update_summary()

    def update_summary(self) -> None:
        """Shows what the recipe comes to; called after each change of it."""
        from tui_lab.ui.views.recipe_summary import automatic_values, summarise

        if not self.values:
            return
        self._remember()
        self.memory.forget_other_data()
        self.summary = summarise(
            self.values,
            self.preset,
            self._differing(),
            self.memory.device,
            self.memory.budget,
            self.memory.data,
        )
        warnings = (*self.memory.data_warnings(), *self.summary.warnings)
        before = self._before[-1][1] if self._before else self.overrides
        undo_removes = before.get("from_run") != self.overrides.get("from_run")
        refusals = (*self.summary.refusals, *self.going_on.refusals(self.values))
        goes_on = self.going_on.line(undo_removes)
        self.summary = replace(self.summary, warnings=warnings, refusals=refusals, goes_on=goes_on)
        self.form.set_locked(self.going_on.taken.keys() - {"from_run", "frozen_rank"})
        self.access.update(self.summary.recipe, self.summary.entry)
        self._show_summary()
        self.memory.show()
        self.form.set_advice(self._advice(), automatic_values(self.summary, self.memory.data))
        self.lists.update_marks()

    def _show_summary(self) -> None:
        if self.summary is not None:
            access = self.access.found
            if not access.problem and self.data_preview.problem(self.values):
                name = short_name(str(self.values["data"]))
                access = Access(problem=f"The rows of {name} cannot be used", of="rows")
            self.summary_view.show(self.summary, access)

    def _remember(self) -> None:
        """Keeps what was chosen before, for :meth:`action_undo`."""
        now = (self.preset, dict(self.overrides))
        if self._now is not None and now != self._now:
            self._before = [*self._before[-MOST_UNDONE:], self._now]
        self._now = now

    def action_undo(self) -> None:
        """Goes back to what was chosen before the last change."""
        if not self._before:
            self.notice("There is nothing to undo.")
            return
        *self._before, self._now = self._before
        self.preset, self.overrides = self._now[0], dict(self._now[1])
        self.base = self._own_base()
        self.values = {**self.base, **self.overrides}
        self.query_one("#preset-list", Chooser).choose(self.preset)
        self.form.load(self.values, self.base)
        self._show_choice()

    def _differing(self) -> dict[str, object]:
        """What the command must say beyond preset, model and data."""
        return {k: v for k, v in self.values.items() if v != self.base.get(k)}

    def _advice(self) -> dict[str, str]:
        """Warnings by the field that they begin with."""
        warnings = self.summary.warnings if self.summary else ()
        return {key: text for text in warnings if (key := text.split(" ", 1)[0]) in self.values}

    def choose(self, preset: str, changes: dict[str, object]) -> None:
        """Chooses a preset with changed fields, model and data among them."""
        history = self._before, self._now
        self.overrides = {}
        self._take_preset(preset)
        for key in ("model", "data"):
            if key in changes:
                self._take(key, str(changes[key]))
        self.overrides.update(changes)
        self.values = {**self.values, **changes}
        self.form.load(self.values, self.base)
        self._before, self._now = history  # one change, not one for each part
        self._show_choice()

    @on(Chooser.Picked, "#preset-list")
    def _preset_picked(self, event: Chooser.Picked) -> None:
        preset = self.presets[event.item_id]
        if preset.problems:
            problems = "\n".join(problem.message for problem in preset.problems)
            self.notice(f"{preset.name} cannot be used:\n{problems}", "error")
            return
        self._take_preset(event.item_id)

    @on(Chooser.Picked, "#model-list")
    def _model_picked(self, event: Chooser.Picked) -> None:
        entry = next((e for e in self.lists.all_entries() if e.id == event.item_id), None)
        if entry and entry.refused and not (entry.needs_flag and self.values.get("allow_large")):
            self.notice(entry.refused, "error")
            return
        if not self.going_on.refuses("model", event.item_id):
            self._take("model", event.item_id)

    @on(Chooser.Picked, "#data-list")
    def _data_picked(self, event: Chooser.Picked) -> None:
        self._take("data", event.item_id)
        self.data_preview.show(self.values)

    @on(Chooser.TypeName)
    def _name_requested(self, event: Chooser.TypeName) -> None:
        self._ask("models" if event.chooser.id == "model-list" else "data", event.text)

    def _ask(self, section: str, text: str = "", then: Callable[[], object] | None = None) -> None:
        """Asks for a model or data; ``then`` is called once a name was given."""
        from tui_lab.ui.screens.ask_name import AskName, DataNames, ModelNames

        def named(name: str | None) -> None:
            self._named(section, name)
            if name and then is not None:
                then()

        models = ModelNames(self.lists.entries, self.values.get("allow_large") is True)
        self.app.push_screen(AskName(models if section == "models" else DataNames(), text), named)

    def _named(self, section: str, name: str | None) -> None:
        """Takes a name that was typed and checked."""
        if not name:
            return
        if section == "models":
            from tui_lab.models import catalog

            entry = catalog.find(name, allow_large=self.values.get("allow_large") is True)
            if self.going_on.refuses("model", entry.id):
                return
            self.lists.add_model(entry)
            self._take("model", entry.id)
        else:
            self._take("data", name)
            self.data_preview.show(self.values)

    def on_fields_form_changed(self, event: FieldsForm.Changed) -> None:
        self.values = {**self.values, **event.values}
        self.overrides = {
            **{key: self.overrides[key] for key in ("model", "data") if key in self.overrides},
            **{k: v for k, v in self._differing().items() if k not in ("model", "data", "preset")},
        }
        if event.key == "from_run":
            self.going_on.read()
        if event.key == "frozen_rank":  # other values come from the run
            self.going_on.explain_new_adapter(self.values)
            self._take_over(self.going_on.earlier)
        self.update_summary()

    def on_fields_form_locked(self, event: FieldsForm.Locked) -> None:
        self.going_on.refuse_field(event.key)

    # ------------------------------------------------------------------ actions

    def action_show(self, name: str) -> None:
        """Shows one of the lists and puts the cursor there."""
        self.activate(name)
        for widget in self.query(f"#{name} OptionList").results(OptionList):
            if widget.id != "picker":
                widget.focus()
                break
        if name == "data" and self.values:
            self.data_preview.show(self.values)

    def action_tab(self, name: str) -> None:
        self.action_show(name)

    def activate(self, name: str) -> None:
        super().activate(name)
        for other, _ in items.SECTIONS:
            self.set_class(other == name, f"-{other}")

    def _list(self) -> Chooser | FieldsForm | None:
        """The list that has the focus, else the one that is shown."""
        from tui_lab.ui.widgets.form import FieldsForm

        if self.focused is not None:
            for each in self.focused.ancestors_with_self:
                if isinstance(each, Chooser | FieldsForm):
                    return each
        name = self.query_one(TabBar).active
        return self.form if name == "fields" else self.query(f"#{name} Chooser").first(Chooser)

    def action_filter(self) -> None:
        """Filters the list that has the focus."""
        if (found := self._list()) is not None:
            found.open_filter()

    def action_own(self) -> None:
        """Asks for a model, then for data, and shows the presets."""
        self._ask("models", then=lambda: self._ask("data", then=lambda: self.action_show("presets")))

    def action_type_name(self) -> None:
        """Asks for a folder, a file or a hub id."""
        self._ask("data" if self.query_one(TabBar).active == "data" else "models")

    def action_sort(self, by: int) -> None:
        if isinstance(found := self._list(), Chooser):
            found.sort(by)

    def action_reverse(self) -> None:
        if isinstance(found := self._list(), Chooser):
            found.reverse()

    def action_copy_command(self) -> None:
        if self.summary is not None:
            self.copy(self.summary.command)

    def action_queue(self) -> None:
        self.starter.queue()

    def action_advise(self) -> None:
        """Opens the dialog that measures whether to tune at all."""
        from tui_lab.ui.screens.advise import AdviseScreen

        if self.summary is None or self.summary.recipe is None:
            self.notice("Choose a model and data first: there is no recipe to measure yet.", "warning")
        else:
            self.app.push_screen(AdviseScreen(self.summary.recipe))

    def action_prices(self) -> None:
        """Opens the dialog with the cost of the recipe on each card of the user's table."""
        from tui_lab.ui.screens.prices import PricesScreen

        if self.summary is None or self.summary.recipe is None or self.summary.entry is None:
            self.notice("Choose a model and data first: there is no recipe to forecast yet.", "warning")
        else:
            self.app.push_screen(PricesScreen(self.summary.recipe, self.summary.entry, self.memory.data))

    def action_search(self) -> None:
        self.starter.search()

    def action_make_fit(self) -> None:
        self.memory.apply_or_undo()

    def action_ways(self) -> None:
        self.memory.list_ways()

    def action_exact(self) -> None:
        self.memory.count_memory()

    def action_calibrate(self) -> None:
        self.memory.measure_speed()

    def action_next_gpu(self) -> None:
        self.memory.choose_next_gpu()

    def action_start(self) -> None:
        self.starter.start()

    def start_without_question(self) -> None:
        """Starts the run, whether it fits or not."""
        self.starter.start_without_question()
