"""``tui-lab generate``: names of models and adapters, lanes, output for terminals, pipes and programs."""

from __future__ import annotations

import copy
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tui_lab.cli import main, options
from tui_lab.cli.generate import _name, _with_models
from tui_lab.core.errors import LabError
from tui_lab.decoding import strategies
from tui_lab.recipes.recipe import Recipe, build
from tui_lab.runs import folder as runs
from tui_lab.runs import notes
from tui_lab.runs.references import ModelReference

PROMPT = "once upon a time"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose vocabulary is the bytes, so that it writes whatever a hostile model can write."""
    place = tmp_path_factory.mktemp("models") / "bytes"
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({"</s>": 0, **{letter: i + 1 for i, letter in enumerate(letters)}}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>").save_pretrained(place)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, eos_token_id=0, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(8)
    model.save_pretrained(place)
    return place


def save_adapter(base: Path, place: Path) -> Path:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "down_proj"])
    wrapped = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_" in name:
                weight.add_(torch.randn_like(weight))
    wrapped.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """A finished run: recipe and adapter."""
    made = runs.create(build({"model": str(base)}), tmp_path_factory.mktemp("runs"), name="tale")
    save_adapter(base, made.adapter_path)
    return made


def generate(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main.main(["generate", "--prompt", PROMPT, "--json", "--max-new-tokens", "12", *words]) == 0
    answer = dict(json.loads(capsys.readouterr().out))
    assert answer["kind"] == "generation"
    return answer


def reference(
    base: Path, adapter: Path | None = None, weights: Path | None = None, **settings: Any
) -> tuple[list[int], list[int]]:
    """Prompt tokens and what transformers generates."""
    model = AutoModelForCausalLM.from_pretrained(weights or base, dtype=torch.float32).eval()
    if adapter:
        model = peft.PeftModel.from_pretrained(model, adapter).eval()
    ids = PreTrainedTokenizerFast.from_pretrained(base)(PROMPT, return_tensors="pt")["input_ids"]
    out = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, **settings
    )
    return ids[0].tolist(), out[0, ids.shape[1] :].tolist()


def test_json_holds_every_lane(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", str(base), "--raw", "--dtype", "float32", "--lane", "greedy"]
    words += ["--lane", "top-p p=0.9 seed=1", "--lane", "beam n=3", "--lane", "sample"]
    found = generate(capsys, *words)
    greedy, nucleus, beam, free = found["lanes"]
    speed = found["speed"]
    assert speed["steps"] >= 1 and speed["steps_per_s"] > 0 and speed["tok_per_s"] > 0
    assert speed["bandwidth_share"] is None and speed["captured_steps"] == 0 and speed["reason"] == ""
    prompt, wanted = reference(base)
    assert greedy["prompt_token_ids"] == prompt and greedy["token_ids"] == wanted
    assert beam["token_ids"] == reference(base, num_beams=3)[1]
    assert (greedy["strategy"], nucleus["strategy"], beam["strategy"]) == ("greedy", "top-p", "beam")
    assert nucleus["parameters"]["top_p"] == 0.9 and beam["parameters"]["num_beams"] == 3
    assert (greedy["seed"], nucleus["seed"]) == (None, 1) and isinstance(free["seed"], int)
    for lane in found["lanes"]:
        assert len(lane["logprobs"]) == len(lane["token_ids"]) and all(p <= 0 for p in lane["logprobs"])
        assert lane["finish_reason"] in ("length", "stop_token") and lane["tok_per_s"] > 0
        text = PreTrainedTokenizerFast.from_pretrained(base).decode(
            lane["token_ids"], skip_special_tokens=True
        )
        assert lane["text"] == text
    again = generate(capsys, *words)["lanes"]
    assert again[1]["token_ids"] == nucleus["token_ids"]


def test_adapters_by_run_folder_and_path(
    base: Path, run: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    lanes = ["--raw", "--dtype", "float32", "--lane", "greedy", "--lane", "greedy on=base"]
    tuned, plain = reference(base, run.adapter_path)[1], reference(base)[1]
    assert tuned != plain
    where = ["--runs-dir", str(run.path.parent)]
    for words in (
        ["--model", str(base), "--adapter", run.id, *where],
        ["--model", str(base), "--adapter", "tale", *where],
        ["--model", str(base), "--adapter", str(run.path)],
        ["--model", str(base), "--adapter", str(run.adapter_path)],
        ["--adapter", run.id, *where],  # the run knows its base
        ["--model", run.id, *where],
        ["--adapter", str(run.adapter_path)],  # so does the adapter
    ):
        found = generate(capsys, *words, *lanes)["lanes"]
        assert [lane["token_ids"] for lane in found] == [tuned, plain], words


def test_adapters_have_the_names_of_their_runs(tmp_path: Path) -> None:
    made = [runs.create(Recipe(), tmp_path) for _ in range(2)]
    for run in made:
        notes.write(run, name="mine")
    targets = [ModelReference("base", run.adapter_path) for run in made]
    targets += [ModelReference("base", tmp_path / "downloaded"), ModelReference("hub/model")]
    names: list[str] = []
    for target in targets:
        names.append(_name(target, names))
    assert names == ["mine", "mine-2", "tuned", "tuned2"]
    lanes = strategies.parse_all(["greedy", "greedy on=tuned1", "greedy on=tuned2", "greedy on=base"])
    named = _with_models(lanes, ["one", "two"])
    assert [lane.on for lane in named] == ["one", "one", "two", lanes[3].on], "the former names work"


def test_a_run_that_tuned_all_weights(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs.create(build({"model": str(base)}), tmp_path, name="whole")
    model = AutoModelForCausalLM.from_pretrained(base)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.lm_head.weight.copy_(model.lm_head.weight.roll(3, 0))
    other.save_pretrained(run.model_path)
    words = ["--raw", "--dtype", "float32", "--lane", "greedy", "--lane", "greedy on=base"]
    found = generate(capsys, "--model", str(base), "--adapter", str(run.path), *words)["lanes"]
    assert [lane["token_ids"] for lane in found] == [
        reference(base, weights=run.model_path)[1],
        reference(base)[1],
    ]


def test_a_pipe_gets_the_text_alone(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [
        sys.executable,
        "-m",
        "tui_lab.cli.main",
        "generate",
        "--model",
        str(base),
        "--raw",
        "--dtype",
        "float32",
        "--max-new-tokens",
        "12",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, input=PROMPT + "\n", capture_output=True, text=True, env=environment,
        encoding="utf-8",
    )  # fmt: skip
    text = PreTrainedTokenizerFast.from_pretrained(base).decode(reference(base)[1], skip_special_tokens=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == text + "\n"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_never_gets_control_characters(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    words = ["generate", "--model", str(base), "--raw", "--prompt", "x", "--max-new-tokens", "200"]
    for seed in range(3):
        words += ["--lane", f"sample temperature=2 seed={seed}"]
    assert main.main(words) == 0
    text = shown.getvalue()
    # bytes at random hold escapes, carriage returns and bells; all of them show as glyphs
    assert not any((ord(c) < 32 and c != "\n") or ord(c) in range(0x7F, 0xA0) for c in text)
    assert any(glyph in text for glyph in "␛␍␇␈␀") and text.count("──") == 6 and text.count("tok/s") == 3


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--prompt", "  "], "the prompt is empty"),
        (["--prompt", "x", "--lane", "nucleus"], "strategy 'nucleus' is unknown"),
        (["--prompt", "x", "--lane", "top-p p=7", "--lane", "beam n=0"], "num_beams is at least 1"),
        (["--prompt", "x", "--max-new-tokens", "0"], "at least 1"),
        (["--prompt", "x", "--model", "no-such-model"], "no-such-model"),
        (["--prompt", "x", "--adapter", "no-such-run"], "no-such-run"),
        (["--prompt", "x" * 300, "--model", "BASE", "--raw"], "context is 256"),
        (["--prompt", "x", "--model", "BASE", "--raw", "--system", "be brief"], "--raw omits"),
        (["--prompt", "x", "--model", "BASE", "--raw", "--lane", "greedy on=7"], "which is not loaded"),
    ],
)
def test_bad_input_is_one_sentence(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], part: str
) -> None:
    words = [str(base) if word == "BASE" else word for word in words]
    assert main.main(["generate", "--runs-dir", str(tmp_path), *words]) == options.EXIT_USAGE
    shown = capsys.readouterr()
    assert part in shown.err and "Traceback" not in shown.err and len(shown.err.strip().splitlines()) == 1
    assert shown.out == ""


def test_a_run_without_an_adapter_yet(base: Path, tmp_path: Path) -> None:
    from tui_lab.runs.references import adapter_target

    run = runs.create(build({"model": str(base)}), tmp_path)
    (run.checkpoints_path / "checkpoint-4").mkdir(parents=True)
    with pytest.raises(LabError, match=r"saved no adapter.*checkpoint-4"):
        adapter_target(run.id, tmp_path, False)


CHAT = ["generate", "--json", "--dtype", "float32", "--max-new-tokens", "8", "--model", "pocket"]
CHAT += ["--lane", "greedy", "--lane", "sample seed=3"]


def chat(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert main.main([*CHAT, *words]) == 0
    return list(json.loads(capsys.readouterr().out)["lanes"])


def test_a_chat_keeps_the_answers_of_every_lane(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Tell me a story.\n\nAnd then?\n"))
    from_lines = chat(capsys, "--chat", "-")
    questions = tmp_path / "questions.json"
    questions.write_text(json.dumps(["Tell me a story.", "And then?"]))
    from_file = chat(capsys, "--chat", str(questions))
    assert [lane["turns"] for lane in from_lines] == [lane["turns"] for lane in from_file]
    greedy, drawn = from_file
    assert [turn["prompt"] for turn in greedy["turns"]] == ["Tell me a story.", "And then?"]
    assert greedy["turns"][1]["answer"] == greedy["text"]
    assert greedy["turns"][0]["answer"] != drawn["turns"][0]["answer"]
    # the same conversation, written out as messages, has the same prompt and the same answer
    first = greedy["turns"][0]
    messages = [
        {"role": "user", "content": first["prompt"]},
        {"role": "assistant", "content": first["answer"]},
        {"role": "user", "content": "And then?"},
    ]
    questions.write_text(json.dumps(messages))
    written = chat(capsys, "--chat", str(questions))[0]
    assert written["prompt_token_ids"] == greedy["prompt_token_ids"]
    assert written["token_ids"] == greedy["token_ids"]


@pytest.mark.parametrize(
    ("content", "words", "part"),
    [
        ("[]", [], "a JSON list of 1 to 1,000 questions or messages"),
        ("{", [], "cannot be read as JSON"),
        ('[{"role": "tool", "content": "x"}]', [], "each message has a role"),
        ('[{"role": "assistant", "content": "x"}]', [], "the last one is of the user"),
        ('["a"]', ["--prompt", "b"], "--chat and --prompt both"),
        ('["a"]', ["--raw"], "which --raw omits"),
        ('[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, '
         '{"role": "user", "content": "c"}]', ["--model", "BASE"], "template, and this model has none"),
    ],
)  # fmt: skip
def test_a_bad_chat_is_one_sentence(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: list[str], part: str
) -> None:
    (tmp_path / "chat.json").write_text(content)
    words = [str(base) if word == "BASE" else word for word in words]
    assert main.main(["generate", "--chat", str(tmp_path / "chat.json"), *words]) == options.EXIT_USAGE
    err = capsys.readouterr().err.strip().splitlines()
    assert part in err[-1] and not any("Traceback" in line for line in err)
