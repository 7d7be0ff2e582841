"""Votes as rows of preference data: the preferred answer is the chosen one, the other the rejected one. Ties
and skipped prompts give no row, and a vote that was taken back does not either. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

from tui_lab.core.files import write_atomically
from tui_lab.core.paths import data_dir
from tui_lab.data.rows import ChatMessage
from tui_lab.playground.votes import FILE_NAME, SessionRecord, UndoRecord, VoteRecord, read_lines
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


def rows_of(path: Path) -> list[PreferenceRow]:
    """The rows of the votes in a file, in the order of voting. Damaged lines are skipped; answers that are
    equal or empty give no row. Raises OSError."""
    sessions, votes = _standing(path)
    rows = []
    for (session, prompt), vote in votes.items():
        if session not in sessions or vote.winner not in (0, 1):
            continue
        texts = [str(answer.get("text", "")) for answer in vote.answers]
        if (
            len(texts) == 2
            and vote.text
            and texts[0].strip() != texts[1].strip()
            and all(map(str.strip, texts))
        ):
            earlier = _conversation(sessions[session], votes, session, prompt, int(vote.winner))
            rows.append(
                _row(sessions[session], earlier, vote.text, texts[vote.winner], texts[1 - vote.winner])
            )
    return rows


def pairs_of(path: Path) -> list[tuple[str, str, str, float]]:
    """The votes in a file between a base and an adapter on it: prompt, answer of the base, of the adapter,
    and the adapter's win, a tie as 0.5. Votes in a conversation, or on continued text, are not among them.
    Raises OSError."""
    sessions, votes = _standing(path)
    found = []
    for (name, _), vote in votes.items():
        session = sessions.get(name)
        texts = [str(answer.get("text", "")) for answer in vote.answers]
        if session is None or session.raw or session.chat or vote.choice == "skip" or len(texts) != 2:
            continue
        if [bool(place) for place in session.places] in ([False, True], [True, False]):
            tuned = 1 if session.places[1] else 0
            win = 0.5 if vote.winner is None else float(vote.winner == tuned)
            found.append((vote.text, texts[1 - tuned], texts[tuned], win))
    return found


def _standing(path: Path) -> tuple[dict[str, SessionRecord], dict[tuple[str, int], VoteRecord]]:
    """The sessions of a file by id, and the votes by session and prompt that were not taken back."""
    sessions: dict[str, SessionRecord] = {}
    votes: dict[tuple[str, int], VoteRecord] = {}
    for record in read_lines(path):
        match record:
            case SessionRecord():
                sessions[record.session] = record
            case VoteRecord():
                votes.pop((record.session, record.prompt), None)
                votes[record.session, record.prompt] = record
            case UndoRecord():
                votes.pop((record.session, record.prompt), None)
    return sessions, votes


def write_rows(rows: list[PreferenceRow], path: Path) -> None:
    """Writes rows as JSON Lines. Raises OSError."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _conversation(
    session: SessionRecord, votes: dict[tuple[str, int], VoteRecord], name: str, prompt: int, lane: int
) -> list[ChatMessage]:
    """The turns before a prompt of a chat, with the answers of the lane that was preferred at it."""
    turns: list[ChatMessage] = []
    for before in range(prompt if session.chat else 0):
        vote = votes.get((name, before))
        answer: Any = vote.answers[lane].get("text") if vote is not None and len(vote.answers) == 2 else None
        if vote is not None and isinstance(answer, str) and answer.strip():
            turns.append({"role": "user", "content": vote.text})
            turns.append({"role": "assistant", "content": answer})
    return turns


def _row(
    session: SessionRecord, earlier: list[ChatMessage], prompt: str, chosen: str, rejected: str
) -> PreferenceRow:
    if session.raw:
        return {"prompt": prompt, "chosen": prompt + chosen, "rejected": prompt + rejected}
    system: list[ChatMessage] = [{"role": "system", "content": session.system}] if session.system else []
    return {
        "prompt": [*system, *earlier, {"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }
