"""The options of the Playground: how lanes are prompted, how long and how random their answers are. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from textual.content import Content

from tui_lab.core.format import size
from tui_lab.core.sanitize import sanitize
from tui_lab.data.prompt_settings import ThinkingMode
from tui_lab.playground.messages import ChatTurn, GenerateRequest, PlaygroundStatus
from tui_lab.ui.views.states import PLAYGROUND_STATES

LARGEST_LENGTH = 32_768
_THINKING: dict[ThinkingMode, ThinkingMode] = {"auto": "on", "on": "off", "off": "auto"}
_BACK: dict[ThinkingMode, ThinkingMode] = {after: before for before, after in _THINKING.items()}


@dataclass(frozen=True)
class PlaygroundSettings:
    """``chat``: a prompt continues the conversation of every lane."""

    same_seeds: bool = True
    max_new_tokens: int = 64
    chat: bool = False
    raw: bool = False  # without the chat template
    thinking: ThinkingMode = "auto"
    system: str = ""

    @property
    def is_chat(self) -> bool:
        """Whether prompts continue conversations: plain text has no turns."""
        return self.chat and not self.raw

    def request(
        self, prompt: str, lanes: tuple[str, ...], turns: tuple[tuple[ChatTurn, ...], ...] = ()
    ) -> GenerateRequest:
        """The request of a prompt with these options. ``turns``: of each lane, in a chat."""
        system = "" if self.raw else self.system
        return GenerateRequest(
            prompt, lanes, system, self.raw, self.thinking, self.max_new_tokens, turns=turns
        )

    @property
    def summary(self) -> str:
        """The options in short, for the frame of the prompt."""
        details = ["chat" if self.chat else "chat template"] if not self.raw else ["plain text"]
        details += ["system prompt"] if self.system and not self.raw else []
        details += [f"thinking {self.thinking}"] if self.thinking != "auto" and not self.raw else []
        details += [f"up to {self.max_new_tokens} tokens", "same seeds" if self.same_seeds else "fresh seeds"]
        return " · ".join(details)


@dataclass(frozen=True)
class OptionRow:
    """An option as the form shows it. ``is_text``: it is typed, not turned."""

    label: str
    help: str
    is_text: bool = False


OPTIONS: dict[str, OptionRow] = {
    "same_seeds": OptionRow(
        "Seeds", "The same seeds give the same answers; fresh ones are drawn for every start."
    ),
    "max_new_tokens": OptionRow(
        "Length", f"At most this many new tokens a lane, up to {LARGEST_LENGTH:,}.", True
    ),
    "chat": OptionRow("Turns", "In a chat every lane keeps its conversation, and a prompt is its next turn."),
    "raw": OptionRow(
        "Template", "The chat template writes the prompt as a question; plain text is continued."
    ),
    "thinking": OptionRow(
        "Thinking", "Of models whose template can ask for it; as trained: as in the loaded run."
    ),
    "system": OptionRow(
        "System prompt", "Stands before the conversation; empty for none. Needs the chat template.", True
    ),
}


def shown(settings: PlaygroundSettings, name: str) -> str:
    """The value of an option in words."""
    match name:
        case "same_seeds":
            return "the same at every start" if settings.same_seeds else "fresh at every start"
        case "max_new_tokens":
            return f"{settings.max_new_tokens:,} tokens"
        case "chat":
            return "chat: a prompt is the next turn" if settings.chat else "one: each prompt stands alone"
        case "raw":
            return "plain text" if settings.raw else "chat template"
        case "thinking":
            return "as trained" if settings.thinking == "auto" else settings.thinking
        case _:
            return settings.system or "none"


def turned(settings: PlaygroundSettings, name: str, by: int = 1) -> PlaygroundSettings:
    """The settings with the next value of a switch or a choice; unchanged for text."""
    match name:
        case "same_seeds":
            return replace(settings, same_seeds=not settings.same_seeds)
        case "chat":
            return replace(settings, chat=not settings.chat)
        case "raw":
            return replace(settings, raw=not settings.raw)
        case "thinking":
            steps = _THINKING if by > 0 else _BACK
            return replace(settings, thinking=steps[settings.thinking])
        case _:
            return settings


def typed(settings: PlaygroundSettings, name: str, text: str) -> PlaygroundSettings | str:
    """The settings with a typed value, or one sentence about a text that is none."""
    if name == "system":
        return replace(settings, system=text.strip())
    digits = text.strip().replace(",", "").replace("_", "")
    if digits.isascii() and digits.isdigit() and 1 <= int(digits[:9]) <= LARGEST_LENGTH:
        return replace(settings, max_new_tokens=int(digits))
    return f"New tokens are a whole number from 1 to {LARGEST_LENGTH:,}, not {text!r}."


def status_line(status: PlaygroundStatus, settings: PlaygroundSettings, unloaded: str) -> Content:
    """The state of the playground process, and what is known of it; ``unloaded`` where that is nothing."""
    state = PLAYGROUND_STATES[status.state]
    style = f"bold ${state.role}" if state.role else "bold"
    if status.state in ("starting", "loading") and status.text:
        # not what was loaded before; the state has the word already
        parts = [status.text.removeprefix(f"{state.word} ")]
    else:
        parts = _status_parts(status, settings) or [unloaded]
    return Content.assemble((f"{state.glyph} {state.word}", style), "  ", sanitize(" · ".join(parts)))


def _status_parts(status: PlaygroundStatus, settings: PlaygroundSettings) -> list[str]:
    """The most important first; empty while nothing is loaded."""
    parts = []
    if status.loaded:
        precision = status.quantization if status.quantization != "none" else status.dtype
        parts = [status.model, precision, status.device, size(status.memory_bytes)]
        parts += [f"on {', '.join(status.names)}"] if len(status.names) > 1 else []
        if status.can_think:
            on = status.thinking if settings.thinking == "auto" else settings.thinking == "on"
            parts.append(f"thinking {'on' if on else 'off'}")
        parts += status.speed.parts if status.speed else []
    if status.text:
        parts.append(status.text + ("; the next start brings it back" if status.state == "died" else ""))
    return parts
