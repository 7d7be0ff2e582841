"""Votes of a blind comparison: which of two unnamed answers a person prefers, prompt by prompt. They are
appended to a file, so that a session survives a crash and can be resumed. Which answer is on the left is
drawn from the session's seed and stored with every vote. No torch, no screen."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import random
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.format import plural
from tui_lab.core.paths import data_dir, expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.data import formats
from tui_lab.data.bundled import NAMES as BUNDLED
from tui_lab.data.files import EXTENSIONS
from tui_lab.data.prompt_settings import ThinkingMode
from tui_lab.playground.messages import ChatTurn, GenerateRequest, LaneDone
from tui_lab.retention.statistics import Interval, wilson
from tui_lab.runs.events import EventLineWriter, LineTail

VoteChoice = Literal["left", "right", "tie", "skip"]
FILE_NAME = "votes.jsonl"
VERSION = 1
#: Keys of a JSON row that may have the prompt; the first one counts.
PROMPT_KEYS = ("prompt", "question", "instruction", "query", "input", "text")
LEVEL = 0.95


@dataclass(frozen=True)
class BlindSettings:
    """What is compared. Votes of different settings belong to different sessions."""

    lanes: tuple[str, str]  # A and B, in the text form of ``strategies.parse``
    prompts: tuple[str, ...]
    model: str = ""
    places: tuple[str, str] = ("", "")  # locations of the adapters that the lanes run on; empty for the base
    system: str = ""
    raw: bool = False
    max_new_tokens: int = 96
    thinking: ThinkingMode = "auto"
    chat: bool = False  # the prompts are the turns of one conversation; each lane has its own answers

    @property
    def key(self) -> str:
        """A hash of the settings."""
        settings = asdict(self)
        if self.thinking == "auto":  # as the votes of older versions
            del settings["thinking"]
        if not self.chat:
            del settings["chat"]
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="session"):
    """The line of the file that starts a session."""

    session: str  # its id
    key: str  # of the settings
    seed: int
    lanes: tuple[str, str] = ("", "")
    prompts: int = 0
    model: str = ""
    places: tuple[str, str] = ("", "")
    system: str = ""
    raw: bool = False
    max_new_tokens: int = 0
    thinking: ThinkingMode = "auto"
    chat: bool = False
    t: float = 0.0  # seconds since the epoch
    v: int = VERSION


class VoteRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="vote"):
    """The line of the file for one vote."""

    session: str
    prompt: Annotated[int, msgspec.Meta(ge=0)]  # index
    text: str = ""
    left: Literal[0, 1]
    choice: VoteChoice
    winner: int | None = None
    answers: list[dict[str, object]] = []
    t: float = 0.0  # seconds since the epoch
    v: int = VERSION


class UndoRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="undo"):
    """The line of the file that takes back the vote on a prompt."""

    session: str
    prompt: Annotated[int, msgspec.Meta(ge=0)]
    t: float = 0.0  # seconds since the epoch
    v: int = VERSION


class EditRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="edit"):
    """The line of the file for an answer as a person would have it. ``turns``: the conversation before it."""

    session: str  # its own id
    prompt: int = 0
    text: str  # the prompt
    original: str
    edited: str
    turns: list[ChatTurn] = []
    system: str = ""
    raw: bool = False
    lane: str = ""
    t: float = 0.0  # seconds since the epoch
    v: int = VERSION


@dataclass(frozen=True)
class Vote:
    """The vote on one prompt. ``left`` is the lane (0 or 1) on the left."""

    prompt: int
    left: Literal[0, 1]
    choice: VoteChoice

    @property
    def winner(self) -> int | None:
        """The preferred lane; None for a tie and for a skipped prompt."""
        if self.choice == "left":
            return self.left
        return 1 - self.left if self.choice == "right" else None


@dataclass(frozen=True)
class VoteSummary:
    """The outcome. The win rate excludes ties and skipped prompts, since its Wilson interval is for two
    outcomes."""

    wins: tuple[int, int]
    ties: int
    skipped: int
    rate: Interval | None  # of B, the second lane; None without decisions
    left_chosen: int  # how often the left answer was preferred

    @property
    def decided(self) -> int:
        return sum(self.wins)

    @property
    def voted(self) -> int:
        return self.decided + self.ties + self.skipped


@dataclass
class VotingSession:
    """The votes over the same prompts and lanes, possibly from several sittings."""

    settings: BlindSettings
    path: Path
    id: str
    seed: int
    votes: dict[int, Vote] = field(default_factory=dict)  # in the order of voting
    answers: dict[int, tuple[str, ...]] = field(default_factory=dict)  # to the prompts with a vote, A first
    resumed: bool = False

    def left(self, prompt: int) -> Literal[0, 1]:
        """The lane on the left at a prompt: drawn from the seed, independent of the order of voting."""
        return 1 if random.Random(f"{self.seed}:{prompt}").randrange(2) else 0

    @property
    def next(self) -> int | None:
        """The first prompt without a vote; None if there is none."""
        return next((n for n in range(len(self.settings.prompts)) if n not in self.votes), None)

    def upcoming(self, count: int) -> list[int]:
        """The next prompts without a vote."""
        return list(itertools.islice(self._unvoted(), count))

    @property
    def left_over(self) -> int:
        """How many prompts have no vote."""
        return len(self.settings.prompts) - len(self.votes)

    def _unvoted(self) -> Iterator[int]:
        return (n for n in range(len(self.settings.prompts)) if n not in self.votes)

    def vote(self, prompt: int, choice: VoteChoice, answers: Sequence[Mapping[str, object]] = ()) -> Vote:
        """Stores a vote with the ``answers``, A first. Raises LabError if it cannot be written."""
        vote = Vote(prompt, self.left(prompt), choice)
        _append(
            self.path,
            VoteRecord(
                session=self.id,
                prompt=prompt,
                text=self.settings.prompts[prompt],
                left=vote.left,
                choice=choice,
                winner=vote.winner,
                answers=[dict(answer) for answer in answers],
                t=_now(),
            ),
        )
        self.votes[prompt] = vote
        self.answers[prompt] = _texts(answers)
        return vote

    def undo(self) -> int | None:
        """Takes back the last vote; its prompt, or None if there is none. Raises LabError if that cannot be
        written."""
        if not self.votes:
            return None
        prompt = next(reversed(self.votes))
        _append(self.path, UndoRecord(session=self.id, prompt=prompt, t=_now()))
        del self.votes[prompt]
        return prompt

    def turns(self, before: int, lane: int) -> tuple[ChatTurn, ...]:
        """The conversation of a lane before a prompt, of a chat. Prompts without an answer are left out."""
        if not self.settings.chat:
            return ()
        found = []
        for prompt in range(before):
            texts = self.answers.get(prompt, ())
            if len(texts) == 2 and texts[lane].strip():
                found.append(ChatTurn(self.settings.prompts[prompt], texts[lane]))
        return tuple(found)

    @property
    def summary(self) -> VoteSummary:
        return summary(list(self.votes.values()))


def summary(votes: Sequence[Vote]) -> VoteSummary:
    """The outcome of some votes."""
    wins = (sum(v.winner == 0 for v in votes), sum(v.winner == 1 for v in votes))
    decided = sum(wins)
    return VoteSummary(
        wins=wins,
        ties=sum(v.choice == "tie" for v in votes),
        skipped=sum(v.choice == "skip" for v in votes),
        rate=wilson(wins[1], decided, LEVEL) if decided else None,
        left_chosen=sum(v.choice == "left" for v in votes),
    )


def sentences(session: VotingSession) -> list[str]:
    """The outcome as text: what A and B were, the win rate with its interval, and the conclusion."""
    found = session.summary
    first, second = session.settings.lanes
    lines = [f"A was {first}, B was {second}."]
    others = f"{plural(found.ties, 'tie')}, {found.skipped} skipped"
    if found.rate is None:
        return [*lines, f"Nothing was decided: {others}."]
    rate = found.rate
    lines.append(
        f"B was preferred {found.wins[1]} of {found.decided} times: {rate.value:.0%}, 95% Wilson interval "
        f"{rate.low:.0%} to {rate.high:.0%}. Excluded: {others}."
    )
    if rate.low > 0.5:
        lines.append("B is better for this voter.")
    elif rate.high < 0.5:
        lines.append("A is better for this voter.")
    else:
        lines.append("The interval includes 50%: these votes do not show a difference.")
    lines.append(f"The left one was chosen {found.left_chosen} of {found.decided} times.")
    return lines


# ------------------------------------------------------------------ the file


def open_session(settings: BlindSettings, path: Path, seed: int | None = None) -> VotingSession:
    """The newest session of these settings that has prompts without a vote, or a new one. Raises LabError for
    impossible settings, and if the file cannot be written."""
    if len(settings.lanes) != 2 or settings.lanes[0] == settings.lanes[1]:
        raise LabError("a blind comparison needs two lanes that differ")
    if not settings.prompts:
        raise LabError("a blind comparison needs at least one prompt")
    for session in reversed(read_sessions(path, settings)):
        if session.next is not None:
            session.resumed = bool(session.votes)
            return session
    session = VotingSession(
        settings, path, secrets.token_hex(8), secrets.randbits(32) if seed is None else seed
    )
    _append(
        path,
        SessionRecord(
            session=session.id,
            key=settings.key,
            seed=session.seed,
            lanes=settings.lanes,
            prompts=len(settings.prompts),
            model=settings.model,
            places=settings.places,
            system=settings.system,
            raw=settings.raw,
            max_new_tokens=settings.max_new_tokens,
            thinking=settings.thinking,
            chat=settings.chat,
            t=_now(),
        ),
    )
    return session


VoteLine = SessionRecord | VoteRecord | UndoRecord | EditRecord
_DECODER = msgspec.json.Decoder(VoteLine)


def read_lines(path: Path) -> Iterator[VoteLine]:
    """The records of a file of votes in order. Other and damaged lines are skipped."""
    tail = LineTail(path)
    while (line := tail.next_line()) is not None or not tail.at_end:
        if line is None:
            continue
        with contextlib.suppress(msgspec.MsgspecError):
            yield _DECODER.decode(line)


def read_sessions(path: Path, settings: BlindSettings) -> list[VotingSession]:
    """All sessions of these settings, with their votes."""
    sessions: dict[str, VotingSession] = {}
    for record in read_lines(path):
        if isinstance(record, SessionRecord):
            if record.key == settings.key:
                sessions[record.session] = VotingSession(settings, path, record.session, record.seed)
            continue
        session = sessions.get(record.session)
        if isinstance(record, EditRecord) or session is None or record.prompt >= len(settings.prompts):
            continue
        session.votes.pop(record.prompt, None)
        if isinstance(record, VoteRecord):
            session.votes[record.prompt] = Vote(record.prompt, record.left, record.choice)
            session.answers[record.prompt] = _texts(record.answers)
    return list(sessions.values())


def _texts(answers: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    """The texts of the answers of a vote."""
    return tuple(str(answer.get("text", "")) for answer in answers)


def _now() -> float:
    return round(time.time(), 3)


def save_edit(
    path: Path, request: GenerateRequest, turns: Sequence[ChatTurn], done: LaneDone, edited: str
) -> None:
    """Stores what the answer of a lane should have been. Raises LabError for an answer that is empty or as it
    was, and if it cannot be written."""
    if not edited.strip() or edited.strip() == done.text.strip():
        raise LabError("the answer is empty or unchanged: change it to what the model should have said")
    record = EditRecord(
        session=secrets.token_hex(8),
        text=request.prompt,
        original=done.text,
        edited=edited,
        turns=list(turns),
        system="" if request.raw else request.system,
        raw=request.raw,
        lane=done.description,
        t=_now(),
    )
    _append(path, record)


def take_back(path: Path, session: str, prompt: int) -> None:
    """Takes a vote or an edited answer back. Raises LabError if that cannot be written."""
    _append(path, UndoRecord(session=session, prompt=prompt, t=_now()))


def _append(path: Path, record: VoteLine) -> None:
    """Appends a record. Raises LabError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        writer = EventLineWriter(path)
        try:
            writer.append(msgspec.to_builtins(record))
        finally:
            writer.close()
    except OSError as error:
        raise LabError(
            f"the vote cannot be written to {sanitize(str(path))}: {error.strerror or error}"
        ) from None


