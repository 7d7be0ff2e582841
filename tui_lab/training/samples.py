"""Samples of a fixed prompt, and the task's own score on held-out rows.

Both decode greedily, so that runs can be compared, and leave all random states as they were.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch

from tui_lab.core.errors import LabError
from tui_lab.core.out_of_memory import free_memory, is_out_of_memory
from tui_lab.data import code_tests, row_tokens, scoring
from tui_lab.data.formats import Example
from tui_lab.data.labels import label_scores, labels_of
from tui_lab.data.prepare import PreparedData
from tui_lab.data.rows import ChatMessage
from tui_lab.decoding.generate import ROWS_A_BATCH, generate_answers
from tui_lab.recipes.recipe import Recipe
from tui_lab.retention.scoring import score
from tui_lab.retention.suites.records import Item, Suite
from tui_lab.runs.event_parts import Acquisition, ScoredExample
from tui_lab.runs.events import EventWriter
from tui_lab.runs.schema import PhaseEvent, SampleEvent, ScoreEvent, WarningEvent
from tui_lab.runs.state import RunState
from tui_lab.training.oom_restart import release_traceback
from tui_lab.training.progress import AttemptProgress
from tui_lab.training.rng import evaluating
from tui_lab.training.trainer import LabTrainer
from tui_lab.training.types import Tokenizer

#: Training rows whose answers tell whether they are labels.
LABEL_ROWS = 5_000
#: Answers of a score that the log has as examples.
EXAMPLES_LOGGED = 4

SamplePrompt = str | list[ChatMessage]


class TaskEvaluator:
    """Draws samples and scores of one attempt, and writes them as events."""

    def __init__(
        self,
        recipe: Recipe,
        events: EventWriter,
        tokenizer: Tokenizer,
        prepared: PreparedData,
        before: RunState,
        progress: AttemptProgress,
    ) -> None:
        self._recipe, self._events, self._progress = recipe, events, progress
        self._tokenizer, self._prepared = tokenizer, prepared
        #: The labels that the answers are; () where they are others.
        self._labels = (
            labels_of([each.expected for each in prepared.train_examples[:LABEL_ROWS]])
            if prepared.summary.format != "text"
            else ()
        )
        self._scorer = prepared.summary.scorer or ("exact" if self._labels else None)
        self._values = {"start": before.score("start"), "end": math.nan}
        self.sampled_at = -1

    def sample(self, trainer: LabTrainer) -> None:
        """Answers the recipe's prompt, or the first held-out one, and writes a ``sample`` event."""
        step = self.sampled_at = trainer.state.global_step
        example = (self._prepared.validation_examples or self._prepared.train_examples)[0]
        text = self._recipe.sample_prompt
        prompt: SamplePrompt = text or example.generation_prompt
        if text and example.messages is not None:
            prompt = [{"role": "user", "content": text}]
        answers = self._answers(trainer, [prompt if text else example])
        if answers is None:
            return self._skipped(f"the sample at step {step}")
        self._events.write(SampleEvent(step=step, prompt=_last_turn(prompt), text=answers[0]))

    def score(self, trainer: LabTrainer, when: str) -> None:
        """Writes the task's own score on held-out rows (0 to 1) as a ``score`` event, where it has one."""
        name, examples = self._scorer, self._prepared.validation_examples[: self._recipe.score_rows]
        if not name or not examples:
            return
        self._events.write(PhaseEvent(name="scoring", detail=f"{len(examples)} held-out rows answered"))
        began = time.monotonic()
        prompts = [example.generation_prompt for example in examples]
        answers = self._answers(trainer, examples)
        if answers is None:
            return self._skipped(f"the score on held-out rows ({when})")
        rows = [example.as_chat() for example in examples]
        try:
            marks = scoring.scores(name, answers, rows)
        except LabError as error:  # no code can be run
            return self._events.write(WarningEvent(text=f"no score on held-out rows ({when}): {error}"))
        if name == code_tests.PASS and when == "start" and (note := code_tests.note()):
            self._events.write(WarningEvent(text=note))
        self._values[when] = sum(marks) / len(marks)
        shown = list(zip(prompts, answers, examples, marks, strict=True))[:EXAMPLES_LOGGED]
        labels = None
        if self._labels:
            likelihoods = label_likelihoods(trainer, self._tokenizer, examples, self._labels)
            labels = label_scores(self._labels, [each.expected for each in examples], answers, likelihoods)
        similarity = {
            name: sum(each) / len(each) for name, each in scoring.similarity_scores(answers, rows).items()
        }
        self._events.write(
            ScoreEvent(
                step=trainer.state.global_step,
                name=name,
                value=self._values[when],
                rows=len(marks),
                seconds=round(time.monotonic() - began, 2),
                when=when,
                exact=similarity["exact"],
                token_f1=similarity["token_f1"],
                rouge_l=similarity["rouge_l"],
                bleu=similarity["bleu"],
                chrf=similarity["chrf"],
                labels=labels,
                by_task=_by_task([example.task for example in examples], marks),
                examples=[
                    ScoredExample(
                        prompt=_last_turn(prompt),
                        answer=text,
                        expected=example.expected,
                        ok=mark >= 1,
                    )
                    for prompt, text, example, mark in shown
                ],
            )
        )

    def acquisition(self) -> Acquisition:
        """The task's own score before and after; without a name for data that has none."""
        return Acquisition(self._scorer, **self._values) if self._scorer else Acquisition()

    def _skipped(self, what: str) -> None:
        """Warns that a measurement is left out; the run continues."""
        self._events.write(WarningEvent(text=f"out of memory during the training: {what} is left out"))

    def _answers(self, trainer: LabTrainer, prompts: Sequence[SamplePrompt | Example]) -> list[str] | None:
        """Greedy answers, in batches that fit in memory; None when not even one at a time fits."""
        report, done = self._progress.of("scoring", "answers"), 0

        def answered(number: int) -> None:
            nonlocal done
            done = number
            report(done, len(ids))

        def at_token() -> bool:
            report(done, len(ids))
            return False

        ids = [row_tokens.prompt_ids(self._tokenizer, prompt) for prompt in prompts]
        rows = min(ROWS_A_BATCH, len(ids))
        while rows:
            try:
                with evaluating(trainer):
                    return generate_answers(
                        trainer.model,
                        self._tokenizer,
                        ids,
                        stop_ids=row_tokens.stop_ids(self._tokenizer),
                        max_new_tokens=self._recipe.sample_max_new_tokens,
                        rows_a_batch=rows,
                        cancelled=at_token,
                        on_progress=answered,
                    )
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                release_traceback(error)
            free_memory()
            rows //= 2
        return None


