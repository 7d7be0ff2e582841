"""Votes as rows of preference data: the preferred answer is the chosen one, the other the rejected one; of an
edited answer the edited text is chosen. Ties
and skipped prompts give no row, and a vote that was taken back does not either. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from tui_lab.core.files import write_atomically
from tui_lab.core.paths import data_dir
from tui_lab.data.rows import ChatMessage
from tui_lab.playground.votes import FILE_NAME, EditRecord, SessionRecord, UndoRecord, VoteRecord, read_lines
from tui_lab.runs.folder import list_runs


class PreferenceRow(TypedDict):
    """A row as the data format "preference" reads it."""

    prompt: list[ChatMessage] | str
    chosen: list[ChatMessage] | str
    rejected: list[ChatMessage] | str


def vote_files(runs_dir: Path | None = None) -> list[Path]:
    """Every file of votes: in the data folder, and in the folders of runs, the newest run first."""
    found = [data_dir() / "votes" / FILE_NAME, *(run.path / FILE_NAME for run in list_runs(runs_dir))]
    return [path for path in found if path.is_file()]


@dataclass(frozen=True)
class PreferenceVote:
    """A vote, or an edited answer, that gives a pair. ``question``: the last turn of its prompt."""

    path: Path
    session: str
    prompt: int
    edited: bool
    t: float  # seconds since the epoch
    question: str
    chosen: str
    rejected: str
    row: PreferenceRow

    @property
    def run(self) -> str:
        """The id of the run in whose folder it is, "" for none."""
        return run_of(self.path)


def run_of(path: Path) -> str:
    """The id of the run that a file of votes is of, "" for none."""
    return path.parent.name if path.parent.name != "votes" else ""


def votes_of(path: Path) -> list[PreferenceVote]:
    """The votes in a file that give a pair, in the order of voting. Damaged lines are skipped; answers that
    are equal or empty give none. Raises OSError."""
    sessions, votes = _standing(path)
    found = []
    for vote in votes.values():
        if isinstance(vote, EditRecord):
            chosen, rejected = vote.edited, vote.original
        elif vote.session in sessions and vote.winner in (0, 1) and len(vote.answers) == 2:
            texts = [str(answer.get("text", "")) for answer in vote.answers]
            chosen, rejected = texts[vote.winner], texts[1 - vote.winner]
        else:
            continue
        if not (vote.text and chosen.strip() and rejected.strip()) or chosen.strip() == rejected.strip():
            continue
        if isinstance(vote, EditRecord):
            earlier = [message for turn in vote.turns for message in _turn(turn.prompt, turn.answer)]
            row = _row(vote, earlier, vote.text, chosen, rejected)
        else:
            session = sessions[vote.session]
            row = _row(session, _conversation(session, votes, vote), vote.text, chosen, rejected)
        edited = isinstance(vote, EditRecord)
        found.append(
            PreferenceVote(path, vote.session, vote.prompt, edited, vote.t, vote.text, chosen, rejected, row)
        )
    return found


def rows_of(path: Path) -> list[PreferenceRow]:
    """The rows of the votes in a file. Raises OSError."""
    return [vote.row for vote in votes_of(path)]


def pairs_of(path: Path) -> list[tuple[str, str, str, float]]:
    """The votes in a file between a base and an adapter on it: prompt, answer of the base, of the adapter,
    and the adapter's win, a tie as 0.5. Votes in a conversation, or on continued text, are not among them.
    Raises OSError."""
    sessions, votes = _standing(path)
    found = []
    for (name, _), vote in votes.items():
        session = sessions.get(name)
        if isinstance(vote, EditRecord):
            continue
        texts = [str(answer.get("text", "")) for answer in vote.answers]
        if session is None or session.raw or session.chat or vote.choice == "skip" or len(texts) != 2:
            continue
        if [bool(place) for place in session.places] in ([False, True], [True, False]):
            tuned = 1 if session.places[1] else 0
            win = 0.5 if vote.winner is None else float(vote.winner == tuned)
            found.append((vote.text, texts[1 - tuned], texts[tuned], win))
    return found


def _standing(
    path: Path,
) -> tuple[dict[str, SessionRecord], dict[tuple[str, int], VoteRecord | EditRecord]]:
    """The sessions of a file by id, and the votes and edited answers that were not taken back."""
    sessions: dict[str, SessionRecord] = {}
    votes: dict[tuple[str, int], VoteRecord | EditRecord] = {}
    for record in read_lines(path):
        if isinstance(record, SessionRecord):
            sessions[record.session] = record
            continue
        votes.pop((record.session, record.prompt), None)
        if not isinstance(record, UndoRecord):
            votes[record.session, record.prompt] = record
    return sessions, votes


def write_rows(rows: list[PreferenceRow], path: Path) -> None:
    """Writes rows as JSON Lines. Raises OSError."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _conversation(
    session: SessionRecord, votes: Mapping[tuple[str, int], VoteRecord | EditRecord], at: VoteRecord
) -> list[ChatMessage]:
    """The turns before a prompt of a chat, with the answers of the lane that was preferred at it."""
    turns: list[ChatMessage] = []
    for before in range(at.prompt if session.chat else 0):
        vote = votes.get((at.session, before))
        if isinstance(vote, VoteRecord) and len(vote.answers) == 2:
            answer = vote.answers[int(at.winner or 0)].get("text")
            if isinstance(answer, str) and answer.strip():
                turns += _turn(vote.text, answer)
    return turns


def _turn(prompt: str, answer: str) -> list[ChatMessage]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def _row(
    asked: SessionRecord | EditRecord, earlier: list[ChatMessage], prompt: str, chosen: str, rejected: str
) -> PreferenceRow:
    if asked.raw:
        return {"prompt": prompt, "chosen": prompt + chosen, "rejected": prompt + rejected}
    system: list[ChatMessage] = [{"role": "system", "content": asked.system}] if asked.system else []
    return {
        "prompt": [*system, *earlier, {"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }
