"""Target words and names resolved for every architecture, against the model's own modules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.models import shapes, target_modules

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
NEOX = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo2", "granite")
EXPECTED = {
    **{
        kind: {
            "qv": ["q_proj", "v_proj"],
            "qkv": ATTENTION[:3],
            "qkvo": ATTENTION,
            "mlp": MLP,
            "all": ATTENTION + MLP,
        }
        for kind in LLAMA_LIKE
    },
    "phi": {
        "qv": ["q_proj", "v_proj"],
        "qkv": ["q_proj", "k_proj", "v_proj"],
        "qkvo": ["q_proj", "k_proj", "v_proj", "dense"],
        "mlp": ["fc1", "fc2"],
        "all": ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"],
    },
    "gpt_neox": {"qv": NEOX[:1], "qkv": NEOX[:1], "qkvo": NEOX[:2], "mlp": NEOX[2:], "all": NEOX},
    "gpt2": {
        "qv": ["c_attn"],
        "qkv": ["c_attn"],
        "qkvo": ["c_attn", "attn.c_proj"],
        "mlp": ["c_fc", "mlp.c_proj"],
        "all": ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"],
    },
    "phi3": {
        "qv": ["qkv_proj"],
        "qkv": ["qkv_proj"],
        "qkvo": ["qkv_proj", "o_proj"],
        "mlp": ["gate_up_proj", "down_proj"],
        "all": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
    },
}
CASES = [(kind, word, names) for kind, words in EXPECTED.items() for word, names in words.items()]


@pytest.mark.parametrize(("kind", "word", "names"), CASES)
def test_words(kind: str, word: str, names: list[str]) -> None:
    assert target_modules.resolve(kind, word) == names
    assert target_modules.resolve(kind, word.upper()) == names


def test_every_architecture_is_here() -> None:
    assert set(EXPECTED) == set(shapes.MODEL_TYPES)


@pytest.mark.parametrize("kind", ["gpt_neox", "gpt2", "phi3"])
def test_fused_layers_are_said(kind: str) -> None:
    (note,) = target_modules.explain(kind, "qv").notes
    assert "one layer" in note and EXPECTED[kind]["qv"][0] in note and "keys are adapted too" in note
    assert target_modules.explain(kind, "mlp").notes == ()
    assert target_modules.explain("llama", "qv").notes == ()


def test_names_and_words_mix_without_repetition() -> None:
    assert target_modules.resolve("llama", " v_proj, qv ,down_proj,v_proj") == [
        "v_proj",
        "q_proj",
        "down_proj",
    ]
    assert target_modules.resolve("llama", "self_attn.q_proj") == ["self_attn.q_proj"]
    assert target_modules.resolve("gpt2", "c_proj") == ["c_proj"]


def test_feedforward_is_a_part_of_the_targets() -> None:
    assert target_modules.feedforward("llama", "all") == ["down_proj"]
    assert target_modules.feedforward("llama", "qv") == []
    assert target_modules.feedforward("phi", "mlp") == ["fc2"]
    assert target_modules.feedforward("gpt_neox", "all") == ["dense_4h_to_h"]
    assert target_modules.feedforward("gpt2", "all") == ["mlp.c_proj"]
    assert target_modules.feedforward("llama", "mlp.down_proj,q_proj") == ["mlp.down_proj"]


@pytest.mark.parametrize(
    ("kind", "spec", "near"),
    [
        ("llama", "q_prj", "q_proj"),
        ("phi", "o_proj", "dense"),  # what does here what o_proj does elsewhere
        ("gpt_neox", "q_proj", "query_key_value"),
        ("phi", "gate_proj", "fc1"),
        ("gpt2", "mlp.fc2", "mlp.c_proj"),
        ("gpt_neox", "query_key", "query_key_value"),
        ("llama", "alll", "all"),
        ("gpt2", "c_atn", "c_attn"),
    ],
)
def test_unknown_names_name_the_nearest(kind: str, spec: str, near: str) -> None:
    with pytest.raises(LabError) as caught:
        target_modules.resolve(kind, spec)
    assert repr(spec) in str(caught.value) and f"did you mean {near!r}" in str(caught.value)


@pytest.mark.parametrize("spec", ["", " , ", ",,,"])
def test_empty(spec: str) -> None:
    with pytest.raises(LabError, match="target_modules is empty"):
        target_modules.resolve("llama", spec)


FALCON = [
    "transformer.h.0.self_attention.query_key_value",
    "transformer.h.0.self_attention.dense",
    "transformer.h.0.mlp.dense_h_to_4h",
    "transformer.h.0.mlp.dense_4h_to_h",
    "transformer.h.1.self_attention.query_key_value",
    "lm_head",
]


def test_unknown_architecture_by_its_own_modules() -> None:
    assert target_modules.resolve("falcon", "all", FALCON) == NEOX
    assert target_modules.resolve("falcon", "qkvo", FALCON) == NEOX[:2]
    assert target_modules.feedforward("falcon", "all", FALCON) == ["dense_4h_to_h"]
    with pytest.raises(LabError, match="did you mean 'dense'"):
        target_modules.resolve("falcon", "dens", FALCON)
    odd = ["model.layers.0.mixer.strange", "model.layers.0.mixer.q_proj"]
    assert target_modules.resolve("odd", "all", odd) == ["strange", "q_proj"]
    assert target_modules.resolve("odd", "strange", odd) == ["strange"]
    with pytest.raises(LabError, match="mlp"):
        target_modules.resolve("odd", "mlp", odd)


def test_unknown_architecture_before_it_is_loaded() -> None:
    assert target_modules.explain("falcon", "all").modules == ("all-linear",)
    assert target_modules.explain("falcon", "all-linear").modules == ("all-linear",)
    assert target_modules.explain("llama", "all-linear").modules == (*ATTENTION, *MLP)
    assert target_modules.resolve("falcon", "query_key_value,dense") == ["query_key_value", "dense"]
    with pytest.raises(LabError, match="not known before it is loaded"):
        target_modules.resolve("falcon", "qv")


@given(st.sampled_from(shapes.MODEL_TYPES), st.text(max_size=30))
def test_any_text_is_an_answer_or_a_sentence(kind: str, spec: str) -> None:
    try:
        modules = target_modules.resolve(kind, spec)
    except LabError as error:
        assert str(error)
        return
    assert modules and set(target_modules.feedforward(kind, spec)) <= set(modules)
