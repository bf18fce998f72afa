"""``run.evaluate``: validation that leaves no trace in training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from time import perf_counter
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from loopwright.errors import DataError
from loopwright.train.callsite import user_frame
from loopwright.train.data.loaders import kind_of
from loopwright.train.data.source import Source
from loopwright.train.leaving import frame_that_left, left_without_exception
from loopwright.train.process import randomness

if TYPE_CHECKING:
    from loopwright.train.run import Run


class Evaluation:
    """Batches of a loader with every model in eval mode, no gradients, and generators of its own.

    Whatever ends the ``for``, exactly what was there before is there again: each module's mode, the
    state of every generator (the loader's own included), the raw weights where an average was
    swapped in, the grad mode.
    """

    def __init__(self, run: Run, loader: Any, batch_size: int | None, *, sharded: bool = False):
        self._run = run
        self._source: Source = run.parts.source(
            loader, batch_size=batch_size, sharded=sharded, resumable=False
        )

    def __len__(self) -> int:
        if self._source.length is None:
            raise TypeError(f"{type(self._source.loader).__name__} has no length")
        return self._source.length

    def __iter__(self) -> Iterator[Any]:
        # A fresh hidden iterator: nobody else can keep it alive, so a break closes it at once.
        return self._batches(user_frame() or sys._getframe(1))

    def _batches(self, frame: FrameType) -> Iterator[Any]:
        run, source = self._run, self._source
        modes = [(m, m.training) for model in run.models.values() for m in model.modules()]
        region = None
        complete = False
        started = perf_counter()
        run.lifecycle.evaluation_begins(frame, source)
        with (
            randomness.fork(run.device),
            source.own.forked(),
            run.averaged(),
            torch.no_grad(),
            run.parts.evaluating(run, source),
        ):
            try:
                for model in run.models.values():
                    model.eval()
                run.precision.forget_weights()
                if not torch.is_autocast_enabled(run.device.type):
                    region = run.precision.region()
                    if region is not None:
                        region.__enter__()
                source.start_epoch()
                count = 0
                while True:
                    run.signals.check_in_evaluation()
                    run.signals.waits_for_data = True
                    try:
                        batch = source.fetch()
                    except StopIteration:
                        break
                    finally:
                        run.signals.waits_for_data = False
                    sent = run.transfer.send(batch)
                    count += 1
                    batch = run.transfer.receive(sent)
                    yield batch
                if count == 0 and source.owes_batches:
                    raise DataError(
                        f"the {kind_of(source.loader)} of this evaluation gave no batch",
                        slug="empty-loader",
                        hint="an evaluation over nothing has no mean: leave it out, or mend the data",
                    )
                complete = True
            except GeneratorExit:
                left = frame_that_left(sys._getframe(1))
                if left is not None and not left_without_exception(left):
                    from loopwright.train.mishaps.turn import evaluation_left

                    evaluation_left(run, source, batch, count, left)  # pyrefly: ignore[unbound-name]
                raise
            finally:
                if region is not None:
                    region.__exit__(*sys.exc_info())
                source.close()
                for module, mode in modes:
                    module.training = mode
                run.precision.forget_weights()
                run.lifecycle.evaluated(perf_counter() - started)
        if complete:
            run.fire("validation")
