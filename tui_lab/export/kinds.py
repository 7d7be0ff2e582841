"""One function per export kind. Each fills an empty folder, loads the result again in another process,
compares it with the run, and returns an :class:`ExportOutcome`.

A new kind needs a function here, an entry in :data:`EXPORTERS`, and one in :data:`.records.KINDS`; GGUF
has a module of its own, :mod:`.gguf`.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tui_lab.core import format
from tui_lab.core.errors import LabError
from tui_lab.core.job_protocol import OnProgress
from tui_lab.core.out_of_memory import free_memory
from tui_lab.core.sanitize import sanitize
from tui_lab.export import compare, modelfile, weights
from tui_lab.export import source as sources
from tui_lab.export.check import CheckAnswer, CheckSpec, Conversation, Model, Tokenizer
from tui_lab.export.records import ExportCheck, ExportFigures, ExportRequest
from tui_lab.export.reference import Reference, compute_reference
from tui_lab.export.source import CONVERSATIONS, TEXTS, WEIGHTS, ComparedText, SavedRun
from tui_lab.runs import inputs

BYTES_PER_WEIGHT = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class ExportTask:
    """One export: the request, the run's weights, and the empty folder to fill."""

    request: ExportRequest
    source: SavedRun
    target: Path
    tokenizer: Tokenizer
    on_progress: OnProgress


@dataclass
class ExportOutcome:
    """What an export function did. ``use`` says how the export is used."""

    checks: list[ExportCheck] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    use: list[str] = field(default_factory=list)
    figures: ExportFigures = field(default_factory=ExportFigures)
    commit: str = ""


@dataclass(frozen=True)
class WrittenModel:
    """A whole model in a folder. ``stop_ids`` and ``settings`` are those of its generation config;
    ``reference``: what the run computes, whose file is in the ``work`` folder."""

    outcome: ExportOutcome
    text: ComparedText
    stop_ids: list[int]
    settings: dict[str, object]
    reference: Reference


# --- kinds --------------------------------------------------------------------------------------------


def export_adapter(task: ExportTask) -> ExportOutcome:
    """The adapter as the run saved it, with tokenizer and generation settings. Raises LabError."""
    source, target = task.source, task.target
    if source.is_full_model:
        weights.write_adapter(source, target, "")  # raises the error that says what to do instead
    outcome = ExportOutcome(use=["see README.md: peft's PeftModel.from_pretrained(BASE, FOLDER) loads it"])
    text = sources.compared_text(source, task.tokenizer)
    with scratch(target) as work:
        reference, model = compute_reference(source, text, task.tokenizer, work, task.on_progress)
        outcome.commit = reference.commit
        weights.write_adapter(source, target, reference.commit)
        _write_settings(task.tokenizer, model, target)
        inputs.copy_card(source.path, target)
        outcome.figures.architecture = _architecture(model)
        del model
        free_memory()
        outcome.notes += _provide_base(task)
        equal = weights.tensors_equal(source.path / WEIGHTS, target / WEIGHTS)
        require(
            source, [ExportCheck("tensors", equal, "every tensor equals the run's, bit for bit")], outcome
        )
        copied = target / weights.LOCAL_BASE
        base = str(copied) if copied.is_dir() else source.base
        _compare(task, text, reference, outcome, folder=target, base=base, dtype=reference.dtype)
    return outcome


def export_merged(task: ExportTask) -> ExportOutcome:
    """One whole model. Raises LabError."""
    with scratch(task.target) as work:
        outcome = write_whole_model(task, task.target, work).outcome
    outcome.use.append("AutoModelForCausalLM.from_pretrained(FOLDER); see its README.md")
    return outcome


