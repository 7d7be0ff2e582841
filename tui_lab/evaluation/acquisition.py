"""What a run learned of its own task: answers to its held-out rows before and after, judged by exact match,
token F1, ROUGE-L and the data's own score, with the losses and the overfitting gap that the run measured.
Answers are greedy and the rows are those that the run held back, found again from its recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tui_lab.data import formats, scoring, templates
from tui_lab.data.expected import as_row, expected_of, prompt_of
from tui_lab.data.formats import Example
from tui_lab.data.prepare import prepare
from tui_lab.recipes.recipe import Recipe
from tui_lab.retention.scoring.forward import evaluation_mode
from tui_lab.runs.state import RunState

VERSION = 1


class HeldOutTask:
    """The held-out rows of a run. ``tokenizer`` is the base's; it is given the run's chat template."""

    def __init__(self, recipe: Recipe, state: RunState, tokenizer: Any) -> None:
        settled = {choice.field: choice.value for choice in state.choices}
        found = prepare(
            formats.read(recipe.data, recipe.data_format, recipe.max_rows),
            tokenizer,
            max_length=int(settled.get("max_length") or recipe.max_length),
            validation_fraction=recipe.validation_fraction,
            seed=recipe.seed,
            deduplicate=recipe.deduplicate,
            chat_template=recipe.chat_template,
        )
        self._tokenizer, self._recipe, self._state = tokenizer, recipe, state
        self.scorer: str | None = found.facts.get("scorer")
        self.examples: list[Example] = found.validation_examples[: recipe.score_rows]

    def answers(self, model: Any) -> list[str]:
        """The model's answer to every row."""
        import torch

        from tui_lab.decoding.generate import generate_answers

        prompts = [templates.prompt_ids(self._tokenizer, prompt_of(example)) for example in self.examples]
        with torch.no_grad(), evaluation_mode(model):
            return generate_answers(
                model,
                self._tokenizer,
                prompts,
                stop_ids=templates.stop_ids(self._tokenizer),
                max_new_tokens=self._recipe.sample_max_new_tokens,
            )

    def result(self, base: Sequence[str], tuned: Sequence[str]) -> dict[str, Any]:
        """The object that the run's folder keeps as retention/acquisition.json."""
        rows = [as_row(example) for example in self.examples]
        before, after = (self._marks(answers, rows) for answers in (base, tuned))
        prompts = [prompt_of(example) for example in self.examples]
        return {
            "v": VERSION,
            "rows": len(rows),
            "scorer": self.scorer,
            "metrics": {name: {"base": mean(before[name]), "tuned": mean(after[name])} for name in before},
            **losses(self._state),
            "items": [
                {
                    "prompt": prompt if isinstance(prompt, str) else prompt[-1]["content"],
                    "expected": expected_of(example),
                    **{
                        side: {"text": texts[at], **{name: marks[name][at] for name in marks}}
                        for side, texts, marks in (("base", base, before), ("tuned", tuned, after))
                    },
                }
                for at, (prompt, example) in enumerate(zip(prompts, self.examples, strict=True))
            ],
        }

    def _marks(self, answers: Sequence[str], rows: list[dict[str, Any]]) -> dict[str, list[float]]:
        found = scoring.nearness(answers, rows)
        if self.scorer:
            found = {self.scorer: scoring.scores(self.scorer, answers, rows)} | found
        return found


def mean(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard error: the sample's standard deviation (n − 1) over √n."""
    n = len(values)
    if not n:
        return {"value": math.nan, "se": math.nan}
    value = math.fsum(values) / n
    if n == 1:
        return {"value": value, "se": math.nan}
    return {"value": value, "se": math.sqrt(math.fsum((v - value) ** 2 for v in values) / (n - 1) / n)}


def losses(state: RunState) -> dict[str, Any]:
    """The run's own held-out loss before and after and its last training loss, in nats a token; the
    overfitting gap is their signed difference (of losses, as of no share, no ratio is taken)."""
    validation = state.validation.values
    before, after = (float(validation[0]), float(validation[-1])) if validation else (math.nan, math.nan)
    train = float(state.loss.last)
    return {
        "validation_loss": {"base": before, "tuned": after},
        "train_loss": train,
        "overfitting_gap": after - train,
    }
