"""The work of the playground process: one loaded model with what is compared with it. Takes typed requests,
one after the other, and returns typed results; it does not read or write lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from tui_lab.core.errors import LabError
from tui_lab.core.format import size
from tui_lab.core.out_of_memory import free_memory, is_out_of_memory
from tui_lab.core.sanitize import sanitize
from tui_lab.data.templates import load_for, renderer_of, settings_of
from tui_lab.decoding import metrics
from tui_lab.decoding.adapters import NeedsSeparateModel, load_in_place
from tui_lab.decoding.context import context_length
from tui_lab.decoding.forward import embedding_weight
from tui_lab.decoding.records import (
    LaneResult,
    ScoredToken,
    TokenRecord,
)
from tui_lab.decoding.score_tokens import score_tokens
from tui_lab.decoding.session import BASE, DecodingSession
from tui_lab.hardware.cuda_memory import memory_of_others
from tui_lab.hardware.cuda_support import torch_device
from tui_lab.hardware.memory_budget import free_bytes
from tui_lab.hardware.precision import QUANTIZATIONS
from tui_lab.models import catalog, download, dynamic_4bit
from tui_lab.models.load_progress import report_load_progress
from tui_lab.models.loading import NO_QUANTIZED, ModelSource, Precision, best_dtype, has_quantized, load_model
from tui_lab.playground.event_batcher import EventBatcher, lane_summary
from tui_lab.playground.joined import JoinedRequest, generate_joined
from tui_lab.playground.messages import (
    Generated,
    GenerateRequest,
    GenerationEvent,
    LoadRequest,
    PlaygroundStatus,
    PromptLength,
    PromptTooLongError,
    Scored,
    ScoreRequest,
    TooLong,
)
from tui_lab.playground.names import lane_name
from tui_lab.playground.prompts import Prompters, prepared, prompt_pieces
from tui_lab.runs import inputs
from tui_lab.runs.folder import Run
from tui_lab.runs.references import ModelReference, adapter_target, model_target

OnLoadProgress = Callable[[str], None]


@dataclass
class _Loaded:
    """A base model with what is compared with it, and how it was loaded."""

    session: DecodingSession
    prompters: Prompters
    source: ModelSource
    precision: Precision
    label: str
    dtype: str
    allow_large: bool


class Worker:
    """The loaded model and the requests about it. Methods raise LabError for what cannot be done."""

    def __init__(self) -> None:
        self._model: _Loaded | None = None  # None until a model is loaded

    # ------------------------------------------------------------------ models

    @property
    def status(self) -> PlaygroundStatus:
        """What is loaded."""
        if self._model is None:
            return PlaygroundStatus(state="ready")
        session = self._model.session
        model, models = session.model, (session.model, *session.others.values())
        return PlaygroundStatus(
            state="ready",
            model=self._model.label,
            dtype=self._model.dtype,
            quantization=self._model.precision.quantization,
            device=str(model.device),
            names=session.names,
            memory_bytes=sum(_bytes_of(each) for each in models),
            context=context_length(model.config),
            has_template=self._model.prompters.of().has_template,
            can_think=self._can_think,
            thinking=settings_of(self._model.prompters.of().tokenizer).thinking,
            speed=session.speed,
        )

    @property
    def _can_think(self) -> bool:
        tokenizer = self._loaded.prompters.of().tokenizer
        return bool(tokenizer.chat_template) and renderer_of(tokenizer).asks_differently

    def load(self, request: LoadRequest, on_progress: OnLoadProgress) -> None:
        """Loads a base model in place of the one before, and the adapter if the request names a run."""
        if request.quantization not in QUANTIZATIONS:
            raise LabError(
                f"quantization is one of {', '.join(QUANTIZATIONS)}, not {sanitize(request.quantization)!r}"
            )
        if request.dtype not in ("auto", "float32", "bfloat16", "float16"):
            raise LabError(f"dtype is auto, float32, bfloat16 or float16, not {sanitize(request.dtype)!r}")
        name = request.model
        target = model_target(name, allow_large=request.allow_large)
        target = replace(target, revision=request.revision or target.revision)
        self.unload()
        on_progress(f"loading {sanitize(target.location if name not in target.location else name)} …")
        quantization = request.quantization if has_quantized(torch_device()) else "none"
        if request.quantization != quantization:
            on_progress(NO_QUANTIZED)
        precision = Precision(request.dtype, quantization)
        if quantization == "nf4" and target.adapter is not None:
            names = dynamic_4bit.names_of(target.adapter.parent)
            precision = replace(precision, unquantized_modules=names)
        source = ModelSource(target.location, target.revision)
        with report_load_progress(on_progress, sanitize(name), target.location, target.revision):
            model = load_model(source, precision, allow_large=request.allow_large)
            on_progress(f"loading the tokenizer of {sanitize(name)} …")
            tokenizer = load_for(target.location, target.revision)
        catalog.check_size(target.location, model.num_parameters(), request.allow_large)
        dtype = request.dtype
        if dtype == "auto":
            dtype = best_dtype(model.device.type, model.config.model_type)
        session = DecodingSession(model, tokenizer)
        self._model = _Loaded(
            session, Prompters(tokenizer), source, precision, sanitize(name), dtype, request.allow_large
        )
        if target.adapter is not None:
            self._add(_run_name(target.adapter), target, on_progress)

    def add(self, name: str, location: str, on_progress: OnLoadProgress) -> None:
        """Adds an adapter or a whole model for comparison."""
        if not name or name != "".join(name.split()) or "=" in name or "," in name:
            raise LabError(f"{sanitize(name)!r} cannot name an adapter: take one word without '=' and ','")
        if name in self._loaded.session.names:
            raise LabError(f"the name {sanitize(name)!r} is taken; choose another")
        with download.reporting(lambda progress: on_progress(progress.text)):
            target = adapter_target(location)
        self._add(name, target, on_progress)

    def _add(self, name: str, target: ModelReference, on_progress: OnLoadProgress) -> None:
        loaded = self._loaded
        changes = inputs.changed_of_reference(target, loaded.source.location, loaded.source.revision)
        for sentence in inputs.require_unchanged(changes, sanitize(target.name)):
            on_progress(sentence)
        self._add_weights(name, target, on_progress)
        try:
            loaded.prompters.add(name, loaded.source, target.saved)
            session = loaded.session
            session.use_tokenizer(name, loaded.prompters.of(name).tokenizer)
        except LabError:
            loaded.session.remove(name)
            raise

    def _add_weights(self, name: str, target: ModelReference, on_progress: OnLoadProgress) -> None:
        loaded = self._loaded
        session = loaded.session
        if target.adapter is None:
            on_progress(f"loading {sanitize(name)}, a whole model …")
            with report_load_progress(on_progress, sanitize(name), target.location, target.revision):
                model = load_model(
                    ModelSource(target.location, target.revision),
                    loaded.precision,
                    allow_large=loaded.allow_large,
                )
            session.add_model(name, model)
            return
        on_progress(f"loading adapter {sanitize(name)} …")
        try:
            session.add_adapter(name, target.adapter)
        except NeedsSeparateModel as reason:
            on_progress(f"{sanitize(str(reason))}: loading a second copy of the base for it …")
            source = loaded.source
            with report_load_progress(on_progress, sanitize(name), source.location, source.revision):
                model = load_model(source, loaded.precision, allow_large=loaded.allow_large)
            session.add_model(name, load_in_place(model, target.adapter, name), is_adapted=True)

    def remove(self, name: str) -> None:
        """Removes an adapter or a model; the base stays loaded."""
        self._loaded.session.remove(name)
        self._loaded.prompters.saved.pop(name, None)

    def unload(self) -> None:
        """Frees the memory of everything that is loaded."""
        self._model = None
        free_memory()

    @property
    def _loaded(self) -> _Loaded:
        if self._model is None:
            raise LabError("no model is loaded: load one first")
        return self._model

    # ------------------------------------------------------------------ answers

    def generate(
        self,
        request: GenerateRequest,
        emit: Callable[[PromptLength | GenerationEvent], None],
        cancelled: Callable[[], bool],
    ) -> Generated | TooLong:
        """Encodes the prompt of each lane, emits the largest length, then decodes all lanes and emits their
        events about ten times per second. Nothing is decoded if a prompt does not fit the context and must
        not be cut."""
        loaded = self._loaded
        session = loaded.session
        try:
            ids, groups, length = prepared(session.model, loaded.prompters, request)
        except PromptTooLongError as error:
            return error.length
        emit(length)
        batcher = EventBatcher(emit, lambda result: lane_summary(result, ids[result.lane]))
        results = session.decode_groups(groups, batcher.add, cancelled)
        batcher.flush()
        found = {lane: self._perplexity_base(result, ids[lane]) for lane, result in results.items()}
        return Generated({lane: value for lane, value in found.items() if value is not None})

    def generate_joined(self, requests: Sequence[JoinedRequest]) -> None:
        """Decodes requests of several clients in one batch; each is answered when it has ended. Raises what
        fails while decoding, for those that are not answered."""
        generate_joined(self._loaded.session, self._loaded.prompters, requests)

    def _perplexity_base(self, result: LaneResult, prompt_ids: tuple[int, ...]) -> float | None:
        """The perplexity of an answer under the base; None where the base does not know its tokens."""
        tokens: list[TokenRecord] | list[ScoredToken] = list(result.tokens)
        rows = embedding_weight(self._loaded.session.model).shape[0]
        if max((*prompt_ids, *result.token_ids), default=0) >= rows:
            return None
        if (result.description.on or BASE) != BASE:
            tokens = score_tokens(self._loaded.session, prompt_ids, result.token_ids)
        return metrics.perplexity([token.logprob for token in tokens])

    def score(self, request: ScoreRequest) -> Scored:
        """Scores the text of a request with each model that it names."""
        scores = {name: self.score_tokens(request, name) for name in request.on}
        return Scored(scores, prompt_pieces(self._loaded.prompters.of().tokenizer, request.prompt_ids))

    def score_tokens(self, request: ScoreRequest, name: str) -> tuple[ScoredToken, ...]:
        """Scores the text of a request with one of the loaded models."""
        session = self._loaded.session
        return tuple(score_tokens(session, request.prompt_ids, request.token_ids, name, request.top))


def _bytes_of(model: PreTrainedModel) -> int:
    """Bytes of a model's weights and buffers."""
    return int(model.get_memory_footprint())  # type: ignore[no-untyped-call, unused-ignore]


def _run_name(adapter: Path) -> str:
    """The name of the adapter of a run in lanes."""
    return lane_name(Run(adapter.parent)) if (adapter.parent / "recipe.toml").is_file() else "tuned"


def out_of_memory_message(error: BaseException, four_bit: bool = False) -> str | None:
    """One sentence if memory ran out; None for any other error. ``four_bit``: the model is already stored in
    4 bits."""
    if not is_out_of_memory(error):
        return None
    cuda = any(word in str(error).lower() for word in ("cuda", "cublas", "cudnn"))
    cuda = cuda or isinstance(error, torch.OutOfMemoryError)
    free = ""
    if cuda and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        free = f" ({size(free_bytes('cuda') or 0)} are free now)"
    smaller = "load a smaller model" if four_bit else "load the model in 4 bits (quantization nf4)"
    if cuda and (others := memory_of_others()):
        return f"the GPU ran out of memory{free}: {others}; end them, or {smaller}"
    return (
        f"the {'GPU' if cuda else 'machine'} ran out of memory{free}: take fewer lanes or beams, fewer new "
        f"tokens or a shorter prompt, or {smaller}"
    )
