"""The job that judges a tuned model against its base: both answer the prompts, turn by turn, and a judge
compares the answers in both orders. Answers and judgements are kept in the user's cache, so that an
interrupted job goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from tui_lab.core import files, job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.records import to_json
from tui_lab.core.sanitize import sanitize
from tui_lab.data.examples import Example
from tui_lab.data.rows import ChatMessage
from tui_lab.evaluation import judging, predict, prompts
from tui_lab.evaluation.cached_answers import CachedAnswers, HowAnswered
from tui_lab.evaluation.evaluate import ProgressReport
from tui_lab.evaluation.judges import AnswerJudge, judge_named
from tui_lab.evaluation.judging import Judged, JudgePrompt, JudgeRequest
from tui_lab.evaluation.known_replies import KnownReplies
from tui_lab.evaluation.prediction_rows import NO_REFERENCE
from tui_lab.evaluation.request import EvaluationTarget, accepted_changes, resolve_target
from tui_lab.retention.stored import FOLDER, JUDGE, JudgedPair, JudgeResult


def judge(
    request: JudgeRequest,
    on_progress: job_protocol.OnProgress,
    cancelled: Callable[[], bool] = lambda: False,
) -> JudgeResult:
    """Answers and judges what is not known yet, and stores the result in the run. Raises Interrupted, and
    LabError."""
    request = request.validated()
    found_judge = judge_named(request.judge, request.target)  # says at once what is missing
    target = resolve_target(request.target, on_progress)
    if target.tuned is None:
        raise LabError("no tuned model was named: a run, or --adapter, is compared with its base")
    accepted_changes(target, data=False)
    answers = _answer(request, target, on_progress, cancelled)
    asked = found_judge(on_progress)
    judgements = _Judgements(asked, ProgressReport(on_progress), cancelled)
    try:
        judged = judgements.of_prompts(request, answers)
        voted = judgements.of_votes(request)
    finally:
        judgements.close()
    found = judging.result(sanitize(asked.name), request, judged, voted)
    if target.run is not None:
        path = target.run.path / FOLDER / JUDGE
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            files.write_atomically(path, to_json(found) + "\n")
        except OSError as error:
            raise LabError(f"run {target.run.id}: its folder cannot be written ({error.strerror})") from None
    return found


# --- answers --------------------------------------------------------------------------------------------


def _answer(
    request: JudgeRequest,
    target: EvaluationTarget,
    on_progress: job_protocol.OnProgress,
    cancelled: Callable[[], bool],
) -> dict[str, list[list[str]]]:
    """The answers to each turn of each prompt, by side."""
    tokenizers = prompts.Tokenizers.of(target.base, target.tuned)
    how = HowAnswered(request.name, "exact", request.max_new_tokens, request.target.allow_large)
    asking = CachedAnswers(target, how, tokenizers, on_progress, cancelled)
    found: dict[str, list[list[str]]] = {}
    for side in ("", predict.TUNED):
        found[side] = [[] for _ in request.prompts]
        for turn in range(max(len(prompt.turns) for prompt in request.prompts)):
            at = [n for n, prompt in enumerate(request.prompts) if turn < len(prompt.turns)]
            rows = [_row(request.prompts[n], found[side][n]) for n in at]
            name = f"{side or 'base'}, turn {turn + 1}"
            for n, row in zip(at, asking.answers(name, rows, side), strict=True):
                found[side][n].append(row.base.text if row.base is not None else "")
    asking.unload()
    return found


def _row(prompt: JudgePrompt, answers: Sequence[str]) -> Example:
    """The conversation up to the next turn, with an answer that is not asked for."""
    turns: list[ChatMessage] = []
    for asked, answer in zip(prompt.turns, [*answers, NO_REFERENCE], strict=False):
        turns.append({"role": "user", "content": asked})
        turns.append({"role": "assistant", "content": answer})
    return Example(messages=tuple(turns))


# --- judgements -----------------------------------------------------------------------------------------


class _Judgements:
    """Asks a judge, except what it was asked before."""

    def __init__(self, judge: AnswerJudge, progress: ProgressReport, cancelled: Callable[[], bool]) -> None:
        self._judge, self._progress, self._cancelled = judge, progress, cancelled
        self._known = KnownReplies(judge.identity)

    def close(self) -> None:
        """Closes the file of what is known."""
        self._known.close()

    def of_prompts(self, request: JudgeRequest, answers: dict[str, list[list[str]]]) -> list[Judged]:
        """The judgement on each prompt, in both orders."""
        found = []
        for n, prompt in enumerate(request.prompts):
            self._progress.report("judging prompts", n, len(request.prompts))
            base, tuned = answers[""][n], answers[predict.TUNED][n]
            rubric = judging.rubric_of(prompt.kind, request.rubric)
            letters = self._both(prompt.turns, base, tuned, rubric)
            pair = JudgedPair(prompt.turns, tuple(base), tuple(tuned), judging.win_of(*letters), prompt.kind)
            found.append(Judged(pair, letters))
        return found

    def of_votes(self, request: JudgeRequest) -> list[tuple[float, float | None]]:
        """A person's and the judge's win on each pair with a vote."""
        found = []
        for n, vote in enumerate(request.votes):
            self._progress.report("judging pairs with votes", n, len(request.votes))
            rubric = judging.rubric_of("", request.rubric)
            letters = self._both((vote.prompt,), [vote.base], [vote.tuned], rubric)
            found.append((vote.win, judging.win_of(*letters)))
        return found

    def _both(
        self, turns: Sequence[str], base: Sequence[str], tuned: Sequence[str], rubric: str
    ) -> tuple[str, str]:
        """The letters with the base first, and with the tuned model first. Equal answers are a tie."""
        if list(base) == list(tuned):
            return "C", "C"
        orders = ((base, tuned), (tuned, base))
        one, other = (self._letter(judging.question(turns, *order, rubric)) for order in orders)
        return one, other

    def _letter(self, question: str) -> str:
        if self._cancelled():
            raise predict.Interrupted
        return self._known.reply(question, self._judge.letter)


def handle(request: JudgeRequest, on_progress: job_protocol.OnProgress) -> JudgeResult:
    """The job."""
    from tui_lab.hardware import memory_budget

    memory_budget.take_gpu()
    return judge(request, on_progress)


if __name__ == "__main__":
    sys.exit(job_protocol.serve(handle, JudgeRequest))
