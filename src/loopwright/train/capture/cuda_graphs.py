"""Recording kernels into CUDA graphs: on which stream, in which memory, and what a failure leaves."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from loopwright.train.capture.record import Refused


class CudaGraphs:
    """Records the graphs of one device; all share a pool of memory.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        """Run a block on the stream on which graphs are recorded: libraries are set up for it."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

    @contextmanager
    def recorded(self) -> Iterator[torch.cuda.CUDAGraph]:
        """Record the kernels of a block; none of them runs. The graph's ``replay()`` runs them.

        Raises:
            Refused: something in it cannot be recorded.
        """
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self._device)
        # As `torch.cuda.graph` does: what `warming_up` used on its stream, no other stream can have.
        torch.cuda.empty_cache()
        collecting = gc.isenabled()
        gc.disable()  # what is collected may call the driver, which ends a recording
        try:
            with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                try:
                    yield graph
                except BaseException:  # of any kind: a recording left open blocks the device
                    with suppress(RuntimeError):
                        graph.capture_end()
                    raise
                graph.capture_end()
        except RuntimeError as error:
            self._let_generators_go()
            reason = str(error).strip().partition("\n")[0]
            raise Refused(f"CUDA does not record it: {reason}") from error
        finally:
            if collecting:
                gc.enable()

    def _let_generators_go(self) -> None:
        """Tell the device's generator that nothing is recorded any more: a failed recording does not.

        Source: ``CUDAGraph.capture_end`` raises before it does so (torch 2.11); one that succeeds does it.
        """
        graph, something = torch.cuda.CUDAGraph(), torch.zeros(1, device=self._device)
        torch.cuda.synchronize(self._device)
        with torch.cuda.stream(self._stream), suppress(RuntimeError):
            graph.capture_begin(capture_error_mode="thread_local")
            something.zero_()
            graph.capture_end()