def export_modelfile(task: ExportTask) -> ExportOutcome:
    """One whole model with a Modelfile for Ollama. Raises LabError."""
    with scratch(task.target) as work:
        written = write_whole_model(task, task.target, work)
    write_modelfile(task, written, ".")
    architecture = written.outcome.figures.architecture
    known = modelfile.architectures().get(architecture)
    if known is None or not known.ollama:
        written.outcome.notes.append(
            f"`ollama create` is not known to import {sanitize(architecture)} from safetensors: "
            "use export --as gguf"
        )
    return written.outcome


EXPORTERS: dict[str, Callable[[ExportTask], ExportOutcome]] = {
    "adapter": export_adapter,
    "merged": export_merged,
    "modelfile": export_modelfile,
}


# --- steps that kinds share ---------------------------------------------------------------------------


@contextlib.contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """A temporary folder inside the target, so that a killed export leaves nothing elsewhere."""
    with tempfile.TemporaryDirectory(dir=target, prefix=".check-") as place:
        yield Path(place)


def require(source: SavedRun, checks: Iterable[ExportCheck], outcome: ExportOutcome) -> None:
    """Adds checks to the outcome. Raises LabError at the first that failed."""
    for check in checks:
        if not check.passed:
            raise LabError(f"run {source.run.id} is not exported: {check.text}")
        outcome.checks.append(check)


def _provide_base(task: ExportTask) -> list[str]:
    """Copies a base model that is on no hub if requested; returns notes on where the base is."""
    source = task.source
    if not source.base_is_folder:
        note = f"the base {source.base_name} is on the hub, so it was not copied"
        return [note] if task.request.with_base else []
    if task.request.with_base:
        task.on_progress("copying the base")
        weights.copy_base(source, task.target)
        return ["the base model is in the folder base of the export"]
    return [
        f"the base {source.base_name} is on no hub: copy it into the folder base of the export where it is "
        "used (--with-base does that)"
    ]


def write_whole_model(task: ExportTask, folder: Path, work: Path) -> WrittenModel:
    """Merges, writes and checks the whole model; ``work`` is for temporary files. Raises LabError."""
    from tui_lab.data import row_tokens

    source, dtype = task.source, task.request.dtype
    outcome = ExportOutcome()
    text = sources.compared_text(source, task.tokenizer)
    reference, model = compute_reference(source, text, task.tokenizer, work, task.on_progress)
    outcome.commit = reference.commit
    _check_disk(task.target, sources.parameter_count(model) * BYTES_PER_WEIGHT[dtype])
    model = weights.merge(model, source, task.on_progress)
    # save_pretrained writes the model's own generation config, so it is set before and written after
    model.generation_config = weights.generation_config(model, task.tokenizer)
    weights.write_model(model, folder, dtype)
    settings = _write_settings(task.tokenizer, model, folder)
    inputs.copy_card(source.path, folder)
    stop_ids = row_tokens.stop_ids(task.tokenizer, model)
    outcome.figures.architecture = _architecture(model)
    del model
    free_memory()
    _compare(task, text, reference, outcome, folder=folder, base="", dtype=dtype)
    return WrittenModel(outcome, text, stop_ids, settings, reference)


def _architecture(model: Model) -> str:
    return str((model.config.architectures or [type(model).__name__])[0])


def _write_settings(tokenizer: Tokenizer, model: Model, folder: Path) -> dict[str, object]:
    """Writes tokenizer, template and generation settings; returns the settings."""
    weights.write_tokenizer(tokenizer, folder)
    config = model.generation_config = weights.generation_config(model, tokenizer)
    config.save_pretrained(folder)
    settings: dict[str, object] = config.to_dict()
    return settings


