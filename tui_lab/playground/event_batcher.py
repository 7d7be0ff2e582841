"""What clients get of the records of the decoder: the text of each lane about ten times per second, and a
summary of each lane that has ended."""

from __future__ import annotations

import time
from collections.abc import Callable

from tui_lab.decoding import metrics
from tui_lab.decoding.records import Beams, DecodingRecord, LaneResult, TokenRecord
from tui_lab.decoding.session import BASE
from tui_lab.playground.messages import GenerationEvent, LaneDone, Tokens

#: Seconds between two messages of a lane: about ten per second.
FLUSH_S = 0.1


def lane_summary(result: LaneResult, prompt_ids: tuple[int, ...]) -> LaneDone:
    """The event of a lane that has ended. The perplexity under the base is set only if it ran on the base."""
    logprobs = [token.logprob for token in result.tokens]
    on = result.description.on or BASE
    return LaneDone(
        lane=result.lane,
        description=result.description.text,
        on=on,
        text=result.text,
        token_ids=result.token_ids,
        tokens=result.tokens,
        prompt_token_ids=prompt_ids,
        finish_reason=result.finish_reason,
        first_token_s=result.first_token_s,
        seconds=result.seconds,
        tok_per_s=result.tok_per_s,
        mean_logprob=metrics.mean_logprob(logprobs),
        perplexity_base=metrics.perplexity(logprobs) if on == BASE else float("nan"),
        rep_4=metrics.rep_n(result.token_ids, 4),
        distinct_2=metrics.distinct_n(result.token_ids, 2),
    )


class EventBatcher:
    """Merges the tokens of each lane and emits them about ten times per second, which bounds the number of
    messages and redraws."""

    def __init__(
        self,
        emit: Callable[[GenerationEvent], None],
        summarise: Callable[[LaneResult], LaneDone],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._emit, self._summarise, self._clock = emit, summarise, clock
        self._texts: dict[int, str] = {}
        self._counts: dict[int, int] = {}
        self._beams: list[Beams] = []
        self._flushed_at = clock()

    def add(self, record: DecodingRecord) -> None:
        """Takes one record of the decoder."""
        match record:
            case LaneResult():
                self.flush()
                self._emit(self._summarise(record))
                return
            case Beams():
                self._beams.append(record)
            case TokenRecord():
                self._texts[record.lane] = self._texts.get(record.lane, "") + record.text
                self._counts[record.lane] = record.position + 1
        if self._clock() - self._flushed_at >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Emits what has been collected."""
        for lane, text in self._texts.items():
            self._emit(Tokens(lane, text, self._counts[lane]))
        for beams in self._beams:
            self._emit(beams)
        self._texts.clear()
        self._beams.clear()
        self._flushed_at = self._clock()
