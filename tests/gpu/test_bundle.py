"""The folder for a machine without a network; that its wheels can be downloaded is not tested here."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.gpu import bundle, bundle_run
from tests.gpu.parts import PARTS
from tui_lab.core.errors import LabError


def _wheel(path: Path, files: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def _library(folder: Path, name: str, needs: str = "") -> Path:
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n"
    metadata += f"Requires-Dist: {needs}\n" if needs else ""
    return _wheel(
        folder / f"{name}-2.0-py3-none-any.whl",
        {f"{name}.py": "", f"{name}-2.0.dist-info/METADATA": metadata},
    )


def test_every_wheel_has_a_tested_version() -> None:
    versions = bundle.pinned_versions((bundle.ROOT / "constraints.txt").read_text("utf-8"))
    assert versions["tomli-w"] and versions["pydantic-core"]
    names = {name.lower().replace("_", "-") for name in (*bundle.PINNED, *bundle.EXTRA)}
    assert names <= versions.keys()


def test_the_code_of_every_part_travels(tmp_path: Path) -> None:
    bundle.copy_code(tmp_path / "code")
    code = tmp_path / "code"
    for part in PARTS:
        assert (code / "tests" / "gpu" / f"part_{part.name}.py").is_file()
    assert (code / "tui_lab" / "pocket" / "model" / "model.safetensors").is_file()
    assert (code / "presets" / "starter.toml").is_file()
    names = [path.name for path in code.rglob("*")]
    assert "__pycache__" not in names and not any(name.startswith("test_") for name in names)
    assert bundle.folder_bytes(code) < 24 << 20


def test_bitsandbytes_keeps_the_library_of_cuda_13(tmp_path: Path) -> None:
    names = ("bitsandbytes/libbitsandbytes_cuda130.so", "bitsandbytes/libbitsandbytes_cpu.so")
    others = ("bitsandbytes/libbitsandbytes_cuda118.so", "bitsandbytes/libbitsandbytes_rocm71.so")
    whole = _wheel(
        tmp_path / "b.whl", dict.fromkeys((*names, *others, "bitsandbytes/__init__.py"), "x" * 999)
    )
    bundle.strip(whole)
    with zipfile.ZipFile(whole) as archive:
        assert set(archive.namelist()) == {*names, "bitsandbytes/__init__.py"}
    with pytest.raises(LabError, match="has no libbitsandbytes_cuda130"):
        bundle.strip(_wheel(tmp_path / "c.whl", {others[0]: ""}))


def test_a_folder_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(LabError, match="is no bundle"):
        bundle.make(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_only_missing_libraries_are_unpacked_and_what_lacks_is_named(tmp_path: Path) -> None:
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    _library(wheels / "pinned", "always", "here>=1; python_version > '3'")
    _library(wheels / "extra", "here")
    _library(wheels / "extra", "gone", "torch>=99; extra == 'gpu'")
    found = bundle_run.wanted(wheels, lambda name: name == "here")
    assert [path.name.partition("-")[0] for path in found] == ["always", "gone"]
    bundle_run.unpack(found, site)
    bundle_run.unpack(found, site)
    assert sorted(path.name for path in site.glob("*.py")) == ["always.py", "gone.py"]
    assert bundle_run.unmet(site) == ["here is missing (always needs here>=1; python_version > '3')"]
    _library(wheels / "extra", "odd", "pytest<1")
    bundle_run.unpack(bundle_run.wanted(wheels, lambda name: False), site)
    (problem,) = bundle_run.unmet(site)
    assert problem.startswith("pytest is ") and "odd needs pytest<1" in problem
