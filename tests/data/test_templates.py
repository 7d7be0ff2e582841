"""Label masks against hand-worked cases, transformers' own mask and trl's collection of templates."""

from __future__ import annotations

import re
from importlib import resources
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.conftest import CHATML, SPECIALS, byte_tokenizer
from tui_lab.core.errors import LabError
from tui_lab.data import masks, templates
from tui_lab.data.formats import Example
from tui_lab.data.templates import IGNORED

TURNS = (
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi?"},
    {"role": "assistant", "content": "Answer one."},
    {"role": "user", "content": "More?"},
    {"role": "assistant", "content": "Answer two."},
)


def encode(tokenizer: Any, example: Example, max_length: int) -> templates.Encoded:
    return templates.cut(templates.encode(tokenizer, example), max_length)


def chat(*turns: str, system: str = "") -> Example:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return Example(messages=tuple([{"role": "system", "content": system}] * bool(system) + messages))


def trained_texts(tokenizer: Any, encoded: templates.Encoded) -> list[str]:
    """The trained stretches, decoded: independent of `pieces`."""
    runs: list[list[int]] = []
    open_run = False
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        assert label in (IGNORED, token)
        if label != IGNORED:
            if not open_run:
                runs.append([])
            runs[-1].append(token)
        open_run = label != IGNORED
    return [tokenizer.decode(run) for run in runs]


def test_hand_worked_mask_of_a_chat(chatml: Any) -> None:
    encoded = encode(chatml, chat("Hi?", "Paris."), 100)
    tokens = chatml.convert_ids_to_tokens(encoded.input_ids)
    paris = chatml.convert_ids_to_tokens(chatml("Paris.")["input_ids"])
    head = ["<|im_start|>", *chatml.tokenize("user"), "Ċ", *chatml.tokenize("Hi?"), "<|im_end|>", "Ċ"]
    head += ["<|im_start|>", *chatml.tokenize("assistant"), "Ċ"]
    assert tokens == [*head, *paris, "<|im_end|>", "Ċ"]
    expected = (
        [False] * len(head) + [True] * len(paris) + [True, False]
    )  # the end of turn is learnt, its newline not
    assert [label != IGNORED for label in encoded.labels] == expected
    assert encoded.trained == len(paris) + 1


def test_hand_worked_mask_on_a_real_tokenizer(shared: Any) -> None:
    tokenizer = templates.load_tokenizer(shared / "tokenizers" / "qwen2")
    encoded = encode(tokenizer, chat("2+2?", "4"), 100)
    # The template brings a system turn of its own; the ids are the published ones of Qwen2's vocabulary.
    start, end, newline = 151644, 151645, 198
    system = [start, 8948, newline, 2610, 525, 264, 10950, 17847, 13, end, newline]
    question = [start, 872, newline, 17, 10, 17, 30, end, newline]
    assert encoded.input_ids == [*system, *question, start, 77091, newline, 19, end, newline]
    assert encoded.labels == [IGNORED] * (len(system) + len(question) + 3) + [19, end, IGNORED]


def test_mask_agrees_with_transformers_on_a_marked_template(base: Any) -> None:
    templates.set_template(base)
    example = Example(messages=TURNS)
    encoded = encode(base, example, 500)
    own = base.apply_chat_template(
        list(TURNS), return_assistant_tokens_mask=True, return_dict=True, add_generation_prompt=False
    )
    assert own["input_ids"] == encoded.input_ids
    assert [bool(m) for m in own["assistant_masks"]] == [label != IGNORED for label in encoded.labels]
    assert templates.renderer_of(base).methods == {masks.MARKS: 1}
    assert trained_texts(base, encoded) == ["Answer one.<|endoftext|>", "Answer two.<|endoftext|>"]


UNUSUAL = {"llava_next", "idefics3", "smolvlm"}  # vision templates that take no plain text
ONLY_LAST = {"qwen3_5_nothink", "qwen3_5_think", "qwen3_6"}  # rewrite earlier turns


def trl_templates() -> list[str]:
    folder = resources.files("trl") / "chat_templates"
    names = [entry.name.removesuffix(".jinja") for entry in folder.iterdir() if entry.name.endswith(".jinja")]
    return sorted(name for name in names if not name.endswith("_training"))


