"""The build of torch that `make setup` installs, by what nvidia-smi prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tui_lab.hardware import torch_index

ROOT = Path(__file__).parents[2]

SMI = """\
#!/bin/sh
case "$*" in
  *compute_cap*) printf '{capabilities}' ;;
  *) printf '| NVIDIA-SMI {driver}   Driver Version: {driver}   {cuda} |\\n' ;;
esac
"""


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    def put(driver: str, cuda: str, capabilities: str = "8.6\\n") -> None:
        script = tmp_path / "nvidia-smi"
        script.write_text(SMI.format(driver=driver, cuda=cuda, capabilities=capabilities))
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")

    return put


@pytest.mark.parametrize(
    ("driver", "cuda", "capabilities", "status", "printed", "said"),
    [
        ("550.54.14", "CUDA Version: 12.4", "7.5\\n", 0, "cu126", "CUDA up to 12.4"),
        ("580.65.06", "CUDA Version: 13.0", "8.9\\n", 0, "", ""),
        ("595.10", "CUDA UMD Version: 13.2", "12.0\\n", 0, "", ""),
        ("580.65.06", "CUDA Version: 13.0", "9.0\\n7.0\\n", 0, "cu126", "compute capability 7.0"),
        ("470.82", "CUDA Version: 11.4", "7.5\\n", 1, "", "update the driver to 580"),
        ("580.65.06", "CUDA Version: 13.0", "[N/A]\\n", 0, "", ""),
        # cu126 has no kernels for Blackwell
        ("570.86.15", "CUDA Version: 12.8", "12.0\\n", 0, "cu128", "torch 2.11, the last"),
        ("570.86.15", "CUDA Version: 12.8", "8.9\\n12.0\\n", 0, "cu128", "CUDA up to 12.8"),
        ("580.65.06", "CUDA Version: 13.0", "12.0\\n7.0\\n", 0, "", ""),
    ],
)
def test_driver_and_cards_decide(
    smi: object, capsys: pytest.CaptureFixture[str], driver: str, cuda: str, capabilities: str, status: int,
    printed: str, said: str,
) -> None:  # fmt: skip
    smi(driver, cuda, capabilities)  # type: ignore[operator]
    assert torch_index.main([]) == status
    out, err = capsys.readouterr()
    assert out.strip() == (f"{torch_index.URL}{printed}" if printed else "")
    assert said in err and bool(said) == bool(err)


def test_without_a_driver_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: object
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert torch_index.of_this_machine() == torch_index.TorchIndex("")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert torch_index.of_this_machine() == torch_index.TorchIndex("")


def test_a_wanted_index(capsys: pytest.CaptureFixture[str]) -> None:
    assert torch_index.main(["cpu"]) == 0 and capsys.readouterr().out == f"{torch_index.URL}cpu\n"
    assert torch_index.main(["https://mirror/simple"]) == 0
    assert capsys.readouterr().out == "https://mirror/simple\n"


MAKE_PYTHON = """\
#!/bin/sh
echo "$@" >> {log}
case "$*" in
  *torch_index*) exec {python} "$@" ;;
  *"-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
esac
"""


def test_make_setup_says_it_before_the_download_and_installs_what_fits(smi: object, tmp_path: Path) -> None:
    """The Makefile with a Python that only writes down what it is asked for."""
    log, fake, venv = tmp_path / "log", tmp_path / "python", tmp_path / "venv"
    fake.write_text(MAKE_PYTHON.format(log=log, python=sys.executable))
    fake.chmod(0o755)

    def setup(*more: str) -> tuple[str, list[str]]:
        log.write_text("")
        done = subprocess.run(
            ["make", "setup", f"PYTHON={fake}", f"VENV={venv}", *more],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        pip = [line.partition("install ")[2] for line in log.read_text().splitlines() if " install " in line]
        return done.stdout, pip

    smi("470.82", "CUDA Version: 11.4")  # type: ignore[operator]
    said, pip = setup()
    assert "update the driver to 580" in said and not pip and not (venv / ".ready").exists()
    smi("550.54.14", "CUDA Version: 12.4")  # type: ignore[operator]
    said, pip = setup()
    assert said.index("CUDA up to 12.4") < said.index("Installing into")
    assert pip[0] == f"--quiet --index-url {torch_index.URL}cu126 torch>=2.9,<3"
    assert "torch==" not in (venv / "constraints.txt").read_text()
    assert setup()[1] == []  # it is set up
    assert setup("TORCH_INDEX=cpu")[1][0].startswith(f"--quiet --index-url {torch_index.URL}cpu")
    assert setup("TORCH_INDEX=cpu")[1] == []
