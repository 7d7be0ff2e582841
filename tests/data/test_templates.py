"""Label masks against hand-worked cases, transformers' own mask and trl's collection of templates."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tests.data.conftest import CHATML, byte_tokenizer
from tests.data.rows import chat, encode, trained_texts
from tui_lab.core.errors import LabError
from tui_lab.data import chat_template, chats, masks, row_tokens, templates
from tui_lab.data.formats import Example
from tui_lab.data.prompt_settings import PromptSettings, with_defaults
from tui_lab.data.row_tokens import IGNORED
from tui_lab.data.summary import Places, prompt_warnings
from tui_lab.models import checkpoint

TURNS = (
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi?"},
    {"role": "assistant", "content": "Answer one."},
    {"role": "user", "content": "More?"},
    {"role": "assistant", "content": "Answer two."},
)


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
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Its name."}},
        },
    },
}
CALL = {"type": "function", "id": "abc123def", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
SHAPES: dict[str, tuple[dict[str, Any], ...]] = {
    "plain": ({"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Answer two."}),
    "system": (TURNS[0], {"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Answer two."}),
    "several turns": TURNS,
    "thinking": (
        {"role": "user", "content": "Hi?"},
        {"role": "assistant", "content": "Answer two.", "reasoning_content": "Reason two."},
    ),
    "thinking in the text": (
        {"role": "user", "content": "Hi?"},
        {"role": "assistant", "content": "<think>\nReason two.\n</think>\n\nAnswer two."},
    ),
    "greeting first": ({"role": "assistant", "content": "Answer one."}, *TURNS[3:]),
    "system in the middle": (*TURNS[1:4], {"role": "system", "content": "Be kind."}, TURNS[4]),
    "tools": (
        {"role": "user", "content": "Hi?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "name": "weather", "tool_call_id": "abc123def", "content": "sunny"},
        {"role": "assistant", "content": "Answer two."},
    ),
}


def trl_templates() -> list[str]:
    folder = resources.files("trl") / "chat_templates"
    names = [entry.name.removesuffix(".jinja") for entry in folder.iterdir() if entry.name.endswith(".jinja")]
    return sorted(name for name in names if not name.endswith("_training"))


def trl_tokenizer(name: str) -> Any:
    source = (resources.files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    tokenizer = byte_tokenizer(source, bos_token="<s>")
    extra = sorted(set(re.findall(r"<[|｜][\w▁]+[|｜]>|<\w+\|>|<\|\w+>|<\w+_of_\w+>", source)))
    tokenizer.add_special_tokens({"additional_special_tokens": [*tokenizer.all_special_tokens, *extra]})
    return tokenizer


@pytest.mark.parametrize("name", trl_templates())
def test_every_template_that_trl_knows(name: str) -> None:
    """For each shape of chat: the row begins with the prompt that is asked, nothing of it is lost, no header
    is trained, and every answer ends with the token that ends a turn."""
    tokenizer = trl_tokenizer(name)
    if name in UNUSUAL:
        with pytest.raises(LabError, match="template"):
            templates.set_template(tokenizer)
        return
    templates.set_template(tokenizer)
    closing = templates.renderer_of(tokenizer).closing or tokenizer.eos_token
    for shape, messages in SHAPES.items():
        example = Example(messages=messages, tools=(TOOL,) if shape == "tools" else ())  # type: ignore[arg-type]
        encoded = row_tokens.encode(tokenizer, example)
        asked = row_tokens.prompt_ids(tokenizer, example)
        assert encoded.input_ids[: len(asked)] == asked and encoded.prompt == len(asked), shape
        assert all(label == IGNORED for label in encoded.labels[len(asked) - 1 : len(asked)]), shape
        text, found = tokenizer.decode(encoded.input_ids), trained_texts(tokenizer, encoded)
        for message in messages:
            if message["role"] in ("system", "user"):
                assert message["content"] in text, (shape, message)
        assert "Answer two." in found[-1] and found[-1].partition("Answer two.")[2] == closing, (shape, found)
        assert tokenizer.convert_tokens_to_ids(closing) in row_tokens.stop_ids(tokenizer)
        if shape == "tools":
            assert len(found) == 2 and "weather" in found[0] and "Rome" in found[0], found
        if "Answer one." in str(messages) and name not in ONLY_LAST:
            assert sum("Answer" in part for part in found) == 2, (shape, found)
        if shape.startswith("thinking"):
            assert "Reason two." in found[-1], (shape, found)
        for part in found:
            assert not any(word in part for word in ("Hi?", "More?", "Be kind", "sunny", "<|im_start|>")), (
                shape
            )


def test_tools_become_text_where_the_template_does_not_know_them(chatml: Any) -> None:
    example = Example(messages=(TURNS[0], *SHAPES["tools"]), tools=(TOOL,))  # type: ignore[arg-type]
    encoded = row_tokens.encode(chatml, example)
    text = chatml.decode(encoded.input_ids)
    assert text.startswith(
        f"<|im_start|>system\n{TURNS[0]['content']}\n\nYou can call these tools:\n<tools>\n"
    )
    assert json.dumps(TOOL["function"]) in text
    assert "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>" in text
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>'
    assert trained_texts(chatml, encoded) == [call, "Answer two.<|im_end|>"]
    asked = row_tokens.prompt_ids(chatml, example)
    assert encoded.input_ids[: len(asked)] == asked
    assert templates.renderer_of(chatml).notes[masks.TOOLS_AS_TEXT] == 1


def test_a_tool_without_description_and_parameters_suits_templates_that_read_them() -> None:
    tokenizer = trl_tokenizer("gptoss")
    templates.set_template(tokenizer)
    bare = {"type": "function", "function": {"name": "weather"}}
    example = Example(messages=SHAPES["tools"], tools=(bare,))  # type: ignore[arg-type]
    assert "type weather" in tokenizer.decode(row_tokens.encode(tokenizer, example).input_ids)
    assert templates.renderer_of(tokenizer).notes[masks.TOOLS_AS_TEXT] == 0


def test_text_before_a_call_is_trained_with_the_call() -> None:
    tokenizer = trl_tokenizer("qwen3")
    templates.set_template(tokenizer)
    call = {"role": "assistant", "content": "I look.", "tool_calls": [CALL]}
    shape = (SHAPES["tools"][0], call, *SHAPES["tools"][2:])
    found = trained_texts(tokenizer, row_tokens.encode(tokenizer, Example(messages=shape, tools=(TOOL,))))  # type: ignore[arg-type]
    assert found[0].startswith("I look.") and "Rome" in found[0] and found[0].endswith("<|im_end|>")


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
    prompt = row_tokens.prompt_ids(tokenizer, list(TURNS[:-1]))
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
    encoded = encode(tokenizer, Example(messages=greeting), 99)
    assert tokenizer.decode(encoded.input_ids) == "<|user|><|end|><|assistant|>c<|end|><|user|>a<|end|>"
    assert trained_texts(tokenizer, encoded) == ["c<|end|>"]
    tool = ({"role": "tool", "content": "c"}, {"role": "assistant", "content": "a"})
    text = tokenizer.decode(encode(tokenizer, Example(messages=tool), 99).input_ids)
    assert text.startswith("<|user|><tool_response>\nc\n</tool_response><|end|>")


def test_weight_zero_keeps_a_turn_out(chatml: Any) -> None:
    turns = [dict(turn) for turn in TURNS]
    turns[2]["weight"] = 0
    encoded = encode(chatml, Example(messages=tuple(turns)), 500)
    assert trained_texts(chatml, encoded) == ["Answer two.<|im_end|>"]


HOSTILE = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a doubled text": "{% set n = namespace(s='ab') %}{% for i in range(60) %}"
    "{% set n.s = n.s ~ n.s %}{% endfor %}",
    "a repeated text": "{{ 'a' * 10**10 }}",
    "a padded text": "{{ 'a'.ljust(10**10) }}{{ 'a' | center(10**10) }}",
    "a wide format": "{{ '%10000000000d' % 1 }}",
    "a doubled list": "{% set n = namespace(s=['a']) %}{% for i in range(60) %}"
    "{% set n.s = n.s + n.s %}{% endfor %}",
    "a replaced text": "{% set n = namespace(s='aa') %}{% for i in range(60) %}"
    "{% set n.s = n.s | replace('a', 'aa') %}{% endfor %}",
    "a macro that calls itself": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "blocks of text": "{% for i in range(99999) %}{% set x %}{% for j in range(99999) %}a long piece of text"
    "{% endfor %}{% endset %}{% endfor %}",
    "lists in lists, compared": "{% set n = namespace(a=[1], b=[1]) %}{% for i in range(60) %}"
    "{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}{{ n.a == n.b }}",
    "tuples in tuples, as a key": "{% set n = namespace(a=(1,)) %}{% for i in range(60) %}"
    "{% set n.a = (n.a, n.a) %}{% endfor %}{{ {n.a: 1} | length }}",
    "objects in objects": "{% set n = namespace(a={}) %}{% for i in range(60) %}"
    "{% set n.a = {'a': n.a, 'b': n.a} %}{% endfor %}{{ n.a == n.a }}",
    "a growing dictionary": "{% set n = namespace(d={}) %}{% for i in range(99999) %}"
    "{% set n.d = dict(n.d, **{i | string: 1}) %}{% endfor %}",
    "loops in loops in loops": "{% for a in [1] %}" * 99 + "{% endfor %}" * 99,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_without_end_is_ended(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time and memory of a rendering are bounded: what the template does is the reason of the refusal."""
    monkeypatch.setattr(chat_template, "MAX_STEPS", 100_000)
    monkeypatch.setattr(chat_template, "MAX_CHARS", 1 << 20)
    tokenizer = byte_tokenizer(HOSTILE[name] + CHATML)
    with pytest.raises(LabError, match=r"cannot render.*(it loops|produces more|pads or|recursion|nested)"):
        templates.set_template(tokenizer)


