"""An adapter with added tokens is asked, and its answers are read, by its own tokenizer; its base is not."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from tui_lab.data import row_tokens, templates
from tui_lab.evaluation import prompts
from tui_lab.evaluation.evaluate import ProgressReport, TargetModels
from tui_lab.evaluation.predict import PredictionRequest, predict
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.evaluation.request import resolve_target
from tui_lab.pocket import MODEL_DIR
from tui_lab.runs.references import ModelReference

QUESTION = "What colour is the sky?"
ADDED = "<|ask|>"


@pytest.fixture(scope="module", params=["saved beside it", "trained with it"])
def adapter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter for the bundled model whose chat template writes a token that the base does not have."""
    folder = tmp_path_factory.mktemp("own") / "adapter"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    tokenizer.add_tokens([ADDED], special_tokens=True)
    tokenizer.chat_template = (
        "{% for m in messages %}<|ask|>{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}<|ask|>assistant: {% endif %}"
    )
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    is_trained = request.param == "trained with it"
    config = LoraConfig(
        r=2,
        target_modules="all-linear",
        init_lora_weights=False,
        modules_to_save=["embed_tokens", "lm_head"] if is_trained else None,
        task_type="CAUSAL_LM",
    )
    get_peft_model(model, config).save_pretrained(folder, save_embedding_layers=not is_trained)
    tokenizer.save_pretrained(folder)
    return folder


def asked(tokenizer: Any) -> list[int]:
    return list(row_tokens.prompt_ids(tokenizer, [{"role": "user", "content": QUESTION}]))


def test_every_way_to_ask_it_gives_its_own_tokens(adapter: Path) -> None:
    own, of_base = AutoTokenizer.from_pretrained(adapter), AutoTokenizer.from_pretrained(MODEL_DIR)
    text = f"{ADDED}user: {QUESTION}{own.eos_token}{ADDED}assistant: "
    expected = own(text, add_special_tokens=False)["input_ids"]
    assert len(own) - 1 in expected, "the added token"
    base, tuned = ModelReference(str(MODEL_DIR)), ModelReference(str(MODEL_DIR), adapter)
    pair = prompts.Tokenizers.of(base, tuned)
    assert asked(pair.tuned) == asked(templates.load_for(str(MODEL_DIR), "", adapter)) == expected
    assert asked(pair.base) == of_base(text, add_special_tokens=False)["input_ids"]
    assert max(asked(pair.base)) < len(of_base)
    target = resolve_target(EvaluationRequest(model=str(MODEL_DIR), adapter=str(adapter), dtype="float32"))
    models = TargetModels(target, False, ProgressReport(lambda *_: None))
    assert asked(models.tokenizer(True)) == expected and asked(models.tokenizer(False)) == asked(pair.base)
    keys = {prompts.with_prompts("weights", each) for each in (pair.base, pair.tuned)}
    assert len(keys) == 2, "scores of the two are kept apart"
    without = prompts.Tokenizers.of(base, None)
    assert without.base is without.tuned


def test_predictions_equal_those_of_peft(adapter: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    questions = [QUESTION, "Name a fruit.", "What is two and two?"]
    rows.write_text("".join(json.dumps({"question": q, "answer": "blue"}) + "\n" for q in questions))
    request = EvaluationRequest(model=str(MODEL_DIR), adapter=str(adapter), dtype="float32")
    summary = predict(
        PredictionRequest(str(rows), request, out=str(tmp_path / "out.jsonl"), max_new_tokens=6),
        lambda *_: None,
    )
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    own = templates.load_for(str(MODEL_DIR), "", adapter)
    of_base = templates.load_for_base(str(MODEL_DIR), "", adapter)
    larger = copy.deepcopy(model)
    larger.resize_token_embeddings(len(own), mean_resizing=False)
    tuned = PeftModel.from_pretrained(larger, adapter).eval()
    lines = [json.loads(line) for line in Path(summary.path).read_text().splitlines()]
    found = [line for line in lines if "row" in line]
    for question, line in zip(questions, found, strict=True):
        for weights, tokenizer, side in ((model.eval(), of_base, "base"), (tuned, own, "tuned")):
            chat = [{"role": "user", "content": question}]
            ids = torch.tensor([row_tokens.prompt_ids(tokenizer, chat)])
            stops = row_tokens.stop_ids(tokenizer, weights)
            out = weights.generate(
                input_ids=ids, max_new_tokens=6, do_sample=False, eos_token_id=stops, pad_token_id=0
            )
            assert line[side]["text"] == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
