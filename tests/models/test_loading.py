"""The one loader: every unusable file is named in one sentence, hub errors are told by type and status."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from tui_lab.core import hub_errors, safetensors_file
from tui_lab.core.errors import LabError
from tui_lab.data import templates
from tui_lab.models import catalog, loading, rounded_layers
from tui_lab.models.loading import ModelSource, Precision
from tui_lab.models.module_stats import module_stats
from tui_lab.pocket import MODEL_DIR

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled model, in a folder whose name contains HTTP status codes."""
    return Path(shutil.copytree(MODEL_DIR, tmp_path / "run-401-403-gated"))


def _cut(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(len(data) * share)]


DAMAGES = [
    ("model.safetensors", _cut(0.5), "model.safetensors is truncated: it has"),
    ("model.safetensors", _cut(0.0), "model.safetensors is empty"),
    ("model.safetensors", lambda data: data[:5], "model.safetensors is truncated"),
    ("model.safetensors", lambda data: data[:100], "model.safetensors is truncated within its header"),
    ("model.safetensors", lambda data: data + b"x", "model.safetensors has 1 bytes too many"),
    ("model.safetensors", lambda data: POINTER, "model.safetensors is a git-lfs pointer.*git lfs pull"),
    ("model.safetensors", lambda data: b"<html>" * 50, "model.safetensors is not a safetensors file"),
    ("model.safetensors", lambda data: data[:8] + b"[" * 20 + data[28:], "has a damaged header"),
    ("config.json", _cut(0.5), "config.json is not valid JSON"),
    ("config.json", _cut(0.0), "config.json is empty"),
    ("config.json", lambda data: POINTER, "config.json is a git-lfs pointer"),
    ("config.json", lambda data: b"[]", "config.json holds no JSON object"),
    ("tokenizer.json", _cut(0.5), "tokenizer.json is not complete JSON"),
    ("tokenizer.json", _cut(0.0), "tokenizer.json is empty"),
    ("tokenizer.json", lambda data: POINTER, "tokenizer.json .*git lfs pull"),
    ("tokenizer.json", lambda data: b"../other/tokenizer.json", "a link that was copied as text"),
    ("tokenizer_config.json", _cut(0.5), "tokenizer_config.json is not valid JSON"),
    ("model.safetensors.index.json", lambda _: b"{", "model.safetensors.index.json is not valid JSON"),
    ("model.safetensors.index.json", lambda _: b'{"weight_map": {"a": "gone.safetensors"}}', "gone"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "damage", "sentence"), DAMAGES, ids=[f"{name}-{sentence[:40]}" for name, _, sentence in DAMAGES]
)
def test_a_damaged_file_is_named(
    folder: Path, name: str, damage: Callable[[bytes], bytes], sentence: str
) -> None:
    path = folder / name
    if not path.exists():  # an index replaces the single file
        (folder / "model.safetensors").unlink()
    path.write_bytes(damage(path.read_bytes() if path.exists() else b""))
    with pytest.raises(LabError, match=sentence) as refused:
        catalog.find(str(folder))
    assert "it is gated" not in str(refused.value)
    load = templates.load_tokenizer if name.startswith("tokenizer") else _load
    with pytest.raises(LabError, match=sentence) as failed:
        load(str(folder))
    assert "\n" not in str(failed.value) and "it is gated" not in str(failed.value)


def _load(location: str) -> object:
    return loading.load_model(ModelSource(location), device="cpu")


def test_a_shard_of_an_index_is_checked(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "shard.safetensors")
    names = list(safetensors_file.read_header(folder / "shard.safetensors"))
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "shard.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert catalog.find(str(folder)).on_disk
    data = (folder / "shard.safetensors").read_bytes()
    (folder / "shard.safetensors").write_bytes(data[:-1])
    for attempt in (lambda: catalog.find(str(folder)), lambda: _load(str(folder))):
        with pytest.raises(LabError, match=r"shard.safetensors is truncated"):
            attempt()


def test_malformed_tokenizer_json_in_the_middle_is_named(folder: Path) -> None:
    data = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(data[:500] + b"}{" + data[502:])
    with pytest.raises(LabError, match=r"tokenizer.json is not valid JSON"):
        templates.load_tokenizer(str(folder))


def test_weights_without_tokenizer_load_from_a_run(folder: Path) -> None:
    assert _load(str(folder)).training is False  # type: ignore[attr-defined]


# --------------------------------------------------------------------------------------------------
# the hub


def _response(status: int) -> SimpleNamespace:
    return SimpleNamespace(status_code=status, headers={}, request=None)


