"""One contestant in a process of its own: reads ``block N``, answers with a line of JSON.

python benchmarks/speed/worker.py CONTESTANT WORKLOAD THREADS DEVICE
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "src"))


def main(name, workload, threads, device):
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a contestant prints is not an answer
    started = perf_counter()
    try:
        import torch

        module = importlib.import_module(f"contestants.{name}")
        from workloads import Missing, flops_of, make
    except ImportError as error:
        print(json.dumps({"missing": f"{error.name} is not installed"}), file=answers, flush=True)
        return
    torch.set_num_threads(threads)
    try:
        work = make(workload, device)
    except Missing as missing:
        print(json.dumps({"missing": str(missing)}), file=answers, flush=True)
        return
    try:
        flops = flops_of(work) if name == "tutorial" and device != "cpu" else None
        contestant = module.Contestant(work)
        contestant.block(3)
        first = perf_counter() - started
        about = {"ready": first, "steps": work.steps, "batch": work.batch_size, "flops": flops}
        print(json.dumps(about), file=answers, flush=True)
        serve(contestant, work, answers)
    except Exception as error:  # the reason belongs to the table
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        print(json.dumps({"missing": reason}), file=answers, flush=True)
        raise


def serve(contestant, work, answers):
    """Train a block for each line that comes."""
    import torch
    from workloads import loss_of

    for line in sys.stdin:
        seconds = contestant.block(int(line.split()[1]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if work.device.type == "cuda":
            peak = torch.cuda.max_memory_reserved() / 2**20
        answer = {"seconds": seconds, "loss": loss_of(work), "peak_mb": peak}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
