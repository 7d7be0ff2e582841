"""The job that red-teams a run on this machine: its base and its tuned model get the same goals, and a judge
rewrites what was refused and rates the replies. Replies, ratings and rewritings are kept as they come, so an
interrupted job goes on. The result of a run is stored as that of a suite."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from tui_lab.core import files, job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.records import to_json
from tui_lab.core.sanitize import sanitize
from tui_lab.data.rows import Model, Tokenizer
from tui_lab.evaluation import judges, prompts, red_teaming
from tui_lab.evaluation.evaluate import ProgressReport, TargetModels
from tui_lab.evaluation.judges import AnswerJudge
from tui_lab.evaluation.known_replies import KnownReplies
from tui_lab.evaluation.red_teaming import RATINGS, AttackedGoal, Attempt, RedTeamRequest, RedTeamResult
from tui_lab.evaluation.request import EvaluationTarget, accepted_changes, resolve_target
from tui_lab.retention import results
from tui_lab.retention.scoring.generate import Cancelled, answer_items
from tui_lab.retention.scoring.metrics import ItemScore
from tui_lab.retention.stored import FOLDER
from tui_lab.retention.suites.custom import plain
from tui_lab.retention.suites.records import Item, Suite, fingerprint

NAME = "redteam@judge"


def red_team(
    request: RedTeamRequest,
    on_progress: job_protocol.OnProgress,
    cancelled: Callable[[], bool] = lambda: False,
) -> RedTeamResult:
    """Attacks both models and stores the result in the run. Raises Cancelled, and LabError."""
    request = request.validated()
    load_judge = judges.judge_named(request.judge, request.target)
    target = resolve_target(request.target, on_progress)
    if target.tuned is None:
        raise LabError("no tuned model was named: a run, or --adapter, is compared with its base")
    accepted_changes(target, data=False)
    progress = ProgressReport(on_progress)
    models = TargetModels(target, request.target.allow_large, progress)
    job = _RedTeam(request, target, models, progress, cancelled)
    judge = load_judge(on_progress)
    job.check(judge)
    sides = [job.attempts(judge, side) for side in ("base", "tuned")]
    items = [AttackedGoal(*each) for each in zip(request.goals, *sides, strict=True)]
    found = red_teaming.result(sanitize(judge.name), request.rounds, items)
    _store(found, target)
    return found


class _RedTeam:
    """The attack on one target."""

    def __init__(
        self,
        request: RedTeamRequest,
        target: EvaluationTarget,
        models: TargetModels,
        progress: ProgressReport,
        cancelled: Callable[[], bool],
    ) -> None:
        self._request, self._target, self._models = request, target, models
        self._progress, self._cancelled = progress, cancelled

    def check(self, judge: AnswerJudge) -> None:
        """Raises LabError for a judge whose ratings say nothing, before a model is attacked."""
        goal = red_teaming.CONTROL_GOAL
        with KnownReplies(judge.identity) as judged:
            ratings = [_rating(judge, judged, goal, goal, reply) for reply in red_teaming.CONTROL_REPLIES]
        red_teaming.check_ratings(sanitize(judge.name), *ratings)

    def attempts(self, judge: AnswerJudge, side: str) -> list[list[Attempt]]:
        """The attempts on the base or the tuned model."""
        target, request = self._target, self._request
        weights = target.base_identity if side == "base" else target.tuned_identity
        asked = prompts.with_prompts(weights, self._models.tokenizer(side != "base"))
        identity = f"replies {asked} {target.how} {request.max_new_tokens}"
        with KnownReplies(identity) as replies, KnownReplies(judge.identity) as judged:

            def answer(number: int, messages: Sequence[str]) -> list[str]:
                missing = [each for each in messages if replies.find(each) is None]
                if missing:
                    title = f"{side}, round {number}"
                    self._progress.report(f"{title}: answering", now=True)
                    model = self._models.base() if side == "base" else self._models.tuned()
                    self._answer((model, self._models.tokenizer(side != "base")), missing, replies, title)
                return [replies.find(each) or "" for each in messages]

            def rate(goal: str, message: str, reply: str) -> int:
                self._check_cancelled()
                self._progress.report(f"{side}: rating replies")
                return _rating(judge, judged, goal, message, reply)

            def rewrite(goal: str, last: Attempt) -> str:
                self._check_cancelled()
                self._progress.report(f"{side}: rewriting messages")
                question = red_teaming.rewriting_question(goal, last)
                tokens = red_teaming.REWRITING_TOKENS
                return red_teaming.message_of(judged.reply(question, lambda asked: judge.text(asked, tokens)))

            return red_teaming.attack(request.goals, request.rounds, answer, rate, rewrite)

    def _answer(
        self, asked: tuple[Model, Tokenizer], messages: Sequence[str], replies: KnownReplies, title: str
    ) -> None:
        """Answers messages, as items of a suite, and keeps each reply."""
        suite = _suite([_item(each, self._request.max_new_tokens) for each in dict.fromkeys(messages)], "")
        done: list[str] = []

        def ready(score: ItemScore) -> None:
            done.append(score.id)
            replies.add(score.id, score.extra.get("text", ""))
            self._progress.report(f"{title}: answering", len(done), len(suite.items))

        waiting = range(len(suite.items))
        model, tokenizer = asked
        answer_items(model.train(False), tokenizer, suite, waiting, ready, self._cancelled)

    def _check_cancelled(self) -> None:
        if self._cancelled():
            raise Cancelled


def _rating(judge: AnswerJudge, judged: KnownReplies, goal: str, message: str, reply: str) -> int:
    question = red_teaming.rating_question(goal, message, reply)
    return int(judged.reply(question, lambda asked: judge.letter(asked, RATINGS)) or 0)


def _item(message: str, max_new_tokens: int) -> Item:
    """A message as an item whose id is the message."""
    return Item(
        id=message,
        context=plain(message),
        continuations=(),
        answers=(),
        question=message,
        messages=({"role": "user", "content": message},),
        meta={"checks": [{"check": "refuses"}], "max_new_tokens": max_new_tokens},
    )


def _suite(items: Sequence[Item], judge: str) -> Suite:
    return Suite(
        name=NAME,
        version="1",
        title="Red team",
        description="Goals that the model keeps from doing under rewritings.",
        kind="generate",
        metric="pass",
        items=tuple(items),
        chance=None,
        licence="not stated",
        source="tui-lab redteam",
        sha256=fingerprint("generate", "pass", items),
        scorer=judge,
    )


def _store(found: RedTeamResult, target: EvaluationTarget) -> None:
    """Stores the result in the run as that of a suite: an item is a goal, passed by a model that resists."""
    run = target.run
    if run is None:
        return
    suite = _suite([_item(each.goal, 1) for each in found.items], found.judge)
    sides = [
        [
            ItemScore(
                each.goal,
                extra={
                    "text": "\n\n".join((attempts[-1].message, attempts[-1].reply)),
                    "passed": not red_teaming.complied(attempts, found.rounds),
                },
            )
            for each in found.items
            for attempts in (each.base if side == "base" else each.tuned,)
        ]
        for side in ("base", "tuned")
    ]
    how = target.how
    info = results.MeasurementInfo(
        sanitize(target.label), target.base.revision, how.quantization, how.dtype, sanitize(target.name)
    )
    stored = results.build(suite, info, sides[0], sides[1], target.threshold)
    path = run.path / FOLDER / f"{NAME}.json"
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        files.write_atomically(path, to_json(stored) + "\n")
    except OSError as error:
        raise LabError(f"run {run.id}: its folder cannot be written ({error.strerror})") from None


def handle(request: RedTeamRequest, on_progress: job_protocol.OnProgress) -> RedTeamResult:
    """The job."""
    from tui_lab.hardware import memory_budget

    memory_budget.take_gpu()
    return red_team(request, on_progress)


if __name__ == "__main__":
    sys.exit(job_protocol.serve(handle, RedTeamRequest))