def _http(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    error = kind.__new__(kind)
    Exception.__init__(error, "refused")
    error.response = _response(status)  # type: ignore[assignment]
    return error


HUB = [
    (_http(GatedRepoError, 403), "gated", "it is gated: accept its licence"),
    (_http(RepositoryNotFoundError, 401), "not_found", "the hub has no such model"),
    (_http(HfHubHTTPError, 401), "unauthorized", "the hub refuses access"),
    (_http(HfHubHTTPError, 403), "unauthorized", "the hub refuses access"),
    (_http(HfHubHTTPError, 500), None, "refused"),
    (LocalEntryNotFoundError("not cached"), "offline", "hub cannot be reached"),
    (OfflineModeIsEnabled("offline"), "offline", "hub cannot be reached"),
    (OSError("runs/401/403/gated: no such file"), None, "no such file"),
    (ValueError("gated mlp: 401 rows"), None, "gated mlp: 401 rows"),
]


@pytest.mark.parametrize(("cause", "kind", "sentence"), HUB, ids=lambda value: str(value)[:40])
def test_hub_errors_are_told_by_type_and_status(
    cause: Exception, kind: str | None, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = OSError(str(cause))  # as transformers wraps them
    wrapped.__cause__ = cause
    assert hub_errors.classify(cause) == hub_errors.classify(wrapped) == kind

    def refuse(*_: object, **__: object) -> None:
        raise wrapped

    monkeypatch.setattr("tui_lab.models.loading.check_hub", lambda source: None)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", refuse)
    with pytest.raises(LabError, match=sentence):
        _load("someone/model-401")


def test_a_fault_of_the_program_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a fault")

    monkeypatch.setattr("tui_lab.models.loading.check_hub", lambda source: None)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", fail)
    with pytest.raises(AssertionError, match="a fault"):
        _load("someone/model")


@pytest.mark.parametrize("load", ["_load", "load_config"])
def test_an_unreachable_hub_is_reported_after_one_request(load: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[str] = []

    def no_network(url: str, **_: object) -> None:
        requests.append(url)
        raise ConnectionError("name or service not known")

    def retries(*_: object, **__: object) -> None:
        raise AssertionError("from_pretrained would retry")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", no_network)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", retries)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", retries)
    with pytest.raises(LabError, match="hub cannot be reached"):
        _load("someone/model") if load == "_load" else loading.load_config(ModelSource("someone/model"))
    assert len(requests) == 1 and requests[0].endswith("/someone/model/resolve/main/config.json")


# --------------------------------------------------------------------------------------------------
# rounded weights


@pytest.mark.parametrize("quantization", ["nf4", "int8", "fp8"])
def test_rounded_weights_answer_nearly_as_the_plain_ones(quantization: str) -> None:
    """The error of each form is what its number of bits allows, and the head stays as it is."""
    source, tokens = ModelSource(str(MODEL_DIR)), torch.arange(40)[None]
    with torch.no_grad():
        plain = loading.load_model(source, Precision("float32"), device="cpu")
        rounded = loading.load_model(source, Precision("float32", quantization), device="cpu")
        expected, found = plain(tokens).logits, rounded(tokens).logits
    assert module_stats(rounded).quantization == quantization
    assert torch.equal(plain.lm_head.weight, rounded.lm_head.weight)
    error = float((found - expected).norm() / expected.norm())
    assert 0 < error < {"nf4": 0.3, "int8": 0.05, "fp8": 0.08}[quantization], error


def test_fp8_layers_compute_with_their_rounded_weights_forward_and_backward() -> None:
    torch.manual_seed(0)
    weight = torch.randn(24, 16) * torch.logspace(-3, 2, 24)[:, None]
    weight[3] = 0
    layer = rounded_layers.float8_layer(weight, bias=True)
    layer.bias = torch.nn.Parameter(torch.randn(24), requires_grad=False)
    x = torch.randn(2, 5, 16, requires_grad=True)
    dense = layer.dequantized()
    # 3 bits of mantissa: at most 1/16 of a normal number, and the largest of a row is exact
    large = weight.abs() > weight.abs().amax(1, keepdim=True) / 4096
    assert ((dense - weight).abs()[large] <= weight.abs()[large] / 16 * 1.001).all()
    assert not dense[3].any()
    gradient = torch.randn(2, 5, 24)
    layer(x).backward(gradient)
    assert torch.allclose(layer(x), torch.nn.functional.linear(x, dense, layer.bias), rtol=1e-4, atol=1e-4)
    assert x.grad is not None and torch.allclose(x.grad, gradient @ dense, rtol=1e-4, atol=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
