"""Under what a run ran: versions, threads, device, and the git state of the user's code."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import torch

from loopwright import __version__
from loopwright.train.folder.source_files import code_folder


def environment(device: torch.device, recipe: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return plain facts for ``run.json``.

    Args:
        device: the run's.
        recipe: what ``Run`` was told of the recipe that made it, its file among it. The git commit and
            state of the folder of the user's code are noted where it has them.
    """
    from loopwright import denormals

    facts: dict[str, Any] = {
        "loopwright": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device_name(device),
        "processor": _processor(),
        "matmul": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    if device.type == "cuda":
        cudnn = torch.backends.cudnn
        facts["cudnn"] = f"benchmark {cudnn.benchmark}, deterministic {cudnn.deterministic}"
    if denormals.are_flushed():
        facts["denormals"] = "zero"
    if (numpy := sys.modules.get("numpy")) is not None:
        facts["numpy"] = numpy.__version__
    git = _git(str(code_folder((recipe or {}).get("file"))))
    if git is not None:
        facts["git"] = git
    return facts


def device_name(device: torch.device) -> str:
    """Return the device with the name of the accelerator, e.g. ``cuda:0 (NVIDIA H200)``."""
    if device.type == "cpu":
        return f"cpu ({os.cpu_count()} cores)"
    module = torch.get_device_module(device)
    name = getattr(module, "get_device_name", None)
    return f"{device} ({name(device)})" if name is not None else str(device)


def _processor() -> str:
    """Return the processor's name and the instructions that torch uses on it: others give other bits."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            line = next((x for x in file if x.startswith("model name")), "")
    except OSError:  # not Linux
        line = ""
    # The second starts a process, for what is often the third.
    name = line.partition(":")[2].strip() or platform.processor() or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def _git(folder: str) -> dict[str, Any] | None:
    """Return commit and whether files differ from it; None outside a repository or without git."""
    try:
        found = subprocess.run(
            ["git", "-C", folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no"],
            capture_output=True, text=True, timeout=5, check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    if found.returncode != 0:
        return None
    lines = found.stdout.splitlines()
    commit = next((x.split()[-1] for x in lines if x.startswith("# branch.oid")), "")
    changed = [x for x in lines if not x.startswith("#")]
    return {"commit": commit, "changed_files": len(changed)}
