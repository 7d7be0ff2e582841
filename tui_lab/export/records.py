"""The records of an export: the request, the checks, and the result that is written to ``export.json``.

The lab and the command line use this module, so it imports no torch. The work is done by
:mod:`tui_lab.export.job`.
"""

from __future__ import annotations

import math

import msgspec

from tui_lab.core import format
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize

JOB_MODULE = "tui_lab.export.job"
RESULT_FILE = "export.json"
#: The folder of a run's exports, inside the run folder.
EXPORTS_FOLDER = "exports"
VERSION = 1
#: Export kind to its description.
KINDS = {
    "adapter": "the adapter with its tokenizer, for peft over the base",
    "merged": "one merged model for transformers, vLLM and others",
    "modelfile": "the merged model with a Modelfile, for `ollama create`",
    "gguf": "one GGUF file for llama.cpp and Ollama (needs llama.cpp)",
}
#: Kinds of earlier versions, with what to use instead.
REMOVED_KINDS = {
    "script": "the kind script was removed: `tui-lab train --preset RUN_FOLDER/recipe.toml` trains the same "
    "run again, and report.md in the run folder holds its full command"
}
DTYPES = ("bfloat16", "float32")
#: Types of a GGUF file; "" is the precision of full weights.
GGUF_TYPES = ("", "f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m")


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to export.

    ``out`` is a folder; the default is exports/KIND in the run folder. ``strength`` multiplies the trained
    change. ``with_base`` copies a base model that exists only as a local folder along with an adapter.
    ``gguf_type`` is one of :data:`GGUF_TYPES`; ``suites`` are asked of the GGUF file in llama.cpp.
    """

    run: str = ""
    kind: str = ""
    dtype: str = "bfloat16"
    out: str = ""
    strength: float = 1.0
    force: bool = False
    with_base: bool = False
    gguf_type: str = ""
    suites: tuple[str, ...] = ()
    runs_dir: str = ""

    @property
    def folder_name(self) -> str:
        """The name of the export's default folder."""
        kind = f"{self.kind}-{self.gguf_type}" if self.gguf_type else self.kind
        return kind if self.strength == 1 else f"{kind}-strength-{self.strength:g}"


class Divergence(msgspec.Struct, frozen=True):
    """The difference between two sets of logits over ``positions`` tokens.

    ``mean_kl`` is KL(run || export) in nats per token, ``top1_agreement`` the share of positions with the
    same most probable token, ``max_abs`` the largest difference of centred logits, and ``relative`` their
    root mean square difference divided by the standard deviation of the run's logits.
    """

    positions: int
    mean_kl: float
    top1_agreement: float
    max_abs: float
    relative: float

    def sentence(self, subject: str) -> str:
        """The figures in words, after ``subject``."""
        return (
            f"{subject}: the most probable token agrees at {format.percent(self.top1_agreement)} of "
            f"{self.positions:,} positions, mean KL {short_number(self.mean_kl)} nats per token, "
            f"logits differ by at most {short_number(self.max_abs)}"
        )


class ExportCheck(msgspec.Struct, frozen=True, omit_defaults=True):
    """One check of an export. ``text`` states the finding; the other fields are its figures, if any."""

    name: str
    passed: bool
    text: str
    # logits: as in Divergence, with the limits that were applied
    positions: int | None = None
    mean_kl: float | None = None
    top1_agreement: float | None = None
    max_abs: float | None = None
    relative: float | None = None
    tolerance_relative: float | None = None
    tolerance_kl: float | None = None
    # greedy: answers that are the same, of how many, and how many ended with a stop token
    same: int | None = None
    of: int | None = None
    ended: int | None = None
    # template, modelfile_template and end_of_turn
    renderings: int | None = None
    compared: int | None = None
    stop_ids: list[int] | None = None


class GgufInfo(msgspec.Struct, frozen=True):
    """What a GGUF file holds, as read back. ``weights`` is the largest difference from the merged model, None
    where transformers cannot read the architecture from GGUF."""

    architecture: str | None = None
    chat_template: str | None = None
    eos: int | None = None
    bos: int | None = None
    adds_bos: bool = False
    tensors: int = 0
    weights: float | None = None
    unread: str | None = None
    problem: str | None = None


