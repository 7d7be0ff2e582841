"""Greedy answers of a base and of what was made of it, kept in the user's cache row by row: an interrupted
measurement goes on, and a base is asked once."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui_lab.core import files, job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.paths import cache_dir
from tui_lab.core.records import to_json
from tui_lab.core.sanitize import sanitize
from tui_lab.data.examples import Example
from tui_lab.decoding import strategies
from tui_lab.evaluation import predict, prompts
from tui_lab.evaluation.prediction_file import Prediction, PredictionFile, PredictionSettings
from tui_lab.evaluation.prompts import Tokenizers
from tui_lab.evaluation.request import EvaluationTarget

if TYPE_CHECKING:
    from tui_lab.decoding.session import DecodingSession


#: Files of answers in the cache, and their size: the oldest beyond are removed.
CACHED_FILES, CACHED_BYTES = 400, 256 << 20


@dataclass(frozen=True)
class HowAnswered:
    """What answers depend on besides the rows and the weights. ``data``: the name of the rows; ``timed``: how
    many of the first are answered alone, with their time; ``stop_strings``: what ends an answer as well."""

    data: str
    metric: str
    max_new_tokens: int
    allow_large: bool = False
    timed: int = 0
    stop_strings: tuple[str, ...] = ()


class CachedAnswers:
    """Answers rows; the models are loaded when an answer is missing."""

    def __init__(
        self,
        target: EvaluationTarget,
        how: HowAnswered,
        tokenizers: Tokenizers,
        on_progress: job_protocol.OnProgress,
        cancelled: Callable[[], bool],
    ) -> None:
        self._target, self._how, self._tokenizers = target, how, tokenizers
        self._on_progress, self._cancelled = on_progress, cancelled
        self._session: DecodingSession | None = None
        self.files: dict[str, str] = {}

    def answers(self, name: str, rows: Sequence[Example], side: str) -> list[Prediction]:
        """The answers of the base (``side`` "") or of :data:`predict.TUNED`, in the order of the rows.
        ``name`` is what progress calls them. Raises Interrupted, and LabError."""
        settings = self._settings(rows, side)
        path = cache_dir() / "advice" / f"{hashlib.sha256(to_json(settings).encode()).hexdigest()[:32]}.jsonl"
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise LabError(f"{sanitize(str(path.parent))} cannot be written ({error.strerror})") from None
        self.files[name] = str(path)
        with PredictionFile(path, settings, replace=True) as file:
            if any(number not in file for number in range(1, len(rows) + 1)):
                self._predictor(name, settings, side).answer(rows, len(rows), file, timed=self._how.timed)
            file.finish()
            found = [row for row in file.predictions() if row.row <= len(rows)]
        with contextlib.suppress(OSError):
            path.touch()  # what is used is not the oldest
        files.prune(path.parent, "*.jsonl", CACHED_FILES, CACHED_BYTES)
        return found

    def unload(self) -> None:
        """Frees the models; they are loaded again when an answer is missing."""
        from tui_lab.core.out_of_memory import free_memory

        self._session = None
        free_memory()

    def _settings(self, rows: Sequence[Example], side: str) -> PredictionSettings:
        target, how = self._target, self._how
        weights = target.tuned_identity if side else target.base_identity
        asked = hashlib.sha256()
        for row in rows:
            parts = (row.messages, row.tools, row.prompt, row.completion)
            asked.update(repr(parts).encode("utf-8", "replace"))
        return PredictionSettings(
            model=target.name if side else target.label,
            tuned="",
            data=how.data,
            lane="greedy",
            max_new_tokens=how.max_new_tokens,
            metric=how.metric,
            loaded=str(target.how),
            base_sha256=prompts.with_prompts(weights, self._tokenizers.side(side)),
            tuned_sha256="",
            data_sha256=asked.hexdigest(),
        )

    def _predictor(self, name: str, settings: PredictionSettings, side: str) -> predict.Predictor:
        if self._session is None:
            self._session = predict.load_session(
                self._target, self._how.allow_large, self._tokenizers, self._on_progress
            )

        def report(text: str, done: int | None = None, total: int | None = None) -> None:
            self._on_progress(f"{name}: {text}", done, total)

        lane = strategies.parse(settings.lane)
        stops = self._how.stop_strings
        return predict.Predictor(self._session, (side,), lane, settings, report, self._cancelled, stops)