@pytest.mark.parametrize("name", trl_templates())
def test_every_template_that_trl_knows(name: str) -> None:
    """No header is trained and every answer ends with the token that the template ends it with."""
    source = (resources.files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    tokenizer = byte_tokenizer(source, bos_token="<s>")
    extra = sorted(set(re.findall(r"<[|｜][\w▁]+[|｜]>|<\w+\|>|<\|\w+>|<\w+_of_\w+>", source)))
    tokenizer.add_special_tokens({"additional_special_tokens": [*tokenizer.all_special_tokens, *extra]})
    if name in UNUSUAL:
        with pytest.raises(LabError, match="template"):
            templates.set_template(tokenizer)
        return
    templates.set_template(tokenizer)
    found = trained_texts(tokenizer, encode(tokenizer, Example(messages=TURNS), 4000))
    answers = ["Answer two."] if name in ONLY_LAST else ["Answer one.", "Answer two."]
    assert len(found) == len(answers)
    for text, answer in zip(found, answers, strict=True):
        assert answer in text
        assert "Hi?" not in text and "More?" not in text and "Be kind" not in text
        assert "user" not in text.replace("to=user", "").lower() and "<|im_start|>" not in text
    tail = found[-1].partition("Answer two.")[2]
    end = templates.renderer_of(tokenizer).end_of_turn
    assert tail == (end or tokenizer.eos_token)
    assert tokenizer.convert_tokens_to_ids(tail) in templates.stop_ids(tokenizer)


TEMPLATES = {
    "system refused": (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not "
        "supported') }}{% endif %}"
        "{% for m in messages %}{{ '<start_of_turn>' + m['role'] + '\n' + m['content'] | "
        "trim + '<end_of_turn>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>assistant\n' }}{% endif %}",
        ["Answer one.<end_of_turn>", "Answer two.<end_of_turn>"],
    ),
    "system dropped": (
        "{% for m in messages if m['role'] != 'system' %}{{ '<|' + m['role'] + '|>\n' + "
        "m['content'] + '<|end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        ["Answer one.<|end|>", "Answer two.<|end|>"],
    ),
    "zephyr": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
        ["\nAnswer one.<|endoftext|>", "\nAnswer two.<|endoftext|>"],
    ),
    "inst": (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + "
        "eos_token }}{% else %}"
        "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}",
        [" Answer one.<|endoftext|>", " Answer two.<|endoftext|>"],
    ),
    "marks without the end token": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
        "{% generation %}{{ m['content'] }}{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}"
        "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
        "'<|im_start|>assistant\n' }}{% endif %}",
        ["Answer one.<|im_end|>", "Answer two.<|im_end|>"],
    ),
    "marks around the header": (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ "
        "'<|assistant|>\n' + m['content'] "
        "+ '<|end|>\n' }}{% endgeneration %}{% else %}{{ '<|user|>\n' + m['content'] + "
        "'<|end|>\n' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        ["Answer one.<|end|>", "Answer two.<|end|>"],
    ),
    "no end of turn": (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}",
        [" Answer one.", " Answer two.<|endoftext|>"],
    ),
    "prefixes differ": (  # counts its turns, so no prefix of the chat is rendered as a prefix of the text
        "{{ messages | length }} turns\n{% for m in messages %}{{ '<|' + m['role'] + '|>' "
        "+ m['content'] + '<|end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
        ["Answer one.<|end|>", "Answer two.<|end|>"],
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_of_many_kinds(name: str) -> None:
    source, expected = TEMPLATES[name]
    tokenizer = byte_tokenizer(source)
    assert templates.set_template(tokenizer) == templates.OWN
    encoded = encode(tokenizer, Example(messages=TURNS), 500)
    assert trained_texts(tokenizer, encoded) == expected
    text = tokenizer.decode(encoded.input_ids)
    assert "Be kind." in text, "the system turn must not be lost"
    renderer = templates.renderer_of(tokenizer)
    assert renderer.folded == (1 if name.startswith("system") else 0)
    assert (masks.SEARCH in renderer.methods) == (name == "prefixes differ")


@pytest.mark.parametrize("name", [n for n in TEMPLATES if n != "prefixes differ"])
def test_generation_prompt_is_what_training_saw(name: str) -> None:
    """What generation is prompted with is, token for token, what stood before the last answer in training."""
    tokenizer = byte_tokenizer(TEMPLATES[name][0])
    templates.set_template(tokenizer)
    encoded = encode(tokenizer, Example(messages=TURNS), 500)
    prompt = templates.prompt_ids(tokenizer, list(TURNS[:-1]))
    last = (
        len(encoded.labels) - 1 - encoded.labels[::-1].index(IGNORED)
        if encoded.labels[-1] != IGNORED
        else None
    )
    if last is None:
        trained = [i for i, label in enumerate(encoded.labels) if label != IGNORED]
        last = max(i for i in range(trained[-1]) if encoded.labels[i] == IGNORED)
    assert prompt == encoded.input_ids[: last + 1]


def test_default_template_with_a_start_token() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer(bos_token="<s>", eos_token="</s>")
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    assert templates.set_template(tokenizer) == templates.DEFAULT
    assert templates.set_template(tokenizer) == templates.DEFAULT, "it stays the default one when asked again"
    encoded = encode(tokenizer, chat("Hi?", "Paris."), 100)
    assert encoded.input_ids.count(tokenizer.bos_token_id) == 1
    assert encoded.input_ids[0] == tokenizer.bos_token_id
    assert trained_texts(tokenizer, encoded) == ["Paris.</s>"]
    assert encoded.labels[-1] == tokenizer.eos_token_id
    raw = encode(tokenizer, Example(text="A story."), 100)
    assert raw.input_ids[0] == tokenizer.bos_token_id and raw.input_ids[-1] == tokenizer.eos_token_id
    assert trained_texts(tokenizer, raw) == ["A story.</s>"]


def test_default_template_survives_saving(base: Any, tmp_path: Any) -> None:
    templates.set_template(base)
    base.save_pretrained(tmp_path)
    again = templates.load_tokenizer(tmp_path)
    assert again.chat_template == base.chat_template
    example = Example(messages=TURNS)
    assert encode(again, example, 500) == encode(base, example, 500)


def test_a_template_file_is_used_and_named(base: Any, tmp_path: Any) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text(CHATML)
    assert templates.set_template(base, str(path)) == "the file mine.jinja"
    assert trained_texts(base, encode(base, chat("Q", "A"), 99)) == ["A<|im_end|>"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for m in messages %}", "not valid Jinja"),
        ("nothing", "drops the turns"),
        ("{{ 1/0 }}", "cannot render"),
    ],
)
def test_a_bad_template_is_refused_with_its_cause(
    base: Any, tmp_path: Any, source: str, message: str
) -> None:
    path = tmp_path / "bad.jinja"
    path.write_text(source)
    with pytest.raises(LabError, match=message):
        templates.set_template(base, str(path))


