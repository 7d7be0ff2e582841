"""Chat templates in Go's language: real templates of many models are translated and compared, or left out
with a reason; the renderer that compares is held to what Go's own documentation says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from tui_lab.data.masks import TEMPLATE_SETTINGS
from tui_lab.export import go_template, modelfile
from tui_lab.export.modelfile import Message
from tui_lab.export.source import CONVERSATIONS
from tui_lab.pocket import MODEL_DIR

trl = pytest.importorskip("trl")
TEMPLATES = Path(trl.__file__).parent / "chat_templates"
ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}


def renders(template: str) -> tuple[modelfile.Render, Any]:
    """A template as a tokenizer renders it: with and without the prompt for an answer."""

    def make(messages: list[Message], prompt: bool) -> str:
        [text], _ = render_jinja_template(
            [messages], chat_template=template, add_generation_prompt=prompt, **SPECIAL, **TEMPLATE_SETTINGS
        )
        return str(text)

    return lambda messages: make(messages, True), lambda messages: make(messages, False)


def translated(template: str) -> modelfile.Template:
    render, closed = renders(template)
    questions = [chat if chat[-1]["role"] == "user" else chat[:-1] for chat in CONVERSATIONS]
    return modelfile.translated(render, closed, "<s>", questions)


#: Names in trl's library, and ours; whether the template knows system messages.
KNOWN = {
    "qwen2_5": True, "qwen3": True, "llama3": True, "gemma": False, "gemma3": False, "phi3": True,
    "lfm2": True, "cohere": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("template", "system"),
    [
        *((lambda name=name: (TEMPLATES / f"{name}.jinja").read_text(), has) for name, has in KNOWN.items()),
        (lambda: (MODEL_DIR / "chat_template.jinja").read_text(), True),
        (lambda: ZEPHYR, True),
        (lambda: CHATML, True),
    ],
    ids=[*KNOWN, "pocket", "zephyr", "chatml"],
)
def test_templates_of_known_models_are_translated(template: Any, system: bool) -> None:
    if not TEMPLATES.is_dir():
        pytest.skip("this trl has no library of templates")
    found = translated(template())
    assert found.go and not found.reason, found.reason
    assert found.compared == (len(CONVERSATIONS) if system else len(CONVERSATIONS) - 2)
    assert any("no system message" in note for note in found.notes) != system


COUNTS = "{% for message in messages %}{{ loop.index ~ message['content'] ~ eos_token }}{% endfor %}"
SHOUTS = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'].replace('One', 'Two') }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
REFUSES = "{{ raise_exception('only tools') }}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (COUNTS, "changes with what the messages say or how many"),
        (SHOUTS, "changes with what the messages say or how many"),
        (REFUSES, "refuses a plain conversation (only tools)"),
        ("{{ '<s>' }}{{ messages[0]['content'] }}", "leaves out messages"),
        ("{% for m in messages %}{{ '{{' + m['content'] + '}}' }}{% endfor %}", "marks of Go's template"),
    ],
)
def test_templates_that_do_more_are_left_out_with_the_reason(template: str, said: str) -> None:
    found = translated(template)
    assert not found.go and said in found.reason


def test_the_file_is_read_back() -> None:
    go = translated(CHATML).go
    text = modelfile.modelfile(".", go, ["<|im_end|>"], {}, "Answer\nshortly.")
    assert text.startswith("FROM .\n") and 'SYSTEM """Answer\nshortly."""' in text
    assert modelfile.template_of(text) == go and modelfile.stops_of(text) == ["<|im_end|>"]
    assert "PARAMETER temperature 0\n" in text
    sampled = {"do_sample": True, "temperature": 0.7, "top_k": 20, "repetition_penalty": 1.1, "top_p": None}
    lines = modelfile.modelfile("model.gguf", "", [], sampled).splitlines()
    assert lines == [
        "FROM model.gguf", "PARAMETER temperature 0.7", "PARAMETER top_k 20", "PARAMETER repeat_penalty 1.1"
    ]  # fmt: skip
    assert not modelfile.template_of("FROM .\n")


_TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12).filter(
    lambda text: "{{" not in text and "}}" not in text and '"""' not in text and "\r" not in text
)


@given(begin=_TEXT, system=_TEXT, user=_TEXT, said=_TEXT, end=_TEXT, contents=st.lists(_TEXT, max_size=5))
def test_any_fixed_text_comes_out_as_it_went_in(
    begin: str, system: str, user: str, said: str, end: str, contents: list[str]
) -> None:
    """Against the concatenation itself; texts that form marks only together are refused."""
    around = modelfile.Around(begin, (system, end), (user, end), (said, end), said)
    try:
        go = modelfile.to_go(around)
    except modelfile.Inexpressible:
        return
    roles = ["system", "user", "assistant", "user", "assistant"]
    chat = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]
    heads = {"system": system, "user": user, "assistant": said}
    expected = ""
    for at, message in enumerate(chat):
        last, answer = at == len(chat) - 1, message["role"] == "assistant"
        expected += begin if at == 0 and message["role"] != "system" else ""
        expected += heads[message["role"]] + message["content"] + ("" if last and answer else end)
        expected += said if last and not answer else ""
    assert go_template.render(go, chat) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [  # what text/template's documentation says of each
        ("a {{ 23 -}} < {{- 45 }} b", "a 23<45 b"),
        ('{{ if eq 1 2 }}x{{ else if eq 2 2 }}y{{ else }}z{{ end }}', "y"),
        ("{{ if not .Messages }}none{{ else }}{{ len .Messages }}{{ end }}", "2"),
        ("{{ range .Messages }}[{{ .Role }}]{{ end }}", "[user][assistant]"),
        ("{{ range $i, $m := .Messages }}{{ $i }}{{ $m.Content }}{{ end }}", "0A1B"),
        ("{{ range $i, $_ := .Messages }}{{ len (slice $.Messages $i) }}{{ end }}", "21"),
        ('{{ "a\\n\\"" }}', 'a\n"'),
        ('{{ if or (eq 1 2) (and (ne 1 2) (eq "x" "x")) }}yes{{ end }}', "yes"),
    ],
)  # fmt: skip
def test_the_renderer_reads_go(template: str, expected: str) -> None:
    chat = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]
    assert go_template.render(template, chat) == expected


@pytest.mark.parametrize(
    "template",
    ["{{ if eq 1 1 }}x", "{{ end }}", "{{ .Nothing }}", "{{ $x }}", "{{ (eq 1 }}", "{{ json .Messages }}"],
)
def test_what_the_renderer_does_not_read_it_says(template: str) -> None:
    with pytest.raises(go_template.Unreadable):
        go_template.render(template, [])