def test_a_filter_that_takes_long_is_not_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "MAX_SECONDS", 0.0)
    source = "{% set s = 'a ' * 100000 %}{{ s | title | length }}"
    with pytest.raises(chat_template.TooMuch, match="takes more than 0 s"):
        chat_template.render(source, [])


def test_rendering_equals_that_of_transformers(chatml: Any) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    for name in ("qwen3", "gemma4_v5", "gptoss_training", "llama3_2", "nemotron_3_nano", "cohere2_training"):
        source = (resources.files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
        variables = {"bos_token": "<s>", "eos_token": "</s>", "date_string": "1 Jan 2026"}
        marked = "endgeneration" in source
        [text], found = render_jinja_template(
            [[dict(m) for m in TURNS]],
            chat_template=source,
            return_assistant_tokens_mask=marked,
            **variables,
        )
        ours = chat_template.render(source, TURNS, variables=variables)
        assert ours == (text, [tuple(span) for span in found[0]] if marked else []), name


def test_the_date_of_a_run_is_fixed(tmp_path: Any) -> None:
    tokenizer = byte_tokenizer("{{ strftime_now('%Y-%m-%d') }} {{ date_string }}|" + CHATML)
    templates.use_settings(tokenizer, PromptSettings(date="2026-02-03"))
    text = row_tokens.prompt_text(tokenizer, [{"role": "user", "content": "Q"}])
    assert text.startswith("2026-02-03 03 Feb 2026|")
    assert templates.identity(tokenizer) == "2026-02-03"
    tokenizer.save_pretrained(tmp_path)
    templates.save_settings(tokenizer, tmp_path)
    other = byte_tokenizer()
    assert templates.use_saved(other, tmp_path)
    assert row_tokens.prompt_text(other, [{"role": "user", "content": "Q"}]) == text
    assert templates.identity(other) != "", "scores under another template are not those of the bare model"


def test_thinking_by_the_data_on_or_off() -> None:
    tokenizer = trl_tokenizer("qwen3")
    plain, thought = (Example(messages=SHAPES[name]) for name in ("plain", "thinking"))  # type: ignore[arg-type]
    empty, header = "<think>\n\n</think>\n\n", "<|im_start|>assistant\n"
    for mode, example, prompt, answer in (
        ("auto", plain, header + empty, "Answer two."),
        ("auto", thought, header, "<think>\nReason two.\n</think>\n\nAnswer two."),
        ("on", plain, header, empty + "Answer two."),
        ("off", thought, header + empty, "Answer two."),
    ):
        templates.use_settings(tokenizer, PromptSettings(mode=mode))  # type: ignore[arg-type]
        encoded = row_tokens.encode(tokenizer, example)
        [found] = trained_texts(tokenizer, encoded)
        asked = tokenizer.decode(row_tokens.prompt_ids(tokenizer, example))
        assert (found, asked.endswith(prompt)) == (answer + "<|im_end|>", True), (mode, found)
    templates.use_settings(tokenizer, PromptSettings())
    templates.renderer_of(tokenizer).reset_counts()
    for example in (plain, thought, thought):
        row_tokens.encode(tokenizer, example)
    templates.settle_thinking(tokenizer)
    assert templates.settings_of(tokenizer).thinking
    question = [{"role": "user", "content": "Hi?"}]
    assert row_tokens.prompt_text(tokenizer, question).endswith(header)
    assert row_tokens.prompt_text(tokenizer, question, thinking=False).endswith(empty)


def test_reasoning_that_a_template_does_not_know_is_trained_in_the_text(chatml: Any) -> None:
    example = Example(messages=SHAPES["thinking"])  # type: ignore[arg-type]
    [found] = trained_texts(chatml, row_tokens.encode(chatml, example))
    assert found == "<think>\nReason two.\n</think>\n\nAnswer two.<|im_end|>"
    assert templates.renderer_of(chatml).notes[masks.INLINED] == 1


def test_an_r1_distillate_is_asked_as_it_is_trained() -> None:
    """Its prompt opens a thinking block that its rendering of a finished chat leaves out."""
    tokenizer = trl_tokenizer("deepseek_r1_distill")
    for shape, answer in (("plain", "</think>\n\n"), ("thinking", "Reason two.\n</think>\n\n")):
        encoded = row_tokens.encode(tokenizer, Example(messages=SHAPES[shape]))  # type: ignore[arg-type]
        assert tokenizer.decode(encoded.input_ids[: encoded.prompt]).endswith("<think>\n")
        [found] = trained_texts(tokenizer, encoded)
        assert found.startswith(answer + "Answer two.")


@pytest.mark.parametrize("name", ["qwen3", "deepseek_r1_distill"])
def test_reasoning_of_which_only_the_end_is_marked(name: str) -> None:
    """An answer as it comes from a prompt that has opened the block is that with the whole block."""
    tokenizer = trl_tokenizer(name)
    ask = {"role": "user", "content": "Hi?"}

    def ids(answer: str) -> list[int]:
        turns = (ask, {"role": "assistant", "content": answer})
        return row_tokens.encode(tokenizer, Example(messages=turns)).input_ids  # type: ignore[arg-type]

    assert ids("Hm.\n</think>\n\nHello.") == ids("<think>\nHm.\n</think>\n\nHello.")
    for text in ("Write </think> to end it.\nSo.", "No block.\n\nHello."):
        assert chats.split_reasoning({"role": "assistant", "content": text}) == ("", text)


def test_reasoning_that_never_ends_is_counted(chatml: Any) -> None:
    turns = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "<think>\nHm. And"}]
    row_tokens.encode(chatml, Example(messages=tuple(turns)))  # type: ignore[arg-type]
    [warning] = prompt_warnings(templates.renderer_of(chatml), Places(), Places())
    assert warning.startswith("1 row open <think> and never close it")


