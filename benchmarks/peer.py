"""nnU-Net v2 in an environment of its own, and where benchmarks keep their things."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NNUNET_VERSION = "2.8.1"
ROOT = Path(__file__).resolve().parent.parent


def cache() -> Path:
    """Folder for environments and intermediate results: ``$BTS_BENCHMARKS`` or ``~/.cache/bts_auto``."""
    return Path(os.environ.get("BTS_BENCHMARKS") or Path.home() / ".cache" / "bts_auto").absolute()


def real_data() -> Path:
    """Folder with real MRI: ``$BTS_TEST_DATA``, else ``../shared/data`` beside the project.

    Raises
    ------
    SystemExit
        When it is not there.
    """
    folder = Path(os.environ.get("BTS_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        raise SystemExit(f"{folder}: no such folder - set BTS_TEST_DATA to the folder with Dataset021_BraTS2013")
    return folder


def nnunet_bin() -> Path:
    """The ``bin`` folder of an environment with nnU-Net; ``$BTS_NNUNET_ENV`` or one that is made on first use."""
    given = os.environ.get("BTS_NNUNET_ENV")
    environment = Path(given) if given else cache() / f"nnunet-{NNUNET_VERSION}"
    python = environment / "bin" / "python"
    if not (environment / "bin" / "nnUNetv2_train").exists():
        print(f"installing nnU-Net {NNUNET_VERSION} into {environment} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        constraints = next(
            line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch==")
        )
        pip = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, constraints], check=True)
        subprocess.run([*pip, constraints, f"nnunetv2=={NNUNET_VERSION}"], check=True)
    return environment / "bin"


def nnunet_environment(workspace: Path) -> dict[str, str]:
    """nnU-Net's three folders below `workspace`."""
    folders = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "nnunet_preprocessed", "nnUNet_results": "nnunet_results"}
    for folder in folders.values():
        (workspace / folder).mkdir(parents=True, exist_ok=True)
    return {name: str(workspace / folder) for name, folder in folders.items()} | {"nnUNet_compile": "f"}


def fresh(folder: Path) -> Path:
    """An empty folder in place of `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
