"""Predictions of a run in the lab: every row of a data set answered by base and tuned model, as a list of the
rows whose answers differ, which are read whole and voted on blindly. They are answered by a job; what it has
answered is in the file, and is shown when it is stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option

from tui_lab.core.errors import LabError
from tui_lab.core.format import decimal, interval, metric_name, plural
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.data import bundled
from tui_lab.evaluation import prediction_file
from tui_lab.evaluation.prediction_file import PredictedAnswer, Prediction, PredictionSettings
from tui_lab.evaluation.prediction_summary import PredictedMetric, summarise
from tui_lab.playground import votes
from tui_lab.runs.folder import Run, open_run
from tui_lab.ui.actions.modal import ListDialog
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.screens.ask_changes import run_lab_job
from tui_lab.ui.screens.blind import Blind
from tui_lab.ui.screens.item_view import FOOT_LINES, named_texts, open_item
from tui_lab.ui.screens.pane import Pane

if TYPE_CHECKING:
    from tui_lab.playground.client import PlaygroundClient
    from tui_lab.playground.messages import GenerateRequest

#: In the folder of a run: its predictions.
FOLDER = "predictions"
JOB = "tui_lab.evaluation.predict"


def relation(row: Prediction) -> str:
    """How the tuned answer of a row compares with the base's, in a word."""
    if row.base is None or row.tuned is None:
        return "" if row.base else "none"
    before, after = row.base.score, row.tuned.score
    if before is not None and after is not None and before != after:
        return "better" if after > before else "worse"
    return "same" if row.base.text == row.tuned.text else "differs"


#: Which rows are listed: a name, and the relations of its rows.
SHOWN: tuple[tuple[str, frozenset[str]], ...] = (
    ("that differ", frozenset(("better", "worse", "differs"))),
    ("that are better", frozenset(("better",))),
    ("that are worse", frozenset(("worse",))),
    ("in all", frozenset(("better", "worse", "differs", "same", "none", ""))),
)


class PredictionList(ListDialog[None]):
    """See the module's docstring. ``request``: what the job is to answer; None for a file that is there."""

    DEFAULT_CSS = """
    PredictionList > .dialog { width: 100%; height: 100%; max-height: 100%; }
    PredictionList OptionList, PredictionList OptionList:focus { height: 1fr; }
    """
    GROUP = "predictions"
    BINDINGS = bindings("predictions")

    def __init__(self, path: Path, run: Run | None, request: dict[str, object] | None = None) -> None:
        super().__init__()
        self.path, self._run_of, self._request = path, run, request
        self.settings: PredictionSettings | None = None
        self.every: list[Prediction] = []
        self.listed: list[Prediction] = []
        self._which = 0
        self._is_answering = request is not None

    def hint(self) -> str:
        names = ("cancel", "leave") if self._is_answering else ("next", "blind", "leave")
        verbs = ("stops", "closes") if self._is_answering else ("other rows", "blind vote", "closes")
        keys = (self.keys(f"predictions.{name}") for name in names)
        hints = [f"{key} {verb}" for key, verb in zip(keys, verbs, strict=True)]
        return ", ".join(hints if self._is_answering else ["Enter shows", *hints])

    def compose_body(self) -> ComposeResult:
        yield Static(id="scores")
        yield from super().compose_body()

    def on_mount(self) -> None:
        self.heading = "Predictions"
        self.frame()
        if self._request is None:
            self._read()
        else:
            self._answer(self._request)

    # ------------------------------------------------------------------ rows

    @work(exclusive=True, group="predictions", exit_on_error=False)
    async def _answer(self, request: dict[str, object]) -> None:
        scores = self.query_one("#scores", Static)
        try:
            await run_lab_job(self, JOB, request, lambda line: scores.update(Content(line)), dict)
        except LabError as error:
            self.show_error(error)
        finally:
            self._is_answering = False
            if self.is_mounted and self.path.is_file():
                self._read()
            elif self.is_mounted:
                self.dismiss(None)

    @work(exclusive=True, group="read", thread=True, exit_on_error=False)
    def _read(self) -> None:
        try:
            settings, rows = prediction_file.read_predictions(self.path)
            metrics = summarise(self.path, rows, settings, 0, []).metrics
        except LabError as error:
            self.app.call_from_thread(self.show_error, error)
            self.app.call_from_thread(self.dismiss, None)
            return
        self.app.call_from_thread(self._take, settings, rows, metrics)

    def _take(
        self, settings: PredictionSettings, rows: list[Prediction], metrics: Mapping[str, PredictedMetric]
    ) -> None:
        self.settings, self.every = settings, rows
        name, metric = next(iter(metrics.items()), ("", None))
        text = f"{metric_name(name)} {_metric(metric)} · " if metric else ""
        data = f"{settings.data} · {settings.model} → {settings.tuned or 'no tuned model'} · {settings.lane}"
        self.query_one("#scores", Static).update(Content(sanitize(f"{text}{data}")))
        self._show()

    def _show(self) -> None:
        name, relations = SHOWN[self._which]
        self.listed = [row for row in self.every if relation(row) in relations]
        every = "" if len(self.listed) == len(self.every) else f" of {plural(len(self.every), 'row')}"
        self.heading = f"Predictions: {plural(len(self.listed), 'row')} {name}{every}"
        self.frame()
        lines = [Option(_line(row), id=str(number)) for number, row in enumerate(self.listed)]
        self.show_rows(lines, empty=f"No row here. {self.keys('predictions.next')} shows others.")
        self.describe()

    def about(self, row_id: str) -> Content:
        return _whole(self.listed[int(row_id)], FOOT_LINES)

    @property
    def _rows_shown(self) -> list[Prediction]:
        return [self.listed[int(number)] for number in self.shown_ids]

    def action_next(self) -> None:
        self._which = (self._which + 1) % len(SHOWN)
        self._show()

    def action_take(self) -> None:
        if self.row_id:
            open_item(self, self.listed, _whole, "Answers")

    def action_cancel(self) -> None:
        if self._is_answering:
            self.workers.cancel_group(self, "predictions")
            self.notify("Stopped. What was answered is saved; the same data continues from there.")

    # ------------------------------------------------------------------ votes

    def action_blind(self) -> None:
        if self.settings is None:
            return
        answers = FileAnswers.of(
            self.settings, self._rows_shown, str(self._run_of.path) if self._run_of else ""
        )
        if not answers.texts:
            self.notify("No row here can be voted on: two different answers to one prompt are needed.")
            return
        asked = votes.BlindSettings(
            lanes=answers.lanes,
            prompts=tuple(answers.texts),
            raw=answers.raw,
            max_new_tokens=self.settings.max_new_tokens,
        )
        try:
            screen = Blind(answers, asked, votes.votes_path(self._run_of.id if self._run_of else ""))
        except LabError as error:
            self.show_error(error)
        else:
            self.app.push_screen(screen)


@dataclass(frozen=True)
class _Answer:
    description: str
    text: str


@dataclass(frozen=True)
class FileAnswers:
    """The answers of a file, for a blind vote. ``texts``: those of base and tuned model by prompt."""

    wants: str
    place: str
    lanes: tuple[str, str]
    texts: Mapping[str, tuple[str, str]]
    raw: bool

    @classmethod
    def of(cls, settings: PredictionSettings, rows: Sequence[Prediction], place: str) -> FileAnswers:
        """Of rows with two different answers. Rows with earlier turns are left out, since a vote would not
        have them; so are plain texts among chats."""
        both = [row for row in rows if row.base and row.tuned and not row.turns]
        raw = all(row.raw for row in both)
        texts: dict[str, tuple[str, str]] = {}
        for row in both:
            assert row.base and row.tuned
            if row.raw == raw and row.base.text.strip() != row.tuned.text.strip():
                texts.setdefault(row.prompt, (row.base.text, row.tuned.text))
        lanes = (f"{settings.lane} on=base", f"{settings.lane} on=tuned")
        return cls(settings.model, place, lanes, texts, raw)

    def location(self, name: str) -> str:
        """Where the weights of a lane are."""
        return self.place if name == "tuned" else ""

    async def generate(
        self, request: GenerateRequest, on_event: Callable[[object], None]
    ) -> Sequence[_Answer]:
        """The two answers to a prompt."""
        del on_event
        return [
            _Answer(lane, text) for lane, text in zip(self.lanes, self.texts[request.prompt], strict=True)
        ]