def test_chat_template_json_is_used(tmp_path: Any) -> None:
    byte_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": CHATML}))
    assert templates.load_tokenizer(tmp_path).chat_template == CHATML


@pytest.mark.parametrize(
    ("content", "packages"),
    [
        (b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02", "sentencepiece and protobuf"),
        (b"aGk= 0\n", "tiktoken"),
    ],
)
def test_a_tokenizer_without_its_library_says_what_to_install(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, content: bytes, packages: str
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    monkeypatch.setattr(checkpoint, "find_spec", lambda name: None)
    assert f"install {packages} (" in checkpoint.tokenizer_problem(tmp_path)
    with pytest.raises(LabError, match=f"install {packages}"):
        templates.load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["qwen3", "glm4moe", "llama3_2", "gemma4_v5", "qwen2_5"])
def test_an_exported_template_asks_as_the_run_without_being_told(name: str) -> None:
    """Rendered by transformers alone, which knows nothing of the run's settings."""
    from transformers.utils.chat_template_utils import render_jinja_template

    question = [{"role": "user", "content": "Hi?"}]
    for asks in (PromptSettings(thinking=False, date="2026-02-03"), PromptSettings(thinking=True)):
        tokenizer = trl_tokenizer(name)
        templates.use_settings(tokenizer, asks)
        wanted = row_tokens.prompt_text(tokenizer, question)
        exported = with_defaults(tokenizer.chat_template, asks)
        assert with_defaults(exported, asks) == exported
        special = tokenizer.special_tokens_map
        [[text], _] = render_jinja_template(
            [question], chat_template=exported, add_generation_prompt=True, **special
        )
        today = name == "llama3_2" and not asks.date
        assert text == wanted or today


def test_an_empty_template_file_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / templates.TEMPLATE_FILE).write_text("")
    tokenizer = byte_tokenizer(CHATML)
    assert not templates.has_saved(tmp_path) and not templates.use_saved(tokenizer, tmp_path)
    assert tokenizer.chat_template == CHATML


def test_the_end_of_a_turn_that_an_answer_has_already_is_not_doubled() -> None:
    plain, ended = chat("Hi?", "Hello."), chat("Hi?<|im_end|>", "Hello.<|im_end|>\n")
    renderer = templates.renderer_of(byte_tokenizer(CHATML, eos_token="<|im_end|>"))
    assert renderer.row(ended.messages or ()) == renderer.row(plain.messages or ())
