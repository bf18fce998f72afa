"""``--nproc N``: torchrun's elastic agent in this process, for one machine."""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence
from typing import Any


def is_launched() -> bool:
    """Whether this process is one of several already."""
    return os.environ.get("WORLD_SIZE", "1") != "1" or "TORCHELASTIC_RUN_ID" in os.environ


def launch(module: str, words: Sequence[str], *, processes: int, restarts: int = 0) -> int:
    """Run ``python -m MODULE WORDS`` in several processes that train one model; returns the exit code.

    It is what ``torchrun --standalone --nproc-per-node N -m MODULE WORDS`` does, with the exit code of the
    process that failed first, and the agent's own log left out: what went wrong, that process has said.

    Args:
        module: what each process runs.
        words: its arguments.
        processes: how many.
        restarts: times that all are started again when one has failed.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # torchrun's own default is 1; the bits depend on it, and it stands in the run's record.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    # What torchrun makes of --standalone; not its own parser, which takes our flags for its own.
    more: dict[str, Any] = {}
    if "SLURM_JOB_ID" in os.environ and hasattr(LaunchConfig, "signals_to_handle"):
        # Its warning that the time is nearly up goes on to the ranks, which save and end.
        more["signals_to_handle"] = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2"
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=str(uuid.uuid4()),
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=restarts,
        logs_specs=DefaultLogsSpecs(), **more,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-u", "-m", module, *words)
    except SignalException as error:
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        ends = sorted(
            (failure.exitcode > 0, failure.timestamp, rank, failure.exitcode)
            for rank, failure in error.failures.items()
            if failure.exitcode != -signal.SIGTERM or len(error.failures) == 1
        )  # one that a signal has ended could not say so itself
        _, _, rank, code = ends[0] if ends else (0, 0, 0, -signal.SIGTERM)
        if code < 0:
            name = signal.Signals(-code).name
            print(f"rank {rank} of {processes} was ended by {name}", file=sys.stderr)
        return code if code >= 0 else 128 - code
    return 0
