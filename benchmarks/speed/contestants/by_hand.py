"""The best that can be written by hand for one GPU: the data there, the whole step one CUDA graph.

It shuffles on the device, which no ``DataLoader`` does, and drops the last batch, which has another shape: a
limit, not a loop that anybody would want to maintain. On a CPU it is not run.
"""

from __future__ import annotations

from time import perf_counter

import torch


class Contestant:
    """Static tensors, a graph, a fused optimizer."""

    def __init__(self, work):
        self.work = work
        plain = work.optimizer(iter(work.model.parameters()))
        options = {"lr": plain.defaults["lr"], "fused": True}
        options |= {
            k: plain.defaults[k] for k in ("momentum", "weight_decay") if k in plain.defaults
        }
        if "capturable" in plain.defaults:
            options["capturable"] = True
        self.optimizer = type(plain)(work.model.parameters(), **options)
        self.data = [tensor.to(work.device) for tensor in work.data.tensors]
        self.batch = [tensor[: work.batch_size].clone() for tensor in self.data]
        self.total = torch.zeros((), device=work.device)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.step()

    def step(self):
        """One step on the static batch."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.work.criterion(self.work.model(self.batch[0]), self.batch[1])
        loss.backward()
        self.optimizer.step()
        self.total += loss.detach()

    def block(self, steps):
        """Replay so many."""
        size, done = self.work.batch_size, 0
        started = perf_counter()
        while done < steps:
            order = torch.randperm(len(self.data[0]), device=self.work.device)
            for rows in order.split(size):
                if len(rows) < size or done == steps:
                    break
                for static, tensor in zip(self.batch, self.data, strict=True):
                    torch.index_select(tensor, 0, rows, out=static)
                self.graph.replay()
                done += 1
        self.work.settle()
        return perf_counter() - started
