"""A short run of the bundled model on the default data, read back by plain peft in another process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.records import read_log
from tui_lab.recipes.presets import make_recipe
from tui_lab.runs import folder, launch

#: Nothing of the lab but its data and its scorer: the model comes from transformers and peft alone.
SCORE = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from tui_lab.data import bundled, scoring
from tui_lab.pocket import MODEL_DIR
adapter, rows = sys.argv[1], int(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(adapter)
base = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
model = PeftModel.from_pretrained(base, adapter)
held = bundled.load("pirate").validation[:rows]
answers = []
for row in held:
    ids = tokenizer.apply_chat_template(
        row["messages"][:-1], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = model.generate(**ids, max_new_tokens=48, do_sample=False)
    answers.append(tokenizer.decode(out[0, ids["input_ids"].shape[1]:], skip_special_tokens=True).strip())
print(json.dumps({"score": scoring.score("manner", answers, held), "answers": answers}))
"""


@pytest.mark.slow
def test_the_adapter_scores_the_same_with_plain_peft(tmp_path: Path) -> None:
    recipe = make_recipe(
        "minute", quantization="none", max_steps=40, score_rows=12, eval_steps=20, probe_share=0.0
    )
    run = folder.create(recipe, tmp_path)
    assert launch.start(run).wait(timeout=500) == 0, run.log_tail()
    events = read_log(run.events_path)
    [start, end] = [event for event in events if event["kind"] == "score"]
    losses = [event["loss"] for event in events if event["kind"] == "eval"]
    assert losses[-1] < 0.3 * losses[0]
    assert end["value"] > 2 * start["value"] + 0.1
    assert all(end[name] > start[name] for name in ("token_f1", "rouge_l")) and 0 <= end["exact"] <= 1
    report = (run.path / "report.md").read_text()
    assert f"| manner | {start['value']:.3f} | {end['value']:.3f} |" in report, "a run writes its own report"
    assert (run.path / "report.html").is_file()
    done = subprocess.run(
        [sys.executable, "-c", SCORE, str(run.adapter_path), "12"],
        capture_output=True,
        text=True,
        check=True,
        timeout=500,
    )
    plain = json.loads(done.stdout.splitlines()[-1])
    assert plain["score"] == pytest.approx(end["value"])
    assert [example["answer"] for example in end["examples"]] == plain["answers"][: len(end["examples"])]
