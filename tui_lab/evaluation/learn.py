"""Learn: what a page shows, computed on the model in hand. A job: ``python -m tui_lab.evaluation.learn``."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_lab.core import format, job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation import learn_numbers as numbers
from tui_lab.evaluation.learn_records import (
    LearnAnswer,
    LearnRequest,
    Page,
    PageBars,
    PageBlock,
    PageTable,
    PageText,
)
from tui_lab.runs.references import ModelReference, model_target

if TYPE_CHECKING:
    from torch import Tensor

    from tui_lab.data.rows import Model, Tokenizer

#: Tokens of a text that a page reads.
MOST_TOKENS = 256
SHOWN_TOKENS = 10
_ANSWER_TOKENS = 48
#: PageTable and columns of the weight matrix whose rounding is measured.
_MATRIX = 1024


@dataclass
class _Lesson:
    """A page with its values, and what it computes on, loaded when it is first needed."""

    page: Page
    values: dict[str, float]
    text: str
    name: str  # of the model, in a sentence
    target: ModelReference
    on_progress: job_protocol.OnProgress
    _model: Model = field(default=None)
    _tokenizer: Tokenizer = field(default=None)

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            from tui_lab.data.templates import load_for

            self._tokenizer = load_for(self.target.location, self.target.revision)
        return self._tokenizer

    @property
    def model(self) -> Model:
        if self._model is None:
            from tui_lab.models.load_progress import report_load_progress
            from tui_lab.models.loading import ModelSource, load_model, quiet_libraries

            self.on_progress(f"loading {self.name}")
            reported = report_load_progress(
                self.on_progress, self.name, self.target.location, self.target.revision
            )
            with quiet_libraries(), reported:
                self._model = load_model(ModelSource(self.target.location, self.target.revision))
        return self._model

    def token_ids(self) -> list[int]:
        """The text as tokens, with the beginning token where the model has one. Raises LabError."""
        from tui_lab.data import row_tokens

        ids = list(row_tokens.prompt_ids(self.tokenizer, self.text))[:MOST_TOKENS]
        if len(ids) < 2:
            raise LabError("the text is too short: write a sentence")
        return ids

    def shown(self, token: int) -> str:
        """A token as text, with its spaces visible."""
        return self.tokenizer.decode([token]).replace(" ", "␣").replace("\n", "↵") or f"#{token}"


def _ignore(text: str, done: int | None = None, total: int | None = None) -> None:
    del text, done, total


def compute(request: LearnRequest, on_progress: job_protocol.OnProgress = _ignore) -> LearnAnswer:
    """The answer to a request; torch is loaded for pages that need the model. Raises LabError."""
    page, values = request.page_and_values()
    target = model_target(request.model, Path(request.runs_dir) if request.runs_dir else None)
    text = request.text.strip() or page.text
    lesson = _Lesson(page, values, text, request.model_name, target, on_progress)
    return LearnAnswer(page.name, sanitize(target.location), _PAGES[page.name](lesson))


# --- pages --------------------------------------------------------------------------------------------


def _next_token(lesson: _Lesson) -> list[PageBlock]:
    import torch

    ids = lesson.token_ids()
    with torch.inference_mode():
        logits = (
            lesson.model(input_ids=torch.tensor([ids], device=lesson.model.device)).logits[0].float().cpu()
        )
    log_p = logits.log_softmax(-1)  # (T, V)
    rows, losses = [], []
    for at, token in enumerate(ids[1:]):
        best = int(log_p[at].argmax())
        losses.append(-float(log_p[at, token]))
        rank = int((log_p[at] > log_p[at, token]).sum()) + 1
        rows.append(
            (lesson.shown(token), f"{math.exp(-losses[-1]):.1%}", f"{rank:,}", f"{losses[-1]:.2f}",
             lesson.shown(best))
        )  # fmt: skip
    loss = math.fsum(losses) / len(losses)
    top = log_p[-1].exp().topk(SHOWN_TOKENS)
    return [
        PageTable(
            "Teacher forcing: each token with the probability that the model gave it",
            ("token", "p", "rank", "−ln p", "most probable"),
            rows[:40],
        ),
        PageText(
            f"The loss of this text is the mean of the {len(losses)} values: {loss:.3f} nats a token, a "
            f"perplexity of {math.exp(loss):.1f}. Training moves the weights so that this mean falls."
        ),
        PageBars(
            "After the whole text, the next token would be", _token_bars(lesson, top.values, top.indices)
        ),
    ]


def _token_bars(lesson: _Lesson, values: Tensor, indices: Tensor) -> list[tuple[str, float, str]]:
    return [
        (lesson.shown(int(token)), float(value), f"{float(value):.1%}")
        for value, token in zip(values, indices, strict=True)
    ]


def _decoding(lesson: _Lesson) -> list[PageBlock]:
    import torch

    from tui_lab.data import row_tokens
    from tui_lab.decoding.metrics import rep_n
    from tui_lab.decoding.records import DecodingRequest
    from tui_lab.decoding.session import DecodingSession
    from tui_lab.decoding.strategies import parse

    tokenizer = lesson.tokenizer
    chat = [{"role": "user", "content": lesson.text}] if tokenizer.chat_template else lesson.text
    ids = list(row_tokens.prompt_ids(tokenizer, chat))[-MOST_TOKENS:]
    p = lesson.values["top_p"]
    texts = ("greedy", "beam num_beams=4", "sample seed=1", "temperature t=1.8 seed=1", f"top-p p={p} seed=1")
    session = DecodingSession(lesson.model, tokenizer)
    lesson.on_progress("decoding")
    # no stop token: what a strategy does when it goes on is the point
    request = DecodingRequest(tuple(ids), tuple(parse(text) for text in texts), _ANSWER_TOKENS)
    results = session.decode(request)
    rows = [
        (text, f"{rep_n(result.token_ids, 4):.0%}",
         format.decimal(math.fsum(t.logprob for t in result.tokens) / max(1, len(result.tokens)), 2))
        for text, result in zip(texts, results.values(), strict=True)
    ]  # fmt: skip
    with torch.inference_mode():
        logits = lesson.model(input_ids=torch.tensor([ids], device=lesson.model.device)).logits[0, -1]
    probabilities, tokens = logits.float().cpu().softmax(-1).sort(descending=True)
    inside = int((probabilities.cumsum(0) < p).sum()) + 1
    bars = _token_bars(lesson, probabilities[:16], tokens[:16])
    bars = [
        (("" if at < inside else "cut ") + name, value, text) for at, (name, value, text) in enumerate(bars)
    ]
    return [
        PageTable(
            f"{_ANSWER_TOKENS} tokens by each strategy, not stopped at an end token",
            ("strategy", "repeated 4-grams", "mean ln p"),
            rows,
        ),
        *(PageText(f"{text}: {result.text}") for text, result in zip(texts, results.values(), strict=True)),
        PageBars(
            f"The nucleus of the first token: {inside:,} of {len(probabilities):,} tokens hold {p:.0%}", bars
        ),
    ]


def _scaling(lesson: _Lesson) -> list[PageBlock]:
    from tui_lab.models import catalog

    own = catalog.find(lesson.target.location, allow_large=True).parameters or 0
    count = lesson.values["parameters"] * 1e9 or float(own)
    tokens = lesson.values["tokens"] * 1e9
    if count <= 0 or tokens <= 0:
        raise LabError("N and D are above 0; the parameters of this model are not known, so set parameters")
    compute = 6 * count * tokens
    best_n, best_d = numbers.compute_optimal(compute)
    by_n, by_d, by_c = numbers.kaplan_losses(count, tokens, compute)
    sizes = [(n, numbers.chinchilla_loss(n * count, tokens)) for n in (0.25, 0.5, 1, 2, 4)]
    return [
        PageTable(
            "",
            ("", "N", "D", "loss in nats"),
            [
                ("here", _count(count), _count(tokens), f"{numbers.chinchilla_loss(count, tokens):.3f}"),
                ("the same compute, best shared", _count(best_n), _count(best_d),
                 f"{numbers.chinchilla_loss(best_n, best_d):.3f}"),
            ],
        ),
        PageText(
            f"The compute is 6 N D = {compute:.2g} operations, and {tokens / count:,.0f} tokens are read for "
            f"each parameter; the best share of this compute reads {best_d / best_n:,.0f}."
        ),
        PageBars(
            "The predicted loss for other N at this D; the bars begin at its floor of 1.69",
            [(f"{factor:g} · N", loss - 1.69, f"{loss:.3f}") for factor, loss in sizes],
        ),
        PageTable(
            "Kaplan et al. 2020, where only one quantity is short",
            ("", "loss in nats"),
            [("L(N)", f"{by_n:.3f}"), ("L(D)", f"{by_d:.3f}"), ("L(C)", f"{by_c:.3f}")],
        ),
        PageText("The laws are of pretraining on web text; they say nothing about a fine-tuning."),
    ]  # fmt: skip


def _count(value: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def _kv_cache(lesson: _Lesson) -> list[PageBlock]:
    import torch

    from tui_lab.decoding.forward import embedding_weight
    from tui_lab.decoding.kv_cache import kv_bytes, kv_shape

    ids, model = lesson.token_ids(), lesson.model
    new = int(lesson.values["new_tokens"])
    if not 1 <= new <= MOST_TOKENS:
        raise LabError(f"new tokens are 1 to {MOST_TOKENS}, not {new}")
    given = torch.tensor([ids], device=model.device)

    def seconds(use_cache: bool) -> tuple[float, list[int]]:
        lesson.on_progress(f"{new} tokens {'with' if use_cache else 'without'} a cache")
        began = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=new,
                min_new_tokens=new, do_sample=False, num_beams=1, use_cache=use_cache,
            )  # fmt: skip
        found: list[int] = out[0].tolist()
        return time.perf_counter() - began, found

    seconds(True)  # the first call prepares what later calls share
    with_cache, first = seconds(True)
    without, second = seconds(False)
    config = model.config.get_text_config(decoder=True)
    heads, width = kv_shape(model.config)
    each = kv_bytes(model.config, 1, 1, embedding_weight(model).element_size())
    steps = [(length, each * length) for length in (len(ids) + new, 1024, 8192, 32_768)]
    return [
        PageTable(
            f"{new} tokens after {len(ids)}, measured",
            ("", "seconds", "tokens computed"),
            [
                ("with the cache", f"{with_cache:.3f}", f"{len(ids) + new - 1:,}"),
                ("without", f"{without:.3f}", f"{sum(len(ids) + at for at in range(new)):,}"),
            ],
        ),
        PageText(
            f"The tokens are {'the same' if first == second else 'not all the same (rounding)'}; without the "
            f"cache it takes {without / with_cache:.1f} times as long, and more with every token."
        ),
        PageTable(
            f"Memory: 2 · {config.num_hidden_layers} layers · {heads} heads · {width} numbers, "
            f"{format.size(each)} a token",
            ("tokens", "cache"),
            [(f"{length:,}", format.size(size)) for length, size in steps],
        ),
    ]


def _formats(lesson: _Lesson) -> list[PageBlock]:
    import torch

    value = lesson.values["value"]
    rows = []
    for form in numbers.FLOATS:
        bits, stored = numbers.bits_of(value, form)
        rows.append(
            (form.name, bits, f"{stored:.9g}", _share(abs(stored - value) / abs(value) if value else 0.0))
        )
    name, weights = _largest_matrix(lesson.model)
    stored_as = numbers.rounded(weights)
    found: list[PageBlock] = [
        PageTable(
            f"{value:g} in bits: sign, exponent, mantissa", ("format", "bits", "stored", "error"), rows
        ),
        PageText(
            f"The weights of {name} ({weights.shape[0]:,} × {weights.shape[1]:,}) in each format; the error "
            "is the root mean square, as a share of that of the weights."
        ),
        PageBars(
            "",
            [
                (kind, error, _share(error))
                for kind, stored in stored_as.items()
                for error in (numbers.relative_error(weights, stored),)
            ],
        ),
    ]
    for kind in ("int8", "NF4"):
        step = 0.75 * float((weights - stored_as[kind]).square().mean().sqrt())
        shares = numbers.error_histogram(weights, stored_as[kind], step)
        found.append(
            PageBars(
                f"{kind}: the errors, in steps of {step:.2g}",
                [
                    (f"{at - 4:+d}" if at != 4 else "0", share, f"{share:.1%}")
                    for at, share in enumerate(shares)
                ],
            )
        )
    torch.manual_seed(0)
    return found


def _share(error: float) -> str:
    return f"{error:.2%}" if error >= 1e-4 else f"{error:.1e}" if error else "0"


def _largest_matrix(model: Model) -> tuple[str, Tensor]:
    """The name and the first rows and columns of the largest linear layer within the blocks, float32."""
    import torch

    linear: list[tuple[str, Any]] = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings()
    ]
    if not linear:
        raise LabError("this model has no linear layers to measure")
    name, module = max(linear, key=lambda pair: pair[1].weight.numel())
    return name, module.weight[:_MATRIX, :_MATRIX].detach().float().cpu()


def _lora(lesson: _Lesson) -> list[PageBlock]:
    rank = int(lesson.values["rank"])
    if rank < 1:
        raise LabError(f"rank is at least 1, not {rank}")
    shapes = _linear_shapes(lesson.model)
    total = lesson.model.num_parameters()
    rows = [
        (
            kind,
            f"{count} · {out:,} × {inner:,}",
            f"{count * out * inner:,}",
            f"{count * rank * (out + inner):,}",
        )
        for kind, (count, out, inner) in shapes.items()
    ]
    trained = sum(count * rank * (out + inner) for count, out, inner in shapes.values())
    found: list[PageBlock] = [
        PageTable(f"Parameters with r = {rank}", ("layer", "shapes", "weights", "A and B"), rows),
        PageText(f"LoRA with r = {rank} on all of them trains {trained:,} of {total:,} parameters "
                 f"({trained / total:.2%})."),
    ]  # fmt: skip
    if lesson.target.adapter is None:
        return [*found, PageText("Open this page on a run with LoRA to see the spectrum of what it learned.")]
    return [*found, *_spectra(lesson.target.adapter)]


def _linear_shapes(model: Model) -> dict[str, tuple[int, int, int]]:
    """Count, rows and columns of the linear layers within the blocks, by the last part of their names."""
    import torch

    found: dict[str, tuple[int, int, int]] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings():
            kind = name.rpartition(".")[2]
            count = found.get(kind, (0, 0, 0))[0]
            found[kind] = (count + 1, module.out_features, module.in_features)
    return found


def _spectra(adapter: Path) -> list[PageBlock]:
    """The spectrum of the change of each layer, by kind of layer. Raises LabError."""
    from peft import PeftConfig
    from safetensors.torch import load_file

    config: Any = PeftConfig.from_pretrained(str(adapter))
    if str(getattr(config.peft_type, "value", config.peft_type)) != "LORA":
        return [PageText("This run's method is not LoRA, so its change has no A and B.")]
    tensors = load_file(adapter / "adapter_model.safetensors")
    scale = config.lora_alpha / (math.sqrt(config.r) if config.use_rslora else config.r)
    by_kind: dict[str, list[list[float]]] = {}
    for name, a in tensors.items():
        if name.endswith("lora_A.weight"):
            b = tensors[name.replace("lora_A", "lora_B")]
            kind = name.removesuffix(".lora_A.weight").rpartition(".")[2]
            by_kind.setdefault(kind, []).append(numbers.spectrum(a, b, scale))
    if not by_kind:
        return [PageText("The adapter of this run has no LoRA matrices.")]
    rows = []
    for kind, spectra in by_kind.items():
        used = [numbers.used_directions(values) for values in spectra]
        largest = max(values[0] for values in spectra)
        rows.append(
            (kind, str(len(spectra)), f"{largest:.3g}", f"{sum(used) / len(used):.1f} of {len(spectra[0])}")
        )
    name, values = max(
        ((kind, values) for kind, spectra in by_kind.items() for values in spectra),
        key=lambda pair: pair[1][0],
    )
    return [
        PageTable(
            "What the run learned: singular values of its change",
            ("layer", "count", "largest", "directions with 90%"),
            rows,
        ),
        PageBars(
            f"The strongest change, in {name}",
            [(str(at), value, f"{value:.3g}") for at, value in enumerate(values[:16], 1)],
        ),
    ]


_PAGES: dict[str, Callable[[_Lesson], list[PageBlock]]] = {
    "next-token": _next_token,
    "decoding": _decoding,
    "scaling": _scaling,
    "kv-cache": _kv_cache,
    "formats": _formats,
    "lora": _lora,
}


if __name__ == "__main__":
    sys.exit(job_protocol.serve(compute, LearnRequest))
