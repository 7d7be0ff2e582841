"""What a run learned of its own task: its held-out rows answered before and after the training, scored by
exact match, token F1, ROUGE-L, BLEU, chrF and the data's own score, with the losses and the overfitting gap
of the run. Answers are greedy; the rows are found again from the recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from tui_lab.data import row_tokens, scoring
from tui_lab.data.formats import Example
from tui_lab.data.prepared_cache import prepare_recipe
from tui_lab.data.rows import ChatRow, Model, Tokenizer
from tui_lab.recipes.recipe import Recipe
from tui_lab.retention.scoring.forward import evaluation_mode
from tui_lab.retention.scoring.metrics import mean
from tui_lab.retention.stored import AcquisitionResult, BaseAndTuned, HeldOutItem, MetricChange
from tui_lab.runs.state import RunState


class HeldOutTask:
    """The held-out rows of a run. ``tokenizer``: of the base model; the template and settings that the run
    saved in ``saved`` are set on it, else the recipe's."""

    def __init__(
        self, recipe: Recipe, state: RunState, tokenizer: Tokenizer, saved: Path | None = None
    ) -> None:
        choices = {choice.field: choice.value for choice in state.choices}
        max_length = int(choices.get("max_length") or recipe.max_length)
        prepared = prepare_recipe(recipe, tokenizer, max_length, saved=saved)
        self.tokenizer, self._recipe, self._state = tokenizer, recipe, state
        self.scorer: str | None = prepared.summary.scorer
        self.examples: list[Example] = list(prepared.validation_examples[: recipe.score_rows])

    def answers(self, model: Model) -> list[str]:
        """The model's answer to each row."""
        import torch

        from tui_lab.decoding.generate import generate_answers

        prompts = [row_tokens.prompt_ids(self.tokenizer, example) for example in self.examples]
        with torch.no_grad(), evaluation_mode(model):
            return generate_answers(
                model,
                self.tokenizer,
                prompts,
                stop_ids=row_tokens.stop_ids(self.tokenizer),
                max_new_tokens=self._recipe.sample_max_new_tokens,
            )

    def result(self, base: Sequence[str], tuned: Sequence[str], of: str = "") -> AcquisitionResult:
        """The result for the answers of the base and of the tuned model. ``of`` identifies the weights."""
        rows = [example.as_chat() for example in self.examples]
        before, after = self._scores(base, rows), self._scores(tuned, rows)
        loss, train_loss, gap = _losses(self._state)
        return AcquisitionResult(
            rows=len(rows),
            scorer=self.scorer,
            metrics={name: MetricChange(mean(before[name]), mean(after[name])) for name in before},
            validation_loss=loss,
            train_loss=train_loss,
            overfitting_gap=gap,
            accuracy_gap=self._state.overfitting_gap,
            items=[
                HeldOutItem(
                    prompt if isinstance(prompt, str) else prompt[-1]["content"],
                    example.expected,
                    {"text": base[at], **{name: scores[at] for name, scores in before.items()}},
                    {"text": tuned[at], **{name: scores[at] for name, scores in after.items()}},
                )
                for at, example in enumerate(self.examples)
                for prompt in (example.generation_prompt,)
            ],
            of=of,
        )

    def _scores(self, answers: Sequence[str], rows: list[ChatRow]) -> dict[str, list[float]]:
        """The scores of the answers by metric, the data's own first."""
        scores = scoring.similarity_scores(answers, rows)
        if self.scorer:
            scores = {self.scorer: scoring.scores(self.scorer, answers, rows)} | scores
        return scores

    @property
    def metric(self) -> str:
        """The metric that stands for the task: the data's own, else exact match, else ROUGE-L for rows that
        continue a text."""
        continues_text = any(example.text is not None for example in self.examples)
        return self.scorer or ("rouge_l" if continues_text else "exact")

    def scores(self, model: Model) -> list[float]:
        """The score of each row's answer by :attr:`metric`, 0 to 1."""
        rows = [example.as_chat() for example in self.examples]
        return [float(score) for score in self._scores(self.answers(model), rows)[self.metric]]


def _losses(state: RunState) -> tuple[BaseAndTuned, float, float]:
    """The run's held-out loss before and after, its last training loss, and the overfitting gap, which is the
    difference of the last two; in nats per token."""
    validation = state.validation.values
    before, after = (float(validation[0]), float(validation[-1])) if validation else (math.nan, math.nan)
    train = float(state.loss.last)
    return BaseAndTuned(before, after), train, after - train
