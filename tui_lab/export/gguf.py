"""GGUF exports: one file by llama.cpp's own converter and quantiser, read back, tried in llama.cpp, and
compared with the run on logits, greedy answers, held-out rows and suites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tui_lab.core.out_of_memory import free_memory
from tui_lab.core.sanitize import sanitize
from tui_lab.data import row_tokens
from tui_lab.export import check, compare, llama_cpp, modelfile, shipped
from tui_lab.export.check import Tokenizer
from tui_lab.export.kinds import (
    ExportOutcome,
    ExportTask,
    WrittenModel,
    require,
    scratch,
    write_modelfile,
    write_whole_model,
)
from tui_lab.export.records import ExportCheck, GgufInfo
from tui_lab.export.source import ANSWER_TOKENS, CONVERSATIONS, TEXTS

if TYPE_CHECKING:
    from tui_lab.export.gguf_model import GgufModel

#: The largest difference of weights read back from GGUF: the converter adds 1 to some norms in float32, and
#: readers subtract it again.
GGUF_TOLERANCE = 1e-6


def export_gguf(task: ExportTask) -> ExportOutcome:
    """One GGUF file with a Modelfile, compared with the run in llama.cpp. Raises LabError."""
    request = task.request
    gguf_type = request.gguf_type or llama_cpp.OUTTYPE[request.dtype]
    if gguf_type in llama_cpp.QUANTIZED_TYPES or request.suites:
        llama_cpp.require_runtime()  # fails before anything is loaded
    converter = llama_cpp.find_converter(task.on_progress)
    if request.gguf_type:  # rounded once, from the exact weights
        task = replace(task, request=msgspec.structs.replace(request, dtype="float32"))
    with scratch(task.target) as work:
        merged = work / "merged"
        merged.mkdir()
        written = write_whole_model(task, merged, work)
        file = task.target / f"model-{gguf_type}.gguf"
        _write_gguf(task, converter, merged, file, gguf_type)
        _check_gguf(task, written.outcome, converter, file, merged)
        write_modelfile(task, written, f"./{file.name}")
        if llama_cpp.installed_version():
            _try_in_llama_cpp(task, written, file, merged, gguf_type)
        else:
            written.outcome.notes.append(
                f"the file was not tried in llama.cpp, because {llama_cpp.PACKAGE} is missing"
            )
    written.outcome.use.append(f"llama-cli -m {file.name} -cnv")
    return written.outcome


def _write_gguf(task: ExportTask, converter: Path, merged: Path, file: Path, gguf_type: str) -> None:
    """Converts, and quantises where the type is a quantised one. Raises LabError."""
    task.on_progress("converting to GGUF")
    if gguf_type not in llama_cpp.QUANTIZED_TYPES:
        llama_cpp.convert(converter, merged, file, gguf_type)
        return
    unrounded = merged.with_name("model-f16.gguf")
    llama_cpp.convert(converter, merged, unrounded, "f16")
    task.on_progress(f"quantising to {gguf_type}")
    llama_cpp.quantize(unrounded, file, gguf_type)
    unrounded.unlink()


def metadata_checks(info: GgufInfo, architecture: str, tokenizer: Tokenizer) -> list[ExportCheck]:
    """Whether llama.cpp would prompt the file as the run was: its template and end token; and its name for
    the architecture, where the table has one."""
    same = info.chat_template == tokenizer.chat_template
    is_end = info.eos in row_tokens.stop_ids(tokenizer)
    template = "the run's, byte for byte" if same else "not the run's"
    end = "one that ends a turn of the run"
    checks = [
        ExportCheck("gguf_template", same, f"the chat template in the GGUF file is {template}"),
        ExportCheck("gguf_end", is_end, f"its end token is {end if is_end else f'not {end}'}"),
    ]
    if known := modelfile.architectures().get(architecture):
        text = f"its architecture is {sanitize(info.architecture or 'not named')}"
        same = info.architecture == known.gguf
        checks.append(
            ExportCheck("gguf_architecture", same, text if same else f"{text}, and should be {known.gguf}")
        )
    return checks


def _check_gguf(task: ExportTask, outcome: ExportOutcome, converter: Path, file: Path, merged: Path) -> None:
    """Reads the GGUF file back and checks its metadata and weights. Raises LabError."""
    task.on_progress("reading the GGUF file back")
    info = outcome.figures.gguf = llama_cpp.read_back(converter, file, merged)
    if info.problem:
        outcome.notes.append(f"the GGUF file was not read back: {sanitize(info.problem)[:200]}")
        return
    checks = metadata_checks(info, outcome.figures.architecture, task.tokenizer)
    if task.request.gguf_type:
        require(task.source, checks, outcome)
        return  # its weights are rounded; llama.cpp's logits are compared
    if info.weights is None:
        outcome.notes.append(
            "transformers does not read this architecture from GGUF, so its weights were not compared"
        )
    elif info.weights <= GGUF_TOLERANCE:
        exact = ", bit for bit" if info.weights == 0 else f" (largest difference {info.weights:.1g})"
        text = f"all {info.tensors} tensors read back from GGUF equal the merged model's{exact}"
        checks.append(ExportCheck("gguf_weights", True, text))
    else:
        text = f"tensors read back from GGUF differ from the merged model by up to {info.weights:.2g}"
        checks.append(ExportCheck("gguf_weights", False, text))
    require(task.source, checks, outcome)


def _try_in_llama_cpp(
    task: ExportTask, written: WrittenModel, file: Path, merged: Path, gguf_type: str
) -> None:
    """Loads the file in llama.cpp and compares tokens, logits, answers and suites. Raises LabError."""
    from transformers import AutoConfig, GenerationConfig

    from tui_lab.decoding.context import context_length
    from tui_lab.export.gguf_model import GgufModel

    task.on_progress("trying the file in llama.cpp")
    config = AutoConfig.from_pretrained(merged)
    model = GgufModel(file, config, GenerationConfig.from_pretrained(merged), context_length(config) or 2048)
    try:
        require(task.source, _prompt_checks(task, written, model), written.outcome)
        require(task.source, _output_checks(written, model, gguf_type), written.outcome)
        if task.request.suites:
            free_memory()
            written.outcome.figures.shipped = shipped.measure(task, model, merged)
    finally:
        model.close()


def _prompt_checks(task: ExportTask, written: WrittenModel, model: GgufModel) -> Sequence[ExportCheck]:
    """Whether llama.cpp reads prompts as the tokens that the run was trained on. Its server removes the
    beginning token that a template writes where it adds one itself; Ollama does not."""
    tokenizer = task.tokenizer
    bos = str(tokenizer.bos_token or "")
    info = written.outcome.figures.gguf
    adds_bos = bool(info and info.adds_bos)
    rendered = [
        text
        for text in check.render(tokenizer, CONVERSATIONS, compare.template_settings(tokenizer))
        if text is not None
    ]
    wrong = 0
    for text in rendered:
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        wrong += model.tokenize(text.removeprefix(bos) if adds_bos and bos else text) != list(expected)
    plain = [tokenizer(text)["input_ids"] for text in TEXTS]
    wrong_texts = sum(model.tokenize(text) != list(ids) for text, ids in zip(TEXTS, plain, strict=True))
    doubled = begins_twice((task.target / "Modelfile").read_text(encoding="utf-8"), bos, adds_bos)
    return [
        ExportCheck(
            "gguf_beginning",
            not doubled,
            "prompts begin with the beginning token once"
            if not doubled
            else f"Ollama would begin prompts with {sanitize(bos)} twice: the file adds it, and so does the "
            "TEMPLATE of the Modelfile",
        ),
        ExportCheck(
            "gguf_tokens",
            not wrong and not wrong_texts,
            f"llama.cpp splits {len(rendered)} conversations and {len(TEXTS)} texts as the run's tokenizer"
            if not wrong and not wrong_texts
            else f"llama.cpp splits {wrong} of {len(rendered)} conversations and {wrong_texts} of "
            f"{len(TEXTS)} texts into other tokens than the run was trained on",
        ),
    ]


def begins_twice(modelfile_text: str, bos: str, adds_bos: bool) -> bool:
    """Whether Ollama would begin a prompt with the beginning token twice: it adds the token that the file
    asks for, and the TEMPLATE writes it as well."""
    return adds_bos and bool(bos) and bos in modelfile.template_of(modelfile_text)


def _output_checks(written: WrittenModel, model: GgufModel, gguf_type: str) -> Sequence[ExportCheck]:
    """Logits on the rows of the other checks, and greedy answers."""
    import torch
    from safetensors import safe_open

    found = check.Differences()
    with safe_open(written.reference.path, framework="pt") as stored:
        for at, ids in enumerate(written.text.rows):
            own = stored.get_tensor(f"exact.{at}")
            found.add(own, torch.from_numpy(model.last_logits(ids, len(own))))
    distance = compare.divergence(found.result())
    rounded = gguf_type in llama_cpp.QUANTIZED_TYPES
    relative, kl = (float("inf"), float("inf")) if rounded else compare.TOLERANCE["bfloat16"]
    answers = [model.greedy(ids, ANSWER_TOKENS, written.stop_ids) for ids in written.text.prompts]
    same = sum(one == list(other) for one, other in zip(answers, written.reference.answers, strict=True))
    ended = sum(bool(tokens) and tokens[-1] in written.stop_ids for tokens in answers)
    return [
        ExportCheck(
            "gguf_logits",
            distance.relative <= relative and distance.mean_kl <= kl,
            distance.sentence(f"{gguf_type} in llama.cpp against the run's own weights"),
            **msgspec.structs.asdict(distance),
        ),
        ExportCheck(
            "gguf_greedy",
            True,
            f"greedy answers in llama.cpp: {same} of {len(answers)} equal the run's, token for token; "
            f"{ended} ended with a stop token",
            same=same,
            of=len(answers),
            ended=ended,
        ),
    ]
