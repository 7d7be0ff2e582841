"""Setup: a model, a preset, data and every field of the recipe, with a forecast of what they cost on this
machine, and the key that starts the run. A narrow window shows one list at a time, a wide one all of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.widgets import OptionList

from tui_lab.core.errors import LabError
from tui_lab.ui.actions.registry import bindings, first_key
from tui_lab.ui.screens import setup_items as items
from tui_lab.ui.screens.memory_fit import MemoryFit
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.widgets.chooser import Chooser
from tui_lab.ui.widgets.panel import as_panel
from tui_lab.ui.widgets.tab_bar import TabBar

if TYPE_CHECKING:
    import subprocess

    from tui_lab.models.catalog import Entry
    from tui_lab.recipes.presets import Preset
    from tui_lab.recipes.recipe import Recipe
    from tui_lab.ui.views.recipe_summary import RecipeSummary
    from tui_lab.ui.widgets.form import FieldsForm
    from tui_lab.ui.widgets.preview import Preview
    from tui_lab.ui.widgets.summary_view import SummaryView

PREVIEW_ROWS = 3


class SetupPane(Pane):
    """The pane. The heavy parts of its widgets (the recipe's schema, the catalog) come after its first
    frame."""

    GROUP = "setup"
    BINDINGS = bindings("setup")
    DEFAULT_CSS = """
    SetupPane #body { height: 1fr; layout: vertical; }
    SetupPane #sections { height: 1fr; }
    SetupPane #data Chooser { height: 6; }
    SetupPane #data Chooser .foot { height: 1; }
    SetupPane #summary { height: 9; max-height: 43%; }
    SetupPane.-short.-data #summary, SetupPane.-short.-fields #summary { height: 7; }
    SetupPane.-medium #summary, SetupPane.-tall #summary { height: 16; max-height: 50%; }
    SetupPane.-normal #body, SetupPane.-wide #body { layout: horizontal; }
    SetupPane.-normal #body #summary { height: 100%; max-height: 100%; width: 44; }
    SetupPane.-wide #body #summary { height: 100%; max-height: 100%; width: 28%; min-width: 52; }
    SetupPane.-wide TabBar { display: none; }
    SetupPane.-wide #sections {
        layout: grid; grid-size: 2 2; grid-columns: 7fr 5fr; grid-rows: 1fr 1fr;
    }
    SetupPane.-wide .part { display: block; }
    SetupPane.-wide .part.panel { border: round $border-blurred; }
    SetupPane.-wide .part.panel:focus-within { border: round $primary; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.preset = ""
        self.values: dict[str, object] = {}
        self.base: dict[str, object] = {}
        self.overrides: dict[str, object] = {}
        self.summary: RecipeSummary | None = None
        self._entries: list[Entry] = []
        self._presets: dict[str, Preset] = {}
        self._typed: dict[str, list[str]] = {"models": [], "data": []}
        self._filled = self._starting = False
        self._previewed: object = None
        self.memory = MemoryFit(self, self)

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
    def is_filled(self) -> bool:
        return self._filled

    @property
    def summary_view(self) -> SummaryView:
        return cast("SummaryView", self.query_one("#summary"))

    @property
    def preview(self) -> Preview:
        return cast("Preview", self.query_one("#preview"))

    # ------------------------------------------------------------------ filling, after the first frame

    def on_mount(self) -> None:
        self.lab.after_first_frame(self._fill)

    async def _fill(self) -> None:
        from tui_lab.ui.widgets.form import FieldsForm
        from tui_lab.ui.widgets.preview import Preview
        from tui_lab.ui.widgets.summary_view import SummaryView

        if self.is_left:
            return
        await self.query_one("#summary-place").remove()
        if self.is_left:
            return
        await self.query_one("#body").mount(SummaryView(id="summary"))
        sections = {
            "models": Vertical(
                Chooser(
                    items.MODEL_WIDTHS,
                    "reading the catalog…",
                    "other: a folder or a hub id…",
                    id="model-list",
                ),
                id="models",
            ),
            "presets": Vertical(
                Chooser(items.PRESET_WIDTHS, "reading presets…", id="preset-list"), id="presets"
            ),
            "data": Vertical(
                Chooser(
                    items.DATA_WIDTHS,
                    "reading data sets…",
                    "other: a file, a folder or a hub name…",
                    id="data-list",
                ),
                Preview(
                    "Here rows appear as the model sees them, with the tokens that are trained.", id="preview"
                ),
                id="data",
            ),
            "fields": Vertical(FieldsForm(id="form"), id="fields"),
        }
        for name, title in items.SECTIONS:
            key = first_key(f"setup.{name}", self.keymap)
            sections[name].add_class("part")
            as_panel(sections[name], title, key)
        if self.is_left:
            return
        await self.query_one("#sections").mount(*sections.values())
        if self.is_left:
            return
        self._load_presets()
        self._load_models()
        self.memory.start_watching()
        data = self.query_one("#data-list", Chooser)
        data.set_items(items.with_typed(items.bundled_items(), self._typed["data"]))
        self._filled = True
        self.action_show(self.query_one(TabBar).active)

    def _load_presets(self) -> None:
        from tui_lab.recipes.presets import DEFAULT_PRESET, list_presets

        presets, messages = list_presets()
        self._presets = {preset.name: preset for preset in presets}
        self.query_one("#preset-list", Chooser).set_items([items.preset_item(preset) for preset in presets])
        for message in messages:
            self.notice(message, "warning")
        usable = [preset.name for preset in presets if not preset.problems]
        if usable:
            self._take_preset(DEFAULT_PRESET if DEFAULT_PRESET in usable else usable[0])
        else:
            self.notice("No preset can be read: reinstall tui-lab, or see `tui-lab presets`.", "error")

    def _load_models(self) -> None:
        from tui_lab.models import catalog

        self.in_thread(catalog.load, self._show_models, "catalog")

    def _show_models(self, entries: list[Entry]) -> None:
        self._entries = entries
        chooser = self.query_one("#model-list", Chooser)
        chooser.chosen = str(self.values.get("model", ""))
        chooser.set_items(
            items.with_typed([items.model_item(entry) for entry in entries], self._typed["models"])
        )

    # ------------------------------------------------------------------ choosing

    def _take_preset(self, name: str) -> None:
        """A preset's values; what was typed into fields goes, model and data that were chosen stay."""
        remaining = {key: value for key, value in self.overrides.items() if key in ("model", "data")}
        dropped = len(self.overrides) - len(remaining)
        self.preset, self.overrides = name, remaining
        self.base = self._base()
        self.values = {**self.base, **remaining}
        self.query_one("#preset-list", Chooser).choose(name)
        self.form.load(self.values, self.base)
        if dropped:
            fields = f"{dropped} changed field{'s' * (dropped != 1)}"
            self.notice(f"{name}: {fields} went back to the preset's values")
        self._show_choice()

    def _base(self) -> dict[str, object]:
        """The preset over the defaults; a preset may say otherwise for the bundled model."""
        from tui_lab.recipes.recipe import FIELDS

        preset = self._presets[self.preset]
        model = self.overrides.get("model", preset.values.get("model", FIELDS["model"].default))
        defaults = {key: info.default for key, info in FIELDS.items()}
        return {**defaults, **preset.values_for(str(model)), "preset": self.preset}

    def _take(self, key: str, value: str) -> None:
        """A model or data."""
        self.overrides[key] = self.values[key] = value
        if (base := self._base()) != self.base:
            self.base, self.values = base, {**base, **self.overrides}
            self.form.load(self.values, self.base)
        self.form.values[key] = value
        self._show_choice()

    def _show_choice(self) -> None:
        tabs = self.query_one(TabBar)
        model, data = str(self.values.get("model", "")), str(self.values.get("data", ""))
        chosen = {"models": model.rpartition("/")[2], "presets": self.preset, "data": Path(data).name}
        tabs.set_tabs(items.section_tabs(chosen, self.keymap))
        self.query_one("#model-list", Chooser).choose(model)
        self.query_one("#data-list", Chooser).choose(data)
        self.update_summary()

    def update_summary(self) -> None:
        """Shows what the recipe comes to; called after each change of it."""
        from tui_lab.ui.views.recipe_summary import summarise

        if not self.values:
            return
        self.memory.forget_other_data()
        self.summary = summarise(
            self.values,
            self.preset,
            self._differing(),
            self.memory.device,
            self.memory.budget,
            self.memory.data,
        )
        self.summary_view.show(self.summary, self.keys("setup.start"), self.keys("setup.copy"))
        self.memory.show()
        self.form.set_advice(self._advice())

    def _differing(self) -> dict[str, object]:
        """What the command must say beyond preset, model and data."""
        return {k: v for k, v in self.values.items() if v != self.base.get(k)}

    def _advice(self) -> dict[str, str]:
        """Warnings by the field that they begin with."""
        warnings = self.summary.warnings if self.summary else ()
        return {key: text for text in warnings if (key := text.split(" ", 1)[0]) in self.values}

    def choose(self, preset: str, changes: dict[str, object]) -> None:
        """Chooses a preset with changed fields, model and data among them."""
        self.overrides = {}
        self._take_preset(preset)
        for key in ("model", "data"):
            if key in changes:
                self._take(key, str(changes[key]))
        self.overrides.update(changes)
        self.values = {**self.values, **changes}
        self.form.load(self.values, self.base)
        self._show_choice()

    @on(Chooser.Picked, "#preset-list")
    def _preset_picked(self, event: Chooser.Picked) -> None:
        preset = self._presets[event.item_id]
        if preset.problems:
            problems = "\n".join(problem.message for problem in preset.problems)
            self.notice(f"{preset.name} cannot be used:\n{problems}", "error")
            return
        self._take_preset(event.item_id)

    @on(Chooser.Picked, "#model-list")
    def _model_picked(self, event: Chooser.Picked) -> None:
        entry = next((e for e in self._entries if e.id == event.item_id), None)
        if entry and entry.refused and not (entry.needs_flag and self.values.get("allow_large")):
            self.notice(entry.refused, "error")
            return
        self._take("model", event.item_id)

    @on(Chooser.Picked, "#data-list")
    def _data_picked(self, event: Chooser.Picked) -> None:
        self._take("data", event.item_id)
        self._preview()

    @on(Chooser.TypeName)
    def _name_requested(self, event: Chooser.TypeName) -> None:
        self._ask("models" if event.chooser.id == "model-list" else "data")

    def _ask(self, section: str) -> None:
        if section == "models":
            question, example = "Model: a local folder or a hub id", "Qwen/Qwen3-0.6B  or  ~/models/mine"
        else:
            question = "Data: a JSON, JSONL, CSV, Parquet or text file, a folder, or a hub name"
            example = "~/data/train.jsonl"
        self.ask(question, "", partial(self._named, section), example)

    def _named(self, section: str, name: str) -> None:

        if not name:
            return
        self._typed[section].append(name)
        if section == "models":
            from tui_lab.models import catalog

            try:
                entry = catalog.find(name, allow_large=bool(self.values.get("allow_large")))
            except LabError as error:
                self._typed[section].pop()
                self.notice(error, "error")
                return
            self._typed[section][-1] = entry.id
            self._take("model", entry.id)
            self._show_models(self._entries)
        else:
            self._take("data", name)
            self.query_one("#data-list", Chooser).set_items(
                items.with_typed(items.bundled_items(), self._typed["data"])
            )
            self._preview()

    def on_fields_form_changed(self, event: FieldsForm.Changed) -> None:
        self.values = {**self.values, **event.values}
        self.overrides = {
            **{key: self.overrides[key] for key in ("model", "data") if key in self.overrides},
            **{k: v for k, v in self._differing().items() if k not in ("model", "data", "preset")},
        }
        self.update_summary()

    # ------------------------------------------------------------------ preview

    def _preview(self) -> None:
        keys = (
            "data", "model", "data_format", "columns", "max_length", "chat_template", "max_rows", "revision",
            "validation_fraction", "deduplicate", "seed", "thinking",
        )  # fmt: skip
        request = {key: self.values[key] for key in keys if key in self.values} | {"rows": PREVIEW_ROWS}
        if request != self._previewed:
            self._previewed = request
            self._run_preview(request)

    @work(exclusive=True, group="preview", description="preview the data", exit_on_error=False)
    async def _run_preview(self, request: dict[str, object]) -> None:
        from tui_lab.core.job_client import run_job
        from tui_lab.data.preview import PreviewAnswer

        view = self.preview
        name = Path(str(request["data"])).name
        view.show_text(f"reading {name}…")
        try:
            answer = await run_job(
                "tui_lab.data.preview",
                request,
                lambda text, *_: view.show_text(f"{name}: {text}…"),
                answer=PreviewAnswer,
            )
        except LabError as error:
            self._previewed = None  # asking again tries again
            view.show_text(f"✗ {error}", "$text-error")
        else:
            view.show_answer(answer)
            self.memory.set_data(request, answer.facts)

    # ------------------------------------------------------------------ actions

    def action_show(self, name: str) -> None:
        """Shows one of the lists and puts the cursor there."""
        self.activate(name)
        for widget in self.query(f"#{name} OptionList").results(OptionList):
            if widget.id != "picker":
                widget.focus()
                break
        if name == "data" and self.values:
            self._preview()

    def activate(self, name: str) -> None:
        super().activate(name)
        for other, _ in items.SECTIONS:
            self.set_class(other == name, f"-{other}")

    def action_type_name(self) -> None:
        active = self.query_one(TabBar).active
        self._ask("data" if active == "data" else "models")

    def action_copy_command(self) -> None:
        if self.summary is not None:
            self.app.copy_to_clipboard(self.summary.command)
            self.notice(f"Copied, if the terminal allows it:\n{self.summary.command}")

    def _valid_recipe(self, refusal: str) -> Recipe | None:
        """The recipe; None if it cannot be run, and then a message says why."""
        if self.summary is None or self.summary.recipe is None or self.summary.refusals:
            if self.summary is not None:
                self.notice(f"{refusal}:\n" + "\n".join(self.summary.refusals), "error")
            return None
        if problem := self.memory.refusal():
            self.notice(f"{refusal}: {problem}", "error")
            return None
        return self.summary.recipe

    def action_queue(self) -> None:
        """Puts what is chosen into the queue, which begins unless it is held."""
        if (recipe := self._valid_recipe("Not queued")) is not None:
            self.in_thread(partial(self._queue, recipe), self._queued, "queue")

    def _queue(self, recipe: Recipe) -> tuple[str, subprocess.Popen[bytes] | None]:
        from tui_lab.models import catalog, download
        from tui_lab.runs.queue import queue

        # a model that the hub refuses is reported now, not when its turn in the queue comes
        download.preflight(catalog.find(recipe.model, recipe.allow_large).loadable, recipe.revision)
        environment = self.memory.launch_environment() or {}
        (run,) = queue.add([recipe], gpus=environment.get(queue.GPUS_ENV))
        held = queue.read().held
        state = "The queue is held: " if held else ""
        text = f"Queued as {run.id}. {state}{self.keys('app.runs')} shows it."
        return text, None if held else queue.start_runner()

    def _queued(self, result: tuple[str, subprocess.Popen[bytes] | None]) -> None:
        text, child = result
        if child is not None:
            self.lab.adopt(child)
        self.notice(text)

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
        """Starts the run, after a question when another one is in progress."""
        if self._starting or self._valid_recipe("Not started") is None:
            return
        if self.memory.is_too_large():
            self.memory.ask_how(start=True)
        else:
            self.start_without_question()

    def start_without_question(self) -> None:
        """Starts the run, whether it fits or not."""
        if live := self.lab.live_runs():
            runs = "A run is" if live == 1 else f"{live} runs are"
            question = (
                f"{runs} in progress. Another one shares the machine and both get slower; "
                f"{self.keys('setup.queue')} lets it wait its turn instead."
            )
            self.confirm(question, "start", "no", self._start)
        else:
            self._start()

    def _start(self) -> None:
        self._starting = True
        self.in_thread(self._launch, lambda started: self.lab.open_run(*started), "start")

    def _launch(self) -> tuple[str, subprocess.Popen[bytes]]:
        from tui_lab.models import catalog, download
        from tui_lab.runs import launch

        assert self.summary is not None and self.summary.recipe is not None
        recipe = self.summary.recipe
        try:
            download.preflight(catalog.find(recipe.model, recipe.allow_large).loadable, recipe.revision)
            environment = self.memory.launch_environment()
            run, process = launch.create_and_start(recipe, environment=environment)
            return run.id, process
        finally:
            self._starting = False
