"""Votes that become training: ``python -m tests.benchmarks.votes``.

A scripted voter, who wants the manner of a pirate, votes blindly on two answers to each of 200 prompts: the
plain and the pirate's answer of the bundled set ``pirate_pairs``. The votes are written as pairs, the bundled
model is trained on them with the preset orpo, and base and run answer held-out prompts greedily. Printed is
how often the same voter prefers the run there, with the 95 % interval of Wilson; the exit code is 1 where it
does not lie above one half. About two minutes on two idle cores."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tui_lab.data import formats, scoring
from tui_lab.evaluation.predict import PredictionRequest, predict
from tui_lab.evaluation.prediction_file import read_predictions
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.models.loading import quiet_libraries
from tui_lab.playground import vote_rows, votes
from tui_lab.recipes.presets import make_recipe
from tui_lab.runs import folder, launch

DATA = "pirate_pairs"
LANES = ("greedy on=plain", "greedy on=pirate")


def preferred(left: str, right: str) -> votes.VoteChoice:
    """The answer with more marks of a pirate's manner."""
    marks = [0 if scoring.is_degenerate(text) else scoring.count_marks(text) for text in (left, right)]
    return "tie" if marks[0] == marks[1] else "left" if marks[0] > marks[1] else "right"


def vote(session: votes.VotingSession, prompt: int, texts: tuple[str, str]) -> None:
    """The voter sees the two answers in the order that the session has drawn."""
    left = session.left(prompt)
    session.vote(prompt, preferred(texts[left], texts[1 - left]), [{"text": text} for text in texts])


def main() -> int:
    """Measures and prints; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--votes", type=int, default=200)
    parser.add_argument("--held-out", type=int, default=64)
    parser.add_argument("--steps", type=int, default=80)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tui-lab-votes-") as name, quiet_libraries():
        place = Path(name)
        texts: dict[str, tuple[str, str]] = {}
        for row in formats.read(DATA).rows:
            worse = row.rejected["content"] if isinstance(row.rejected, dict) else str(row.rejected)
            texts.setdefault(row.generation_messages[-1]["content"], (worse, row.expected))
        asked = tuple(texts)[: args.votes]
        settings = votes.BlindSettings(LANES, asked, model="pocket")
        session = votes.open_session(settings, place / votes.FILE_NAME)
        for number, prompt in enumerate(asked):
            vote(session, number, texts[prompt])
        print("votes:", *votes.sentences(session)[1:])

        pairs = vote_rows.rows_of(session.path)
        vote_rows.write_rows(pairs, place / "pairs.jsonl")
        values = {"data": str(place / "pairs.jsonl"), "max_steps": args.steps, "score_rows": 0}
        run = folder.create(make_recipe("orpo", model="pocket", **values), place / "runs")
        if launch.start(run).wait() != 0:
            raise SystemExit(f"{run.path}: {run.log_tail()}")

        held_out = [row.generation_messages[-1]["content"] for row in formats.read(DATA).validation or ()]
        questions = place / "held-out.jsonl"
        questions.write_text(
            "".join(json.dumps({"question": each}) + "\n" for each in held_out[: args.held_out])
        )
        out = place / "predictions.jsonl"
        predict(
            PredictionRequest(str(questions), EvaluationRequest(run=str(run.path)), str(out)),
            lambda *_: None,
        )
        _, rows = read_predictions(out)
        settings = votes.BlindSettings(("greedy on=base", "greedy on=run"), tuple(held_out[: len(rows)]))
        judged = votes.open_session(settings, place / "held-out" / votes.FILE_NAME)
        for number, found in enumerate(rows):
            if found.base is not None and found.tuned is not None:
                vote(judged, number, (found.base.text, found.tuned.text))
        print(f"{len(pairs)} pairs, {args.steps} steps; held out:", *votes.sentences(judged)[1:])
        rate = judged.summary.rate
        return 0 if rate is not None and rate.low > 0.5 else 1


if __name__ == "__main__":
    sys.exit(main())
