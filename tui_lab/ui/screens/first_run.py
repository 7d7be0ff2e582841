"""Three ways to begin, for a lab without runs: each is a card and one key."""

from __future__ import annotations

from typing import NamedTuple

from textual import events
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from tui_lab.ui.actions.modal import Dialog
from tui_lab.ui.actions.registry import bindings, pane_digits
from tui_lab.ui.widgets.panel import as_panel


class FirstStep(NamedTuple):
    """A card: the answer that it gives, its title and its text."""

    answer: str
    title: str
    text: str


STEPS = (
    FirstStep("demo", "Watch the demo", "A recorded minute of the whole lab. Nothing is trained."),
    FirstStep(
        "bundled",
        "Tune the bundled model",
        "A small model learns to talk like a pirate: about a minute on a CPU, without a network.",
    ),
    FirstStep(
        "own", "Use your own", "Your model and your data: a folder, a file or a hub id. Nothing starts yet."
    ),
)


class StepCard(Static, can_focus=True):
    """One card; Enter or a click takes it."""

    class Taken(Message):
        """The card was taken."""

        def __init__(self, answer: str) -> None:
            super().__init__()
            self.answer = answer

    def __init__(self, step: FirstStep) -> None:
        super().__init__(Content(step.text))
        self.answer = step.answer

    def on_click(self) -> None:
        self.post_message(self.Taken(self.answer))

    def on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            self.post_message(self.Taken(self.answer))


class FirstRun(Dialog[str | None]):
    """Gives the answer of the card that was taken, or None."""

    DEFAULT_CSS = """
    FirstRun > .dialog { width: 104; padding: 1 1; }
    FirstRun #cards { layout: horizontal; height: auto; }
    FirstRun #cards StepCard { width: 1fr; height: 6; padding: 0 1; margin-bottom: 1; }
    FirstRun.-stacked #cards { layout: vertical; }
    FirstRun.-stacked #cards StepCard { height: 4; margin: 0; }
    """
    GROUP = "first"
    INFORMATIONAL = True
    BINDINGS = [*bindings("first"), *pane_digits()]  # noqa: RUF012
    AUTO_FOCUS = "#bundled"
    heading = "Welcome to tui-lab"

    def hint(self) -> str:
        return (
            f"{self.keys('first.leave')} to Setup, {self.keys('app.help')} help, {self.keys('app.quit')} quit"
        )

    def compose_body(self) -> ComposeResult:
        with Container(id="cards"):
            for step in STEPS:
                card = StepCard(step)
                card.id = step.answer
                yield as_panel(card, step.title, self.keys(f"first.{step.answer}"))

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < 100, "-stacked")

    def on_step_card_taken(self, event: StepCard.Taken) -> None:
        event.stop()
        self.dismiss(event.answer)

    def action_take(self, answer: str) -> None:
        self.dismiss(answer)

    def action_turn(self, by: int) -> None:
        """The card before or after the one that has the focus."""
        cards = list(self.query(StepCard))
        at = next((number for number, card in enumerate(cards) if card.has_focus), 0)
        cards[(at + by) % len(cards)].focus()
