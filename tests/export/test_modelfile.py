"""Chat templates in Go's language: templates of many models are translated, rendered by a small
interpreter of Go's text/template (tests/export/go_template.py) and compared with their Jinja originals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from tests.export import go_template
from tui_lab.data.masks import template_variables
from tui_lab.export import modelfile
from tui_lab.export.check import Conversation
from tui_lab.export.source import CONVERSATIONS
from tui_lab.models import catalog
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

    def make(messages: Conversation, prompt: bool) -> str:
        [text], _ = render_jinja_template(
            [messages],
            chat_template=template,
            add_generation_prompt=prompt,
            **SPECIAL,
            **template_variables(False, None),
        )
        return str(text)

    return lambda messages: make(messages, True), lambda messages: make(messages, False)


def translated(template: str) -> modelfile.OllamaTemplate:
    render, closed = renders(template)
    questions = [chat if chat[-1]["role"] == "user" else chat[:-1] for chat in CONVERSATIONS]
    return modelfile.translate(render, closed, "<s>", questions)


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
    render, _ = renders(template())
    for chat in CONVERSATIONS:
        stripped = [{**message, "content": message["content"].strip()} for message in chat]
        is_open = chat[-1]["role"] == "user" and (system or chat[0]["role"] != "system")
        if is_open:
            assert go_template.render(found.go, stripped) == render(stripped).removeprefix("<s>")


COUNTS = "{% for message in messages %}{{ loop.index ~ message['content'] ~ eos_token }}{% endfor %}"
SHOUTS = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'].replace('One', 'Two') }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
REFUSES = "{{ raise_exception('only tools') }}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (COUNTS, "changes with the text or the number of messages"),
        (SHOUTS, "changes with the text or the number of messages"),
        (REFUSES, "refuses a plain conversation (only tools)"),
        ("{{ '<s>' }}{{ messages[0]['content'] }}", "leaves out messages"),
    ],
)
def test_templates_that_do_more_are_left_out_with_the_reason(template: str, said: str) -> None:
    found = translated(template)
    assert not found.go and said in found.reason


def test_the_modelfile_is_read_back() -> None:
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


_TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
_MESSAGE = st.builds(dict, role=st.sampled_from(["system", "user", "assistant"]), content=_TEXT)


@given(begin=_TEXT, system=_TEXT, user=_TEXT, assistant=_TEXT, end=_TEXT, chat=st.lists(_MESSAGE, max_size=5))
@example(
    begin="{", system="{{", user="}}{", assistant='"""', end="{", chat=[{"role": "user", "content": "x"}]
)
def test_the_go_template_renders_any_fixed_text(
    begin: str, system: str, user: str, assistant: str, end: str, chat: Conversation
) -> None:
    """Braces, quotes and line ends in fixed text are text: also "{" directly before an action of Go."""
    text = modelfile.FixedText(begin, (system, end), (user, end), (assistant, end), assistant)
    go = modelfile.go_template(text)
    assert '"""' not in go and "\r" not in go  # a Modelfile would end there, or lose it
    assert modelfile.template_of(modelfile.modelfile(".", go, [], {})) == go
    assert go_template.render(go, chat) == text.render(chat)


def test_the_text_of_a_conversation() -> None:
    """The concatenation by hand: the answer's end only before the next message, the prompt only at the
    end."""
    text = modelfile.FixedText("B", ("[s", "s]"), ("[u", "u]"), ("[a", "a]"), "P")
    chat = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    assert text.render(chat) == "B[u1u][a2"
    assert text.render([*chat, {"role": "user", "content": "3"}]) == "B[u1u][a2a][u3u]P"
    assert text.render([{"role": "system", "content": "0"}, chat[0]]) == "[s0s][u1u]P"


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
def test_the_renderer_refuses_what_it_does_not_know(template: str) -> None:
    with pytest.raises(go_template.UnreadableTemplateError):
        go_template.render(template, [])


# --------------------------------------------------------------------------------------------------
# the table of architectures


def test_the_table_has_every_architecture_of_the_catalog(tmp_path: Path) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CLASSES

    wanted = {CLASSES[entry.model_type] for entry in catalog.load(tmp_path) if entry.model_type}
    assert wanted and wanted <= modelfile.architectures().keys()


def test_the_table_has_llama_cpp_s_names() -> None:
    gguf = pytest.importorskip("gguf", reason="needs the package gguf")
    names = set(gguf.MODEL_ARCH_NAMES.values())
    assert {row.gguf for row in modelfile.architectures().values()} <= names


def test_the_converter_gives_each_architecture_the_name_of_the_table() -> None:
    folder = os.environ.get("LLAMA_CPP_DIR", "")
    if not (Path(folder) / "conversion").is_dir():
        pytest.skip("LLAMA_CPP_DIR names no clone of llama.cpp")
    program = (
        "import sys, json; sys.path[:0] = ['.', './gguf-py']; import gguf\n"
        "from conversion import get_model_class\n"
        "print(json.dumps({c: gguf.MODEL_ARCH_NAMES[get_model_class(c).model_arch] for c in sys.argv[1:]}))"
    )
    table = modelfile.architectures()
    done = subprocess.run(
        [sys.executable, "-c", program, *table], cwd=folder, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == {name: row.gguf for name, row in table.items()}