class ShippedResult(msgspec.Struct, frozen=True, kw_only=True):
    """A suite, or the run's held-out rows, asked of the base and the tuned model as the run computes, of the
    merged weights in float32, and of the GGUF file. ``flips`` counts answers of the file that differ from
    those of the merged weights, ``lost`` and ``gained`` the ones that changed between wrong and right; the
    change is shipped - merged with its 95 % interval."""

    name: str
    metric: str
    items: int
    base: float
    tuned: float
    merged: float
    shipped: float
    flips: int
    lost: int
    gained: int
    change: float
    low: float
    high: float

    @property
    def sentence(self) -> str:
        """The result as one line."""
        change = f"{self.change:+.3f} ({self.low:+.3f} to {self.high:+.3f})"
        return (
            f"{self.name} ({self.metric}, {self.items:,} items): base {self.base:.3f}, tuned "
            f"{self.tuned:.3f}, merged {self.merged:.3f}, shipped {self.shipped:.3f}; {self.flips:,} answers "
            f"differ from the merged model's ({self.lost} lost, {self.gained} gained), change {change}"
        )


class ExportFigures(msgspec.Struct, omit_defaults=True):
    """Facts of an export. ``own`` says how the run computes, ``gap`` how far the export is from that."""

    architecture: str = ""
    own: str = ""
    tied: bool | None = None
    gap: Divergence | None = None
    gguf: GgufInfo | None = None
    shipped: list[ShippedResult] = []


class ExportBase(msgspec.Struct, frozen=True):
    """The base model of an export."""

    name: str
    on_hub: bool
    revision: str
    commit: str


class ExportedFile(msgspec.Struct, frozen=True):
    """Size and checksum of one file."""

    bytes: int
    sha256: str


class ExportResult(msgspec.Struct, kw_only=True):
    """The content of ``export.json``, and the job's answer with ``path`` set."""

    v: int = VERSION
    kind_of_export: str = ""
    title: str = ""
    run: str = ""
    made: str = ""
    dtype: str | None = None
    strength: float = 1.0
    base: ExportBase | None = None
    method: str = ""
    checks: list[ExportCheck] = []
    figures: ExportFigures = msgspec.field(default_factory=ExportFigures)
    notes: list[str] = []
    use: list[str] = []
    versions: dict[str, str] = {}
    files: dict[str, ExportedFile] = {}
    path: str | msgspec.UnsetType = msgspec.UNSET


def check_request(request: ExportRequest) -> None:
    """Raises LabError for values that no export has."""
    if not request.run:
        raise LabError("no run was named; `tui-lab runs` lists them")
    if sentence := REMOVED_KINDS.get(request.kind):
        raise LabError(sentence)
    if request.kind not in KINDS:
        raise LabError(f"an export is one of {', '.join(KINDS)}, not {sanitize(request.kind)!r}")
    if request.dtype not in DTYPES:
        raise LabError(f"dtype of an export is {' or '.join(DTYPES)}, not {sanitize(request.dtype)!r}")
    if request.gguf_type not in GGUF_TYPES:
        known = ", ".join(GGUF_TYPES[1:])
        raise LabError(f"the type of a GGUF file is {known}, not {sanitize(request.gguf_type)!r}")
    if (request.gguf_type or request.suites) and request.kind != "gguf":
        raise LabError("a GGUF type and suites are for --as gguf")
    if request.suites and request.strength != 1:
        raise LabError("suites compare the file with the run, so they need strength 1")
    from tui_lab.retention.strength_grid import check_strength

    check_strength(request.strength)


def short_number(value: float) -> str:
    """A number with two significant digits; a dash for NaN and infinities."""
    return f"{value:.2g}" if math.isfinite(value) else format.UNKNOWN


def sentences(result: ExportResult) -> list[str]:
    """A result as lines of text, the most important first: what was written, what is noted on it, such as how
    far it is from the run, how it is used, and what was checked."""
    size = format.size(sum(file.bytes for file in result.files.values()))
    lines = [f"{result.title} written to {result.path} ({size})"]
    lines += [f"not passed: {check.text}" for check in result.checks if not check.passed]
    lines += [shipped.sentence for shipped in result.figures.shipped]
    lines += [f"note: {note}" for note in result.notes]
    lines += [f"use: {line}" for line in result.use]
    lines += [f"checked: {check.text}" for check in result.checks if check.passed]
    return [sanitize(line) for line in lines]