# ------------------------------------------------------------------ drawing


def _metric(metric: PredictedMetric) -> str:
    if metric.tuned is None or metric.difference is None:
        return decimal(metric.base.value)
    found = metric.difference
    change = interval(found.value, found.low, found.high, 3)
    return f"{decimal(metric.base.value)} → {decimal(metric.tuned.value)}, difference {change}"


def _line(row: Prediction) -> Content:
    scores = ""
    if row.base and row.base.score is not None:
        after = f" → {decimal(row.tuned.score)}" if row.tuned else ""
        scores = f"{decimal(row.base.score)}{after}"
    word = relation(row)
    colour = {"better": "$success", "worse": "$error"}.get(word, "$text-muted")
    prompt = " ".join(sanitize(row.prompt).split())
    return Content.assemble((f"{row.row:>6}  {scores:13}  ", "$text-muted"), (f"{word:8}  ", colour), prompt)


def _whole(row: Prediction, lines: int = 0) -> Content:
    """The prompt, the expected answer and both answers; of each at most some ``lines``."""

    def named(name: str, answer: PredictedAnswer | None) -> tuple[str, str | None]:
        scores = answer.scores.items() if answer and not lines else ()
        return ", ".join([name, *(f"{metric_name(metric)} {decimal(score)}" for metric, score in scores)]), (
            answer.text if answer else None
        )

    parts = [
        ("prompt", row.prompt),
        ("expected", row.expected),
        named("base", row.base),
        named("tuned", row.tuned),
        ("no answer", row.skipped or None),
    ]
    return named_texts(parts, lines)


# ------------------------------------------------------------------ from a pane


def open_for_lanes(pane: Pane, client: PlaygroundClient) -> None:
    """:func:`open_predictions` of the run that was loaded last."""
    tuned = [place for name in client.names[1:] if (place := client.location(name))]
    if not tuned:
        pane.notice("Predictions compare a tuned run with its base: load one first.", "warning")
        return
    pane.in_thread(partial(open_run, tuned[-1]), partial(open_predictions, pane), "predictions")


def open_predictions(pane: Pane, run: Run) -> None:
    """Asks for a data set or a file of predictions, and shows its rows."""
    from tui_lab.ui.widgets.dialogs import AskText

    def request_of(name: str) -> tuple[Path, dict[str, object] | None]:
        path = expanded(name)
        if path.is_file() and prediction_file.is_predictions(path):
            return path, None
        out = run.path / FOLDER / prediction_file.default_name(name)
        out.parent.mkdir(exist_ok=True)
        split = "validation" if name in bundled.NAMES else "all"
        return out, {"data": name, "target": {"run": str(run.path)}, "out": str(out), "split": split}

    def entered(name: str | None) -> None:
        if name:
            pane.in_thread(
                partial(request_of, name),
                lambda found: pane.app.push_screen(PredictionList(found[0], run, found[1])),
                "predictions",
            )

    def ask(value: str) -> None:
        question = (
            "Predictions: answers of base and tuned model to a data set, or a file of them. What was "
            "answered before is not answered again."
        )
        pane.app.push_screen(AskText(question, value), entered)

    pane.in_thread(lambda: run.recipe().data, ask, "predictions")