def label_likelihoods(
    trainer: LabTrainer, tokenizer: Tokenizer, examples: Sequence[Example], labels: Sequence[str]
) -> np.ndarray | None:
    """The probability (rows, labels) of each label's text as the answer, among the texts of all labels; None
    where it is not finite."""
    items = []
    for at, example in enumerate(examples):
        completion = example.completion or " "
        blank = completion[: len(completion) - len(completion.lstrip())]
        items.append(
            Item(
                id=str(at),
                context=example.prompt or "",
                continuations=tuple((blank if example.messages is None else " ") + each for each in labels),
                answers=(),
                messages=tuple(example.generation_messages) if example.messages is not None else (),
            )
        )
    suite = Suite(
        "labels", "", "", "", kind="choice", metric="acc", items=tuple(items), chance=None, licence="",
        source="", sha256="",
    )  # fmt: skip
    with evaluating(trainer), torch.no_grad():
        found = [each.loglikelihoods for each in score.score(trainer.model, tokenizer, suite)]
    values = np.array(found, dtype=np.float64)
    if not np.isfinite(values).all():
        return None
    shares = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _last_turn(prompt: SamplePrompt) -> str:
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]


def _by_task(tasks: Sequence[str | None], marks: Sequence[float]) -> dict[str, float]:
    """The mean mark of each task; empty where there are not several."""
    names = sorted({task for task in tasks if task})
    of = {name: [mark for task, mark in zip(tasks, marks, strict=True) if task == name] for name in names}
    return {name: sum(each) / len(each) for name, each in of.items()} if len(names) > 1 else {}
