"""The work of the host: one loaded model with what runs beside it, asked by requests that come one after
the other. Knows nothing of pipes: requests are dictionaries, answers go through functions."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch

from tui_lab.core.errors import LabError
from tui_lab.core.format import size
from tui_lab.core.out_of_memory import is_out_of_memory
from tui_lab.core.sanitize import sanitize
from tui_lab.data.templates import load_tokenizer
from tui_lab.decoding import metrics, strategies
from tui_lab.decoding.adapters import NeedsSeparateModel, load_in_place
from tui_lab.decoding.engine import context_length
from tui_lab.decoding.records import BeamRecord, DecodingRecord, DecodingRequest, LaneResult
from tui_lab.decoding.score_tokens import score_tokens
from tui_lab.decoding.session import BASE, DecodingSession
from tui_lab.hardware.memory_budget import free_bytes
from tui_lab.models import catalog
from tui_lab.models.load_progress import report_load_progress
from tui_lab.models.loading import ModelSource, Precision, best_dtype, load_model
from tui_lab.playground.messages import (
    DETAILS,
    Beams,
    Event,
    GenerateRequest,
    HostStatus,
    LaneDone,
    PromptLength,
    ScoredToken,
    Tokens,
)
from tui_lab.playground.prompts import encode, shortened
from tui_lab.runs.references import Target, adapter_target, model_target

#: Seconds between two messages of a lane: about ten a second.
FLUSH_S = 0.1
#: Tokens that one request may ask of a lane.
MOST_NEW_TOKENS = 32_768

Say = Callable[[str], None]  # progress, for people
Tell = Callable[[Event], None]
Cancelled = Callable[[], bool]


class Worker:
    """See the module's docstring. Every method raises LabError for what cannot be done."""

    def __init__(self) -> None:
        self._stage: DecodingSession | None = None
        self._target = Target("")
        self._how = Precision()
        self._label = ""
        self._dtype = ""

    # ------------------------------------------------------------------ what is loaded

    @property
    def status(self) -> HostStatus:
        if self._stage is None:
            return HostStatus(state="ready")
        model = self._stage.model
        return HostStatus(
            state="ready",
            model=self._label,
            dtype=self._dtype,
            quantization="nf4" if self._how.four_bit else "none",
            device=str(model.get_input_embeddings().weight.device),
            names=self._stage.names,
            memory_bytes=sum(int(m.get_memory_footprint()) for m in (model, *self._stage.others.values())),
            context=context_length(model.config),
            has_template=bool(self._stage.tokenizer.chat_template),
        )

    def load(
        self,
        say: Say,
        model: str = "pocket",
        revision: str = "",
        quantization: str = "none",
        dtype: str = "auto",
        allow_large: bool = False,
    ) -> None:
        """Loads a base model in place of the one before, and the adapter of a run that was named."""
        if quantization not in ("none", "nf4"):
            raise LabError(f"quantization is none or nf4, not {sanitize(quantization)!r}")
        if dtype not in ("auto", "float32", "bfloat16", "float16"):
            raise LabError(f"dtype is auto, float32, bfloat16 or float16, not {sanitize(dtype)!r}")
        target = model_target(model, allow_large=allow_large)
        target = replace(target, revision=revision or target.revision)
        self.unload()
        say(f"loading {sanitize(target.location if model not in target.location else model)} …")
        how = Precision(dtype, four_bit=quantization == "nf4")
        with report_load_progress(say, sanitize(model), target.location):
            weights = load_model(ModelSource(target.location, target.revision), how)
            tokenizer = load_tokenizer(target.location, target.revision or None)
        catalog.check_size(target.location, weights.num_parameters(), allow_large)
        self._stage = DecodingSession(weights, tokenizer)
        self._target, self._how, self._label = target, how, sanitize(model)
        device = str(weights.get_input_embeddings().weight.device).partition(":")[0]
        self._dtype = best_dtype(device) if dtype == "auto" else dtype
        if target.adapter is not None:
            self._add(say, "tuned", target)

    def add(self, say: Say, name: str, location: str) -> None:
        """Puts an adapter or a whole model beside the base."""
        if not name or name != "".join(name.split()) or "=" in name or "," in name:
            raise LabError(f"{sanitize(name)!r} cannot name an adapter: take one word without '=' and ','")
        if name in self._loaded.names:
            raise LabError(f"the name {sanitize(name)!r} is taken; choose another")
        self._add(say, name, adapter_target(location))

    def _add(self, say: Say, name: str, target: Target) -> None:
        stage = self._loaded
        if target.adapter is None:
            say(f"loading {sanitize(name)}, a whole model …")
            with report_load_progress(say, sanitize(name), target.location):
                whole = load_model(ModelSource(target.location, target.revision), self._how)
            stage.add_model(name, whole)
            return
        say(f"loading adapter {sanitize(name)} …")
        try:
            stage.add_adapter(name, target.adapter)
        except NeedsSeparateModel as reason:
            say(f"{sanitize(str(reason))}: loading a second copy of the base for it …")
            with report_load_progress(say, sanitize(name), self._target.location):
                own = load_model(ModelSource(self._target.location, self._target.revision), self._how)
            stage.add_model(name, load_in_place(own, target.adapter, name))

    def remove(self, say: Say, name: str) -> None:
        """Forgets an adapter; the base stays."""
        self._loaded.remove(name)

    def unload(self) -> None:
        """Frees the memory of everything that is loaded."""
        self._stage = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @property
    def _loaded(self) -> DecodingSession:
        if self._stage is None:
            raise LabError("no model is loaded: load one first")
        return self._stage

    # ------------------------------------------------------------------ prompts and answers

    def _encode(self, ask: GenerateRequest) -> tuple[list[int], frozenset[int]]:
        model, tokenizer = self._loaded.model, self._loaded.tokenizer
        how: dict[str, Any] = {"system": ask.system, "raw": ask.raw}
        ids, stops = encode(model, tokenizer, ask.prompt, **how)
        context = context_length(model.config)
        if context is None or len(ids) < context:
            return ids, stops
        if not ask.cut:
            raise LabError(
                f"the prompt has {len(ids)} tokens and the model's context holds {context}: "
                "shorten it, or let its middle be cut out"
            )
        return shortened(model, tokenizer, ask.prompt, context, ask.max_new_tokens, **how)

    def count(self, ask: GenerateRequest) -> PromptLength:
        """How long the prompt is for this model."""
        model = self._loaded.model
        ids, _ = encode(model, self._loaded.tokenizer, ask.prompt, system=ask.system, raw=ask.raw)
        context = context_length(model.config)
        return PromptLength(len(ids), context, context is None or len(ids) < context)

    def generate(self, ask: GenerateRequest, tell: Tell, cancelled: Cancelled) -> list[float]:
        """Decodes all lanes; events go to ``tell`` about ten times a second. The perplexity of each lane's
        answer under the base."""
        if not 1 <= ask.max_new_tokens <= MOST_NEW_TOKENS:
            raise LabError(f"max_new_tokens is from 1 to {MOST_NEW_TOKENS}, not {ask.max_new_tokens}")
        lanes = _lanes(ask.lanes)
        ids, stops = self._encode(ask)
        stops_at = tuple(text for text in ask.stop if text)
        request = DecodingRequest(
            tuple(ids), lanes, ask.max_new_tokens, stops, stops_at, DETAILS if ask.details else 0
        )
        batches = EventBatcher(tell, lambda result: lane_summary(result, request.prompt_ids))
        results = self._loaded.decode(request, batches.tell, cancelled)
        batches.flush()
        return [self._perplexity_base(result, request.prompt_ids) for result in results]

    def _perplexity_base(self, result: LaneResult, prompt_ids: tuple[int, ...]) -> float:
        if (result.description.on or BASE) == BASE:
            return metrics.perplexity([token.logprob for token in result.tokens])
        judged = score_tokens(self._loaded, prompt_ids, result.token_ids)
        return metrics.perplexity([j.logprob for j in judged])

    def score_tokens(
        self, prompt_ids: list[int], token_ids: list[int], on: list[str], top: int = DETAILS
    ) -> list[list[ScoredToken]]:
        """Every token of a text as each of ``on`` judges it."""
        return [
            [
                ScoredToken(**asdict(each))
                for each in score_tokens(self._loaded, prompt_ids, token_ids, name, top)
            ]
            for name in on
        ]