def test_named_variants_use_the_default_one(base: Any) -> None:
    base.chat_template = {"default": CHATML, "tool_use": "x"}
    assert templates.set_template(base) == templates.OWN
    assert base.chat_template == CHATML


def test_missing_template_or_tokenizer(base: Any, tmp_path: Any) -> None:
    with pytest.raises(LabError, match=r"nowhere\.jinja could not be read"):
        templates.set_template(base, str(tmp_path / "nowhere.jinja"))
    with pytest.raises(LabError, match="has no tokenizer"):
        templates.load_tokenizer(tmp_path)
    endless = byte_tokenizer(None)
    endless.eos_token = None
    with pytest.raises(LabError, match="end token"):
        templates.set_template(endless)


def test_consecutive_turns_of_one_role_are_joined() -> None:
    strict = (
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{{ '<|' + m['role'] + "
        "'|>' + m['content'] + '<|end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    tokenizer = byte_tokenizer(strict)
    two = (
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
    )
    encoded = encode(tokenizer, Example(messages=two), 99)
    assert tokenizer.decode(encoded.input_ids) == "<|user|>a\n\nb<|end|><|assistant|>c<|end|>"
    greeting = ({"role": "assistant", "content": "c"}, {"role": "user", "content": "a"})
    with pytest.raises(masks.Unrenderable, match="roles must alternate"):
        encode(tokenizer, Example(messages=greeting), 99)


def test_weight_zero_keeps_a_turn_out(chatml: Any) -> None:
    turns = [dict(turn) for turn in TURNS]
    turns[2]["weight"] = 0
    encoded = encode(chatml, Example(messages=tuple(turns)), 500)
    assert trained_texts(chatml, encoded) == ["Answer two.<|im_end|>"]


def test_prompt_and_completion(base: Any) -> None:
    encoded = encode(base, Example(prompt="The answer is", completion=" Paris."), 100)
    assert base.decode(encoded.input_ids) == "The answer is Paris.<|endoftext|>"
    assert trained_texts(base, encoded) == [" Paris.<|endoftext|>"]
    assert templates.prompt_ids(base, "The answer is") == encoded.input_ids[: encoded.labels.count(IGNORED)]


def test_a_cut_chat_keeps_what_fits(chatml: Any) -> None:
    encoded = encode(chatml, chat("Hi?", "Paris is the answer."), 500)
    first = encoded.labels.index(next(label for label in encoded.labels if label != IGNORED))
    short = encode(chatml, chat("Hi?", "Paris is the answer."), first + 2)
    assert short.truncated and short.trained == 2 and short.input_ids == encoded.input_ids[: first + 2]
    assert encode(chatml, chat("Hi?", "Paris is the answer."), first).trained == 0


@given(length=st.integers(0, 60), size=st.integers(2, 20))
def test_windows_train_every_token_once(length: int, size: int) -> None:
    ids = list(range(100, 100 + length))
    parts = templates.windows(templates.Encoded(ids, list(ids)), size)
    learnt = [label for part in parts for label in part.labels[1:] if label != IGNORED]
    assert learnt == ids[1:]
    assert all(len(part.input_ids) <= size for part in parts)
    assert all(len(part.input_ids) >= 2 for part in parts) or length < 2


WILD = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=WILD, answer=WILD.filter(str.strip), system=WILD, kind=st.sampled_from(["chatml", "base"]))
def test_any_row_trains_the_answer_and_its_end(
    question: str, answer: str, system: str, kind: str, chatml: Any, base: Any
) -> None:
    if any(special in text for special in SPECIALS for text in (question, answer, system)):
        return
    tokenizer = {"chatml": chatml, "base": base}[kind]
    if kind == "base":
        templates.set_template(tokenizer)
    encoded = encode(tokenizer, chat(question, answer, system=system), 10_000)
    end = tokenizer.eos_token
    [text] = trained_texts(tokenizer, encoded)
    shown = answer.strip() if kind == "base" else answer
    assert text.endswith(end) and encoded.input_ids.count(tokenizer.eos_token_id) >= 1
    # Blanks at the start may have melted into the header's newline; that token is not trained.
    assert shown.endswith(text.removesuffix(end)) and shown.lstrip() in text
    assert "".join(piece for piece, _ in templates.pieces(tokenizer, encoded)) == tokenizer.decode(
        encoded.input_ids
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("a é日😀👨\u200d\ufffd\n"), min_size=1, max_size=30))
def test_pieces_never_break_a_character(text: str, base: Any) -> None:
    encoded = encode(base, Example(text=text), 10_000)
    found = templates.pieces(base, encoded)
    assert "".join(piece for piece, _ in found) == text + "<|endoftext|>"
    assert sum("\ufffd" in piece for piece, _ in found) <= text.count("\ufffd")


def test_pieces_of_real_tokenizers(shared: Any) -> None:
    for folder in ("tokenizers/qwen2", "tokenizers/gpt2", "models/stories260K"):
        tokenizer = templates.load_tokenizer(shared / folder)
        encoded = encode(
            tokenizer, chat("Was? 日本", "Größe 👨‍👩‍👧 über  alles\n\n Ende", system="Sei nett"), 500
        )
        found = templates.pieces(tokenizer, encoded)
        assert "".join(piece for piece, _ in found) == tokenizer.decode(encoded.input_ids)
        learnt = "".join(piece for piece, trained in found if trained)
        assert learnt.strip() == "Größe 👨‍👩‍👧 über  alles\n\n Ende" + tokenizer.eos_token


def test_end_tokens_that_are_no_numbers_are_ignored() -> None:
    model = SimpleNamespace(
        generation_config=SimpleNamespace(eos_token_id=float("inf")), config=SimpleNamespace(eos_token_id=2)
    )
    tokenizer = SimpleNamespace(eos_token_id=7, chat_template=None)
    assert templates.stop_ids(tokenizer, model, chat=False) == [7]  # type: ignore[arg-type]
    model.generation_config.eos_token_id = [5, "x", 3]
    assert templates.stop_ids(tokenizer, model, chat=False) == [3, 5]  # type: ignore[arg-type]
