"""Progress of saving and loading a model, counted by transformers."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.training import architectures
from tui_lab.models.load_progress import report_load_progress


def test_files_are_counted_while_saving_and_weights_while_loading(tmp_path: Path) -> None:
    said: list[str] = []
    model = architectures.make("llama")
    clock = iter(range(10_000))  # a second between two counts, so that each is reported
    with report_load_progress(said.append, "it", clock=lambda: float(next(clock))):
        model.save_pretrained(tmp_path, max_shard_size="20KB")
        files = len(list(tmp_path.glob("*.safetensors")))
        assert files > 1
        assert said == [f"saving it: {number} of {files} files" for number in range(files + 1)]
        said.clear()
        AutoModelForCausalLM.from_pretrained(tmp_path)
    tensors = sum(len(load_file(file)) for file in tmp_path.glob("*.safetensors"))
    assert said[0] == f"loading it: 0 of {tensors} weights"
    assert said[-1] == f"loading it: {tensors} of {tensors} weights" and len(said) == tensors + 1