def votes_path(run: str = "") -> Path:
    """The file of the votes: in the folder of the compared run, or in the data folder."""
    if run:
        from tui_lab.runs.folder import open_run

        try:
            return open_run(run).path / FILE_NAME
        except LabError:
            pass  # an adapter that is not of a run
    return data_dir() / "votes" / FILE_NAME


# ------------------------------------------------------------------ prompts


def read_prompts(source: str) -> list[str]:
    """The prompts of a file: lines of plain text, a key such as ``prompt`` of JSON lines, or the questions of
    any data set that the lab reads; or the held-out questions of a bundled set. Raises LabError."""
    name = source.strip()
    if name in BUNDLED:
        held_out = formats.read(name).validation or []
        return _distinct(_prompt_of(example) for example in held_out)
    path = expanded(Path(name))
    if not name or not path.is_file():
        known = ", ".join(EXTENSIONS)
        raise LabError(
            f"there is no file {sanitize(name)!r}: name one with prompts ({known}) or a bundled set "
            f"({', '.join(BUNDLED)})"
        )
    suffix = path.suffix.lower()
    found: list[str] = []
    try:
        if suffix in (".jsonl", ".ndjson"):
            found = _prompts_of_json_lines(input_files.read_text(path).removeprefix("\ufeff"))
        elif suffix not in EXTENSIONS or suffix in (".txt", ".text", ".md"):
            found = _distinct(input_files.read_text(path).removeprefix("\ufeff").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"cannot be read ({error})"
        raise LabError(f"{sanitize(str(path))} {sanitize(reason)}") from None
    if not found and suffix in EXTENSIONS and suffix not in (".txt", ".text", ".md"):
        found = _distinct(_prompt_of(example) for example in formats.read(str(path)).rows)
    if not found:
        raise LabError(f"{sanitize(str(path))} has no prompt: write one per line, or rows with a key prompt")
    return found


def _prompts_of_json_lines(text: str) -> list[str]:
    rows = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            rows.append(input_files.parse_json(line))
    prompts = []
    for row in rows:
        if isinstance(row, str):
            prompts.append(row)
        elif isinstance(row, dict):
            prompts.append(next((row[key] for key in PROMPT_KEYS if isinstance(row.get(key), str)), ""))
    return _distinct(prompts)


def _prompt_of(example: formats.Example) -> str:
    """The prompt of a row: its last question, its prompt, or its text."""
    if example.messages is not None:
        turns = [m["content"] for m in example.messages[: example.last_answer] if m["role"] == "user"]
        return str(turns[-1]) if turns else ""
    return example.prompt if example.prompt is not None else example.text or ""


def _distinct(prompts: Iterable[str]) -> list[str]:
    """The distinct prompts in order, without empty ones."""
    clean = dict.fromkeys(text.strip() for text in prompts)
    clean.pop("", None)
    return list(clean)