def _lanes(texts: tuple[str, ...]) -> tuple[strategies.Lane, ...]:
    if not texts:
        raise LabError("there is no lane: add one")
    return strategies.with_seeds(strategies.parse_all(texts), time.time_ns() % 1_000_000)


def lane_summary(result: LaneResult, prompt_ids: tuple[int, ...]) -> LaneDone:
    """A lane's result with what is told of it. Its perplexity under the base is known at once where it ran
    on the base."""
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
    """Gathers records and passes them on about ten times a second, so that neither pipe nor screen drowns."""

    def __init__(
        self,
        tell: Tell,
        lane_summary: Callable[[LaneResult], LaneDone],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._account, self._clock = tell, lane_summary, clock
        self._texts: dict[int, str] = {}
        self._counts: dict[int, int] = {}
        self._beams: list[Beams] = []
        self._flushed = clock()

    def tell(self, record: DecodingRecord) -> None:
        """Takes one record of the decoder."""
        if isinstance(record, LaneResult):
            self.flush()
            self._tell(self._account(record))
            return
        if isinstance(record, BeamRecord):
            self._beams.append(Beams(record.lane, record.step, record.hypotheses))
        else:
            self._texts[record.lane] = self._texts.get(record.lane, "") + record.text
            self._counts[record.lane] = record.position + 1
        if self._clock() - self._flushed >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Passes on what waits."""
        for lane, text in self._texts.items():
            self._tell(Tokens(lane, text, self._counts[lane]))
        for event in self._beams:
            self._tell(event)
        self._texts.clear()
        self._beams.clear()
        self._flushed = self._clock()


def out_of_memory(error: BaseException, four_bit: bool = False) -> str | None:
    """The sentence for an error that means memory ran out; None for any other. ``four_bit``: the model is
    stored in 4 bits already."""
    cuda = isinstance(error, torch.OutOfMemoryError)
    if not (cuda or is_out_of_memory(error)):
        return None
    free = ""
    if cuda:
        torch.cuda.empty_cache()
        free = f" ({size(free_bytes('cuda') or 0)} are free now)"
    smaller = "load a smaller model" if four_bit else "load the model in 4 bits (quantization nf4)"
    return (
        f"the {'GPU' if cuda else 'machine'} ran out of memory{free}: take fewer lanes or beams, fewer new "
        f"tokens or a shorter prompt, or {smaller}"
    )