def _check_disk(target: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(target).free
    if free < needed_bytes * 1.02:
        raise LabError(
            f"the export needs {format.size(needed_bytes)}, and the disk of {sanitize(str(target.parent))} "
            f"has {format.size(free)} free: free some space, or name another folder with --out"
        )


def _compare(
    task: ExportTask,
    text: ComparedText,
    reference: Reference,
    outcome: ExportOutcome,
    *,
    folder: Path,
    base: str,
    dtype: str,
) -> None:
    """Loads the export in a process of its own and adds the checks of what it computes. Raises LabError."""
    task.on_progress("loading the export in a separate process and comparing")
    spec = CheckSpec(
        folder=str(folder),
        base=base,
        revision=task.source.recipe.revision,
        dtype=reference.dtype,
        device=reference.device,
        rows=text.rows,
        prompts=text.prompts,
        positions=reference.positions,
        max_new_tokens=sources.ANSWER_TOKENS,
        reference=str(reference.path),
        conversations=list(CONVERSATIONS),
        template_settings=compare.template_settings(task.tokenizer),
        texts=list(TEXTS),
    )
    answer = compare.run_check(spec, reference.path.parent)
    expected = compare.Expected(
        tokenizer=task.tokenizer,
        rows=len(text.rows),
        held_out=text.held_out,
        answers=reference.answers,
        dtype="float32" if reference.dtype == dtype == "float32" else "bfloat16",
        separate_base=bool(base),
        tied=reference.tied,
    )
    require(task.source, compare.checks(answer, expected), outcome)
    outcome.figures.own = reference.own
    outcome.figures.tied = reference.tied
    _note_gap(task.source, reference, answer, outcome)


def _note_gap(source: SavedRun, reference: Reference, answer: CheckAnswer, outcome: ExportOutcome) -> None:
    """Notes how far the export is from the run as it was trained."""
    if answer.gap is None:
        return
    gap = outcome.figures.gap = compare.divergence(answer.gap)
    subject = (
        f"quantisation gap: the run was trained on {source.rounding} weights, and the export uses "
        "unquantised ones"
        if source.quantized
        else f"the run computed in {reference.own.rpartition(' ')[2]}"
    )
    outcome.notes.append(gap.sentence(subject))


def write_modelfile(task: ExportTask, written: WrittenModel, weights_path: str) -> None:
    """Writes the Modelfile, reads it back, and checks its template and stop strings. Raises LabError."""
    from tui_lab.data import templates
    from tui_lab.data.rows import ChatMessage

    tokenizer, outcome = task.tokenizer, written.outcome
    renderer = templates.renderer_of(tokenizer)

    def render(messages: Conversation, prompt: bool) -> str:
        return renderer.render([ChatMessage(role=m["role"], content=m["content"]) for m in messages], prompt)

    template = modelfile.translate(
        lambda messages: render(messages, True),
        lambda messages: render(messages, False),
        tokenizer.bos_token or "",
        [chat if chat[-1]["role"] == "user" else chat[:-1] for chat in CONVERSATIONS],
    )
    stops = [str(tokenizer.convert_ids_to_tokens(stop)) for stop in written.stop_ids]
    path = task.target / "Modelfile"
    path.write_text(
        modelfile.modelfile(weights_path, template.go, stops, written.settings, written.text.system),
        encoding="utf-8",
    )
    saved = path.read_text(encoding="utf-8")
    checks = [
        ExportCheck(
            "modelfile",
            modelfile.template_of(saved) == template.go and modelfile.stops_of(saved) == stops,
            f"the Modelfile stops at {' and '.join(map(sanitize, stops))}",
        )
    ]
    if template.go:
        text = f"its TEMPLATE renders {template.compared} conversations as the run's chat template does"
        checks.append(ExportCheck("modelfile_template", True, text, compared=template.compared))
        outcome.notes += template.notes
    else:
        outcome.notes.append(
            "the Modelfile has no TEMPLATE, because the chat template is more than fixed text around "
            f"messages ({template.reason}); Ollama then looks for a template of its own"
        )
    require(task.source, checks, outcome)
    if "strftime_now" in str(tokenizer.chat_template):
        outcome.notes.append("the chat template writes the current date; the Modelfile has the export's date")
    if written.text.system:
        outcome.notes.append("SYSTEM is the system message that all rows of the data share")
    outcome.use.append("ollama create NAME -f Modelfile, in the folder of the export")
