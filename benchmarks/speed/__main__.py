"""Time per training step: ours, the hand-written loop, and other engines as their users write them.

    python benchmarks/speed [--rounds 11] [--workloads digits,…] [--contestants tutorial,loop,…] [--threads 1]
    python benchmarks/speed --device cuda

Each contestant is a process of its own that stays; they train blocks of steps in turn, one at a time, and
what is reported is the median over rounds of the tutorial loop's time divided by theirs, with the middle
95 % of the rounds in brackets. The tutorial loop runs twice ("again"): what lies in its brackets is noise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

ON_A_GPU = ("tutorial", "tutorial again", "loop", "fit", "exact", "exact_fused", "fit_exact",
            "fit_exact_fused", "fit_exact_bf16", "by_hand", "by_hand_bf16", "lightning",
            "accelerate")  # fmt: skip
CONTESTANTS = ("tutorial", "tutorial again", "loop", "fit", "exact", "fit_exact", "tuned", "six_calls",
               "checked_by_hand",
               "lightning", "accelerate", "ignite", "hf_trainer", "skorch_net", "keras_torch",
               "torchtnt_train")  # fmt: skip
ALSO = {"fashion-mlp": ("loop_flush", "fit_exact_flush")}
"""On a CPU, where a workload has the numbers that they are about."""


class Process:
    """A contestant's process."""

    def __init__(self, name, workload, threads, device):
        self.name = name
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "KERAS_BACKEND": "torch"}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), name.split()[0], workload, str(threads),
             device],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=environment,
        )  # fmt: skip
        self._first = None

    @property
    def first(self):
        """What it said when its first steps were done."""
        if self._first is None:
            self._first = self._answer()
        return self._first

    def _answer(self):
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"missing": "it ended with an error"}

    def block(self, steps):
        """Train one block."""
        print(f"block {steps}", file=self._process.stdin, flush=True)
        return self._answer()

    def close(self):
        """End it."""
        self._process.stdin.close()
        self._process.wait(60)


def measure(workload, names, rounds, threads, device, together):
    """Return rows of one workload, and what could not run."""
    running, missing = [], {}
    started = [Process(n, workload, threads, device) for n in names] if together else None
    for name in names:
        one = Process(name, workload, threads, device) if started is None else started.pop(0)
        if "missing" in one.first:
            missing[name] = one.first["missing"]
        else:
            running.append(one)
    results = {one.name: [] for one in running}
    for _ in range(rounds):
        for one in list(running):
            answer = one.block(one.first["steps"])
            if "missing" in answer:
                missing[one.name] = answer["missing"]
                running.remove(one)
                continue
            results[one.name].append(answer)
    for one in running:
        one.close()
    return {
        one.name: {
            "us": [1e6 * r["seconds"] / one.first["steps"] for r in results[one.name]],
            "first_s": one.first["ready"],
            "batch": one.first["batch"],
            "flops": one.first["flops"],
            "peak_mb": results[one.name][-1]["peak_mb"],
            "loss": results[one.name][-1]["loss"],
        }
        for one in running
    }, missing  # fmt: skip


def table(rows):
    """Return lines: ratio to the tutorial loop, its spread, time per step, first step, memory, loss.

    On a GPU also what the matrices and convolutions of a step take, by its time: beside what the GPU's
    products of matrices reach, which stands above the tables.
    """
    base, flops = rows["tutorial"]["us"], rows["tutorial"]["flops"]
    lines = [
        f"{'':16} {'times faster':>22} {'µs/step':>10} {'first step s':>13} {'MB':>6} {'loss':>8}"
        + (" TFLOP/s" if flops else "")
    ]
    for name, row in rows.items():
        ratios = sorted(a / b for a, b in zip(base, row["us"], strict=True))
        cut = max(0, round(0.025 * len(ratios)))
        low, high = ratios[cut], ratios[-1 - cut]
        spread = f"{statistics.median(ratios):.2f} [{low:.2f}–{high:.2f}]"
        lines.append(
            f"{name:16} {spread:>22} {statistics.median(row['us']):10.0f} {row['first_s']:13.1f} "
            f"{row['peak_mb']:6.0f} {row['loss']:8.4f}"
            + (f" {flops / statistics.median(row['us']) / 1e6:7.1f}" if flops else "")
        )
    return lines


def _named(device):
    import torch

    if device != "cuda":
        return device
    return f"{torch.cuda.get_device_name()}, matrix products of 8192 at {', '.join(_peaks())}"


def _peaks():
    """Yield what the GPU's matrix products reach, for the share of it that a step uses."""
    import torch

    for name, dtype, tf32 in (("fp32", torch.float32, False), ("tf32", torch.float32, True),
                              ("bf16", torch.bfloat16, False)):  # fmt: skip
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(8192, 8192, device="cuda", dtype=dtype) for _ in range(2))
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(3):
            a @ b
        first.record()
        for _ in range(10):
            a @ b
        last.record()
        torch.cuda.synchronize()
        yield f"{name} {10 * 2 * 8192**3 / first.elapsed_time(last) / 1e9:.0f} TFLOP/s"


def main():
    """Measure and print; ``--json FILE`` keeps all numbers."""
    from workloads import WORKLOADS

    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--contestants")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--together", action="store_true", help="start all processes at once")
    parser.add_argument("--json")
    asked = parser.parse_args()
    known = CONTESTANTS if asked.device == "cpu" else ON_A_GPU
    import torch

    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, torch {torch.__version__}, {asked.threads} threads, "
        f"{asked.rounds} rounds, on {_named(asked.device)}"
    )
    kept = {}
    for workload in asked.workloads.split(","):
        also = ALSO.get(workload, ()) if asked.device == "cpu" else ()
        names = asked.contestants.split(",") if asked.contestants else [*known, *also]
        if "tutorial" not in names:
            names = ["tutorial", *names]
        rows, missing = measure(
            workload, names, asked.rounds, asked.threads, asked.device, asked.together
        )
        print(f"\n{workload}")
        if "tutorial" in rows:
            print("\n".join(table(rows)))
        for name, why in missing.items():
            print(f"{name:16} not run: {why}")
        kept[workload] = {"rows": rows, "missing": missing}
        if asked.json:
            Path(asked.json).write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
