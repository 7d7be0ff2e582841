"""Votes of a blind comparison: which of two unnamed answers a person liked better, prompt by prompt, in a
file that only grows, so that an evening's votes survive whatever happens and go on where they stopped. The
order of the two is drawn from the session's seed and written down with every vote. No torch, no screen."""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.format import plural
from tui_lab.core.paths import data_dir
from tui_lab.core.sanitize import sanitize
from tui_lab.data import formats
from tui_lab.data.bundled import NAMES as BUNDLED
from tui_lab.data.files import EXTENSIONS
from tui_lab.models.catalog import home
from tui_lab.retention.statistics import Interval, wilson
from tui_lab.runs.events import LineTail, LineWriter

Choice = Literal["left", "right", "tie", "skip"]
FILE_NAME = "votes.jsonl"
#: Prompts of one file that are voted on: nobody votes more often in a sitting.
MOST_PROMPTS = 1_000
#: Keys of a JSON row that hold a prompt, the first that is there.
PROMPT_KEYS = ("prompt", "question", "instruction", "query", "input", "text")
LEVEL = 0.95


@dataclass(frozen=True)
class BlindSettings:
    """What is compared. Votes of other settings belong to another session."""

    lanes: tuple[str, str]  # A and B, as ``strategies.parse`` reads them
    prompts: tuple[str, ...]
    model: str = ""
    places: tuple[str, str] = ("", "")  # where the adapters lie that the lanes run on; empty for the base
    system: str = ""
    raw: bool = False
    max_new_tokens: int = 96

    @property
    def key(self) -> str:
        """The same for the same settings."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True)
class Vote:
    """What was said of one prompt. ``left`` is the lane (0 or 1) that stood left."""

    prompt: int
    left: int
    choice: Choice

    @property
    def winner(self) -> int | None:
        """The lane that was preferred; None for a tie and for a prompt that was skipped."""
        if self.choice == "left":
            return self.left
        return 1 - self.left if self.choice == "right" else None


@dataclass(frozen=True)
class VoteSummary:
    """The outcome. Ties and skipped prompts are left out of the win rate: its Wilson interval is for
    decisions with two outcomes, and half a win is neither."""

    wins: tuple[int, int]
    ties: int
    skipped: int
    rate: Interval | None  # of B, the second lane; None while nothing was decided
    left_chosen: int  # how often the left one was preferred, whichever it was

    @property
    def decided(self) -> int:
        return sum(self.wins)

    @property
    def voted(self) -> int:
        return self.decided + self.ties + self.skipped


@dataclass
class VotingSession:
    """One sitting or several over the same prompts and lanes."""

    settings: BlindSettings
    path: Path
    id: str
    seed: int
    votes: dict[int, Vote] = field(default_factory=dict)
    resumed: bool = False

    def left(self, prompt: int) -> int:
        """The lane that stands left at a prompt: drawn from the seed, however one gets there."""
        return random.Random(f"{self.seed}:{prompt}").randrange(2)

    @property
    def next(self) -> int | None:
        """The first prompt without a vote; None when there is none."""
        return next((n for n in range(len(self.settings.prompts)) if n not in self.votes), None)

    def upcoming(self, count: int) -> list[int]:
        """The next prompts without a vote."""
        return [n for n in range(len(self.settings.prompts)) if n not in self.votes][:count]

    def vote(self, prompt: int, choice: Choice, answers: Sequence[Mapping[str, Any]] = ()) -> Vote:
        """Takes a vote and writes it down; ``answers`` are kept with it, A first. Raises LabError."""
        vote = Vote(prompt, self.left(prompt), choice)
        text = self.settings.prompts[prompt]
        _write(
            self.path,
            "vote",
            session=self.id,
            prompt=prompt,
            text=text,
            left=vote.left,
            choice=choice,
            winner=vote.winner,
            answers=list(answers),
        )
        self.votes[prompt] = vote
        return vote

    @property
    def summary(self) -> VoteSummary:
        return summary(list(self.votes.values()))


def summary(votes: Sequence[Vote]) -> VoteSummary:
    """What votes add up to."""
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
    """The outcome for people: what A and B were, the win rate with its interval, what it can tell."""
    found = session.summary
    first, second = session.settings.lanes
    said = [f"A was {first}, B was {second}."]
    others = f"{plural(found.ties, 'tie')}, {found.skipped} skipped"
    if found.rate is None:
        return [*said, f"Nothing was decided: {others}."]
    rate = found.rate
    said.append(
        f"B was preferred {found.wins[1]} of {found.decided} times: {rate.value:.0%}, 95% Wilson interval "
        f"{rate.low:.0%} to {rate.high:.0%}. Left out of this: {others}."
    )
    if rate.low > 0.5:
        said.append("B is the better one for this voter.")
    elif rate.high < 0.5:
        said.append("A is the better one for this voter.")
    else:
        said.append("The interval holds 50%: these votes cannot tell the two apart.")
    said.append(f"The left one was chosen {found.left_chosen} of {found.decided} times.")
    return said


# ------------------------------------------------------------------ the file


def open_session(settings: BlindSettings, path: Path, seed: int | None = None) -> VotingSession:
    """The newest session of these settings that still has prompts to vote on, else a new one. A file that
    cannot be read holds no sessions; one that cannot be written raises LabError."""
    if len(settings.lanes) != 2 or settings.lanes[0] == settings.lanes[1]:
        raise LabError("a blind comparison needs two lanes that differ")
    if not settings.prompts:
        raise LabError("a blind comparison needs one prompt at least")
    for session in reversed(read_sessions(path, settings)):
        if session.next is not None:
            session.resumed = bool(session.votes)
            return session
    session = VotingSession(
        settings, path, secrets.token_hex(8), secrets.randbits(32) if seed is None else seed
    )
    _write(
        path,
        "session",
        session=session.id,
        key=settings.key,
        seed=session.seed,
        lanes=list(settings.lanes),
        prompts=len(settings.prompts),
        model=settings.model,
        places=list(settings.places),
        system=settings.system,
        raw=settings.raw,
        max_new_tokens=settings.max_new_tokens,
    )
    return session


class SessionRecord(msgspec.Struct, tag="session", tag_field="kind"):
    """The line that begins a session; ``key`` identifies its settings."""

    session: str
    key: str
    seed: int


class VoteRecord(msgspec.Struct, tag="vote", tag_field="kind"):
    """The line of one vote; ``left``: which lane (0 or 1) stood on the left."""

    session: str
    prompt: int
    left: Literal[0, 1]
    choice: Choice


_DECODER = msgspec.json.Decoder(SessionRecord | VoteRecord)


def read_sessions(path: Path, settings: BlindSettings) -> list[VotingSession]:
    """All sessions of these settings, with their votes. What is no vote is passed over."""
    found: dict[str, VotingSession] = {}
    tail = LineTail(path)
    while (line := tail.next_line()) is not None:
        try:
            record = _DECODER.decode(line)
        except msgspec.MsgspecError:
            continue
        if isinstance(record, SessionRecord):
            if record.key == settings.key:
                found[record.session] = VotingSession(settings, path, record.session, record.seed)
        elif record.session in found and 0 <= record.prompt < len(settings.prompts):
            vote = Vote(record.prompt, record.left, record.choice)
            found[record.session].votes[record.prompt] = vote
    return list(found.values())


def _write(path: Path, kind: str, **fields: Any) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        writer = LineWriter(path)
        try:
            writer.append({"v": 1, "t": round(time.time(), 3), "kind": kind, **fields})
        finally:
            writer.close()
    except OSError as error:
        raise LabError(
            f"the vote cannot be written to {sanitize(str(path))}: {error.strerror or error}"
        ) from None


def votes_path(run: str = "") -> Path:
    """Where votes are kept: with the run that is judged, else in the data folder."""
    if run:
        from tui_lab.runs.folder import open_run

        try:
            return open_run(run).path / FILE_NAME
        except LabError:
            pass  # an adapter that no run of ours made
    return data_dir() / "votes" / FILE_NAME


# ------------------------------------------------------------------ prompts


def read_prompts(source: str) -> list[str]:
    """Prompts out of a file: one a line of plain text, a key such as ``prompt`` of JSON lines, the questions
    of any data set that the lab reads; or the held-out questions of a bundled set. Raises LabError."""
    name = source.strip()
    if name in BUNDLED:
        held_out = formats.read(name).validation or []
        return _different(_asked(example) for example in held_out)
    path = home(Path(name))
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
            found = _of_json_lines(path.read_text(encoding="utf-8-sig"))
        elif suffix not in EXTENSIONS or suffix in (".txt", ".text", ".md"):
            found = _different(path.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"cannot be read ({error})"
        raise LabError(f"{sanitize(str(path))} {sanitize(reason)}") from None
    if not found and suffix in EXTENSIONS and suffix not in (".txt", ".text", ".md"):
        found = _different(_asked(example) for example in formats.read(str(path)).rows)
    if not found:
        raise LabError(f"{sanitize(str(path))} holds no prompt: write one a line, or rows with a key prompt")
    return found


def _of_json_lines(text: str) -> list[str]:
    rows = []
    for line in text.splitlines():
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    prompts = []
    for row in rows:
        if isinstance(row, str):
            prompts.append(row)
        elif isinstance(row, dict):
            prompts.append(next((row[key] for key in PROMPT_KEYS if isinstance(row.get(key), str)), ""))
    return _different(prompts)


def _asked(example: formats.Example) -> str:
    """What a row asks: its last question, its prompt, or its text."""
    if example.messages is not None:
        turns = [m["content"] for m in example.prompt_messages or [] if m["role"] == "user"]
        return str(turns[-1]) if turns else ""
    return example.prompt if example.prompt is not None else example.text or ""


def _different(prompts: Any) -> list[str]:
    """Every prompt once, in order, without empty ones."""
    clean = dict.fromkeys(text.strip() for text in prompts)
    clean.pop("", None)
    return list(clean)[:MOST_PROMPTS]
