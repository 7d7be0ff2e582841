"""Exports what a run saved, as a job: an adapter, a whole model, a Modelfile with one, GGUF, or a script that
trains the same. Speaks the job protocol on stdin and stdout. Everything is made in a folder beside its place,
loaded again in a process that has only transformers and peft, compared with the run, and only then put there;
``export.json`` in it says what was checked, with every figure."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tui_lab import __version__
from tui_lab.core import files, job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.export import check as export_check
from tui_lab.export import compare, modelfile, script, staging
from tui_lab.export import gguf as export_gguf
from tui_lab.export import request as exports
from tui_lab.export import source as export_source
from tui_lab.export import weights as export_weights
from tui_lab.export.request import RESULT, Request, request_of
from tui_lab.export.source import CONVERSATIONS, TEXTS, WEIGHTS, Questions, Source
from tui_lab.runs import folder

VERSION = 1
VERSIONED = ("torch", "transformers", "peft", "safetensors")
#: Weights that come back from GGUF: the converter adds 1 to some norms, and readers take it off again.
GGUF_APART = 1e-6
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def handle(fields: dict[str, Any], progress: job_protocol.Progress) -> dict[str, Any]:
    """Answers one request. Raises LabError."""
    request = request_of(fields)
    run = folder.open_run(request.run, Path(request.runs_dir) if request.runs_dir else None)
    source = Source.of(run)
    target = _target(run, request)
    try:
        with staging.partial(target, request.force) as partial:
            with _at_strength(source, request.strength, partial) as strong:
                result = Export(request, strong, partial, progress).run()
            staging.publish(partial, target)
    except Exception as error:
        if sentence := staging.disk_words(error, target):
            raise LabError(sentence) from None
        raise
    return {**result, "path": str(target)}


# --- where it goes ------------------------------------------------------------------------------------


def _target(run: folder.Run, request: Request) -> Path:
    if request.out:
        return Path(os.path.abspath(Path(request.out).expanduser()))  # noqa: PTH100 (links stay as they are)
    return run.path / exports.FOLDER / exports.folder_name(request)


@contextlib.contextmanager
def _at_strength(source: Source, strength: float, partial: Path) -> Iterator[Source]:
    """The source with what it changed at a strength: a copy, for as long as it is needed."""
    if strength == 1:
        yield source
        return
    from tui_lab.evaluation import strength_sweep as sweep

    subject = sweep.SweepTarget.of(source.run)  # refuses what has no strength
    with tempfile.TemporaryDirectory(dir=partial, prefix=".strength-") as place:
        sweep.write(subject, strength, Path(place))
        yield replace(source, path=Path(place))


# --- the whole ----------------------------------------------------------------------------------------


class Export:
    """One export into an empty folder."""

    def __init__(
        self, request: Request, source: Source, target: Path, progress: job_protocol.Progress
    ) -> None:
        self.request, self.source, self.target, self.say = request, source, target, progress
        self.checks: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.use: list[str] = []
        self.figures: dict[str, Any] = {}
        self.commit = ""
        self.tokenizer: Any = None

    def run(self) -> dict[str, Any]:
        """Writes and checks; what ``export.json`` holds. Raises LabError."""
        from tui_lab.models.inference import quiet_libraries

        kind = self.request.kind
        if kind not in ("adapter", "script"):
            export_weights.refuse_unmergeable(self.source, kind)
        with quiet_libraries():
            self.say("reading the run")
            self.tokenizer = self.source.tokenizer()
            getattr(self, f"_{kind}")()
        return self._result()

    def _base_words(self, user: str) -> None:
        """Copies a base that no hub has along, or says where it is looked for."""
        source = self.source
        if not source.base_is_folder:
            if self.request.with_base:
                self.notes.append(f"the base {source.base_name} is on the hub, so it is not copied")
        elif self.request.with_base:
            self.say("copying the base")
            export_weights.copy_base(source, self.target)
            self.notes.append(f"the base model lies in the folder base beside the {user}")
        else:
            self.notes.append(
                f"the base {source.base_name} is on no hub: copy it into the folder base beside the {user} "
                "where it is used (--with-base does it here)"
            )

    def checked(self, name: str, passed: bool, text: str, **figures: Any) -> None:
        """Notes a check. Raises LabError where it failed: nothing is exported that is not the run."""
        if not passed:
            raise LabError(f"run {self.source.run.id} is not exported: {text}")
        self.checks.append({"name": name, "passed": True, "text": text, **figures})

    # ------------------------------------------------------------------ kinds

    def _adapter(self) -> None:
        source = self.source
        asked = export_source.questions(source, self.tokenizer)
        if source.whole:
            export_weights.write_adapter(source, self.target, "")  # which says what to do instead
        with self._work() as work:
            model = self._references(asked, work)
            export_weights.write_adapter(source, self.target, self.commit)
            self._settings(model)
            del model
            export_source.release()
            self._base_words("adapter")
            same = export_weights.tensors_equal(source.path / WEIGHTS, self.target / WEIGHTS)
            self.checked("tensors", same, "every tensor is the run's, bit for bit")
            own_base = self.target / export_weights.BASE_BESIDE
            base = str(own_base) if own_base.is_dir() else source.base
            self._compare(asked, work, base=base)
        self._write_card("PeftModel")
        self.use.append(
            "PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), FOLDER); see its README.md"
        )

    def _merged(self) -> None:
        self._whole_model(self.target)
        self._write_card("AutoModelForCausalLM")
        self.use.append("AutoModelForCausalLM.from_pretrained(FOLDER); see its README.md")

    def _modelfile(self) -> None:
        asked = self._whole_model(self.target)
        self._write_modelfile(asked, ".")
        if (found := self.figures["architecture"]) not in modelfile.IMPORTED:
            self.notes.append(
                f"`ollama create` is not known to import {sanitize(found)} from safetensors: export --as gguf"
            )
        self._write_card("AutoModelForCausalLM")

    def _gguf(self) -> None:
        converter = export_gguf.find_converter()  # says how to get it before anything is loaded
        with self._work() as work:
            place = work / "merged"
            place.mkdir()
            asked = self._whole_model(place)
            file = self.target / f"model-{export_gguf.OUTTYPE[self.request.dtype]}.gguf"
            self.say("converting to GGUF")
            export_gguf.convert(converter, place, file, self.request.dtype)
            self._check_gguf(converter, file, place)
        self._write_modelfile(asked, f"./{file.name}")
        self.use.append(f"llama-cli -m {file.name} -cnv")

    def _script(self) -> None:
        source = self.source
        self.say("writing the script and the rows")
        place = self.target / script.TOKENIZER
        place.mkdir()
        export_weights.write_tokenizer(self.tokenizer, place)
        self._base_words("script")
        self.say("running the script on its rows")
        as_tokens, found = script.write(source, self.tokenizer, self.target)
        self.checked(
            "rows",
            True,
            f"run on its {found['rows']:,} rows it makes the run's own tokens and labels, to the last one "
            f"({found['trained_tokens']:,} tokens are trained)",
            **found,
            as_tokens=as_tokens,
        )
        if as_tokens:
            self.notes.append(
                "the rows are written as tokens with labels: plain code does not encode them alike"
            )
        if missing := script.left_out(source.recipe):
            self.notes.append(f"it lacks, and so learns otherwise than the run: {'; '.join(missing)}")
        self.use.append("python train.py --out trained, in the folder of the export")

    def _check_gguf(self, converter: Path, file: Path, merged: Path) -> None:
        """Reads the file back: what it says of itself, and its weights against those that were converted."""
        self.say("reading the GGUF file back")
        found = export_gguf.read_back(converter, file, merged)
        self.figures["gguf"] = {name: value for name, value in found.items() if name != "problem"}
        if problem := found.get("problem"):
            self.notes.append(f"the GGUF file was not read back: {sanitize(str(problem))[:200]}")
            return
        template = self.tokenizer.chat_template
        self.checked(
            "gguf_template",
            found["chat_template"] == template,
            "the chat template in the GGUF file is the run's, byte for byte",
        )
        from tui_lab.data import templates

        ends = templates.stop_ids(self.tokenizer)
        self.checked("gguf_end", found["eos"] in ends, "its end token is one that ends a turn of the run")
        if found["weights"] is None:
            self.notes.append(
                "transformers does not read this architecture from GGUF, so its weights were not compared"
            )
            return
        worst = float(found["weights"])
        self.checked(
            "gguf_weights",
            worst <= GGUF_APART,
            f"all {found['tensors']} tensors read back from GGUF are those of the merged model"
            f"{', bit for bit' if worst == 0 else f' (apart by {worst:.1g} at most)'}"
            if worst <= GGUF_APART
            else f"tensors read back from GGUF differ from the merged model by up to {worst:.2g}",
        )

    def _write_modelfile(self, asked: Questions, weights: str) -> None:
        """The Modelfile beside the weights, read back and compared with the run's template."""
        from tui_lab.data.masks import TEMPLATE_SETTINGS

        def make(messages: list[dict[str, str]], prompt: bool) -> str:
            return str(
                self.tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=prompt, **TEMPLATE_SETTINGS
                )
            )

        questions = [chat if chat[-1]["role"] == "user" else chat[:-1] for chat in CONVERSATIONS]
        found = modelfile.translated(
            lambda messages: make(messages, True),
            lambda messages: make(messages, False),
            self.tokenizer.bos_token or "",
            questions,
        )
        stops = [str(self.tokenizer.convert_ids_to_tokens(stop)) for stop in self.ends]
        text = modelfile.modelfile(weights, found.go, stops, self.settings.to_dict(), asked.system)
        path = self.target / "Modelfile"
        path.write_text(text, encoding="utf-8")
        read = path.read_text(encoding="utf-8")
        self.checked(
            "modelfile",
            modelfile.template_of(read) == found.go and modelfile.stops_of(read) == stops,
            f"the Modelfile stops at {' and '.join(sanitize(stop) for stop in stops)}",
        )
        if found.go:
            self.checked(
                "modelfile_template",
                True,
                f"its TEMPLATE, in Go's language, renders {found.compared} conversations as the run's does",
                compared=found.compared,
            )
            self.notes += found.notes
        else:
            self.notes.append(
                f"the Modelfile has no TEMPLATE, since the chat template is more than text around messages "
                f"({found.reason}); Ollama then looks whether it knows the template itself"
            )
        if "strftime_now" in str(self.tokenizer.chat_template):
            self.notes.append(
                "the chat template writes the day's date; the Modelfile's has that of the export"
            )
        if asked.system:
            self.notes.append("SYSTEM is the system message that all rows of the data have in common")
        self.use.append("ollama create NAME -f Modelfile, in the folder of the export")

    def _whole_model(self, place: Path, dtype: str = "") -> Questions:
        """The merged model, checked; what was asked of it."""
        asked = export_source.questions(self.source, self.tokenizer)
        dtype = dtype or self.request.dtype
        with self._work() as work:
            model = self._references(asked, work)
            needed = export_source.parameter_count(model) * BYTES[dtype]
            self._room_for(needed)
            self.say("merging" if not self.source.whole else "saving")
            model = export_weights.merged(model, self.source)
            self._settings(model, place)
            export_weights.write_model(model, place, dtype)
            self._settings(model, place)
            del model
            export_source.release()
            self._compare(asked, work, place=place, dtype=dtype)
        return asked

    def _room_for(self, needed: int) -> None:
        free = shutil.disk_usage(self.target).free
        if free < needed * 1.02:
            from tui_lab.core import format

            raise LabError(
                f"the export needs {format.size(needed)}, and the disk of {sanitize(str(self.target.parent))} "
                f"has {format.size(free)} free: free some space, or name another place with --out"
            )

    # ------------------------------------------------------------------ parts

    @contextlib.contextmanager
    def _work(self) -> Iterator[Path]:
        # in the folder that is made: what a killed export leaves goes with it
        with tempfile.TemporaryDirectory(dir=self.target, prefix=".check-") as place:
            yield Path(place)

    def _references(self, asked: Questions, work: Path) -> Any:
        """The run's own logits and answers, kept in ``work``; the unrounded model, still loaded."""
        from safetensors.torch import save_file

        source = self.source
        way = export_source.own_way(source)
        device, dtype = export_source.room(source.entry.parameters or 0)
        self._device, self._dtype = device, dtype
        kept: dict[str, Any] = {}
        self.own_answers: list[list[int]] | None = None
        ends: list[int] = []
        if source.four_bit or way.dtype != dtype:
            self.say("reading with the run as it was trained")
            own = export_source.load_own(source, way)
            ends = export_weights.stop_ids(self.tokenizer, own)
            vocabulary = own.config.get_text_config().vocab_size
            positions = export_source.positions_kept(vocabulary, 2 * len(asked.rows))
            for at, ids in enumerate(asked.rows):
                kept[f"own.{at}"] = export_check.last_logits(own, ids, positions)
            self.own_answers = self._answers(own, asked, ends)
            self.figures["own"] = way.words
            del own
            export_source.release()
        self.say("reading with the run's unrounded weights")
        exact = export_source.load_exact(source, device, dtype)
        self.commit = str(getattr(exact.config, "_commit_hash", "") or "")
        ends = ends or export_weights.stop_ids(self.tokenizer, exact)
        vocabulary = exact.config.get_text_config().vocab_size
        self._positions = export_source.positions_kept(vocabulary, len(asked.rows) * (2 if kept else 1))
        for at, ids in enumerate(asked.rows):
            kept[f"exact.{at}"] = export_check.last_logits(exact, ids, self._positions)
        self.exact_answers = self._answers(exact, asked, ends)
        self._tied = export_check.tied(exact)
        save_file({name: value.contiguous() for name, value in kept.items()}, work / "reference.safetensors")
        return exact

    def _answers(self, model: Any, asked: Questions, ends: list[int]) -> list[list[int]]:
        pad = self.tokenizer.pad_token_id
        how = {"eos_token_id": ends or None, "pad_token_id": pad if pad is not None else (ends or [0])[0]}
        return [export_check.greedy(model, ids, export_source.ANSWER_TOKENS, **how) for ids in asked.prompts]

    def _settings(self, model: Any, place: Path | None = None) -> None:
        """Tokenizer, template and what ends an answer."""
        place = place or self.target
        export_weights.write_tokenizer(self.tokenizer, place)
        self.settings = model.generation_config = export_weights.generation_config(model, self.tokenizer)
        self.settings.save_pretrained(place)
        ends = self.settings.eos_token_id
        self.ends = [ends] if isinstance(ends, int) else list(ends or [])
        self.figures["architecture"] = (model.config.architectures or [type(model).__name__])[0]

    def _compare(
        self, asked: Questions, work: Path, *, base: str = "", place: Path | None = None, dtype: str = "",
        gguf: str = "",
    ) -> dict[str, Any]:  # fmt: skip
        """Loads the export in a process of its own and judges what it answers."""
        from tui_lab.data.masks import TEMPLATE_SETTINGS

        self.say("loading the export in a process of its own and comparing")
        spec = {
            "folder": str(place or self.target),
            "base": base,
            "revision": self.source.recipe.revision,
            "gguf": gguf,
            "dtype": self._dtype,
            "device": self._device,
            "rows": asked.rows,
            "prompts": asked.prompts,
            "positions": self._positions,
            "max_new_tokens": export_source.ANSWER_TOKENS,
            "reference": str(work / "reference.safetensors"),
            "conversations": CONVERSATIONS,
            "settings": TEMPLATE_SETTINGS,
            "texts": TEXTS,
        }
        found = compare.run_check(spec, work)
        in_float32 = "float32" == self._dtype == (dtype or self._dtype)
        own = self.own_answers if self.own_answers is not None else self.exact_answers
        expected = compare.Expected(
            self.tokenizer,
            len(asked.rows),
            asked.held_out,
            own,
            "float32" if in_float32 else "bfloat16",
            bool(base),
            self._tied,
        )
        for check in compare.checks(found, expected):
            self.checked(check.name, check.passed, check.text, **check.figures)
        if found["gap"] is not None:
            self.figures["gap"] = found["gap"]
            words = (
                "quantisation gap: the run was trained on NF4 weights, and its adapter stands on unquantised "
                "ones now"
                if self.source.four_bit
                else f"the run computed in {self.figures['own'].rpartition(' ')[2]}"
            )
            self.notes.append(exports.gap_words(found["gap"], words))
        self.figures["tied"] = self._tied
        return found

    # ------------------------------------------------------------------ papers

    def _write_card(self, loader: str) -> None:
        from tui_lab.export import card

        card.write(self.target, self.source, self.request, loader, self.commit, self.notes, self.checks)

    def _result(self) -> dict[str, Any]:
        """Writes ``export.json`` last: a folder that has it is whole."""
        request, source = self.request, self.source
        result: dict[str, Any] = job_protocol.plain(
            {
                "v": VERSION,
                "kind_of_export": request.kind,
                "title": self._title(),
                "run": source.run.id,
                "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "dtype": request.dtype if request.kind in ("merged", "modelfile", "gguf") else None,
                "strength": request.strength,
                "base": {
                    "name": source.base_name,
                    "on_hub": not source.base_is_folder,
                    "revision": source.recipe.revision,
                    "commit": self.commit,
                },
                "method": source.recipe.method,
                "checks": self.checks,
                "figures": self.figures,
                "notes": self.notes,
                "use": self.use,
                "versions": {"tui_lab": __version__, **{name: version(name) for name in VERSIONED}},
                "files": staging.files(self.target),
            }
        )
        files.write_atomically(self.target / RESULT, json.dumps(result, indent=2, ensure_ascii=True) + "\n")
        return result

    def _title(self) -> str:
        names = {
            "adapter": "adapter", "merged": f"merged model ({self.request.dtype})", "gguf": "GGUF",
            "modelfile": f"Modelfile and model ({self.request.dtype})", "script": "training script",
        }  # fmt: skip
        strength = f" at strength {self.request.strength:g}" if self.request.strength != 1 else ""
        return f"{names[self.request.kind]} of {self.source.run.id}{strength}"


if __name__ == "__main__":
    sys.exit(job_protocol.serve(handle))
