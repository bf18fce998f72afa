"""What a classifier answered over a data set: the confusion matrix and the worst samples.

::

    predictions = lw.Predictions(classes=["cat", "dog"])
    for inputs, labels in run.evaluate(valid_loader):
        predictions.update(run.model(inputs), labels, inputs)
    run.add_to_report(predictions)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from loopwright.errors import DataError, UsageError
from loopwright.events import Classification, Worst
from loopwright.parallel import current
from loopwright.train.metrics.labels import Labels, count, read_labels
from loopwright.train.metrics.meters import class_dim
from loopwright.train.metrics.png import data_uri

__all__ = ["Predictions"]

_MOST_CLASSES = 1000


class Predictions:
    """Counts targets against predictions and keeps the samples with the largest loss.

    Nothing is read back from the device before ``record()``; of the inputs only the worst are kept.

    Args:
        classes: their names, or their number; None: numbered as the outputs have logits.
        worst: how many samples to keep.
        split: the data set's name on the page.
        image: from one sample's input to a picture ``(1 or 3, H, W)``; by default inputs that have
            that shape are pictures.
        text: from one sample's input to a line of text.
        ignore_index: targets of this value do not count.

    >>> predictions = Predictions(["no", "yes"])
    >>> predictions.update(torch.tensor([[2.0, 0.0], [3.0, 0.0]]), torch.tensor([0, 1]))
    >>> record = predictions.record()
    >>> record.counts, record.worst[0].predicted
    ([[1, 0], [1, 0]], 'no')
    """

    def __init__(
        self,
        classes: Sequence[str] | int | None = None,
        worst: int = 16,
        split: str = "valid",
        *,
        image: Callable[[Any], Tensor] | None = None,
        text: Callable[[Any], str] | None = None,
        ignore_index: int = -100,
    ) -> None:
        self.split = split
        self.worst = worst
        self.image = image
        self.text = text
        self.ignore_index = ignore_index
        self.names = (
            None
            if classes is None
            else [str(i) for i in range(classes)]
            if isinstance(classes, int)
            else [str(name) for name in classes]
        )
        self.reset()

    def reset(self) -> None:
        """Forget everything that was added."""
        self._counts: Tensor | None = None
        self._outside: Tensor | None = None
        self._kept: _Kept | None = None
        self._samples = 0

    @torch.no_grad()
    def update(
        self,
        logits: Tensor,
        target: Tensor,
        inputs: Any = None,
        index: Tensor | None = None,
    ) -> None:
        """Add a batch; no synchronisation.

        Args:
            logits: ``(N, C, ...)``, classes last, or one logit per target (see ``Accuracy``).
            target: classes ``(N, ...)``.
            inputs: the samples' inputs, first dimension N; shown for the worst.
            index: each sample's number in the data set ``(N,)``; by default they are numbered as
                they come, which is right for an unshuffled loader.

        Raises:
            UsageError: the shapes do not fit, or there are more logits than class names.
        """
        if current.PADDING:
            return
        with torch.autocast(logits.device.type, enabled=False):
            labels = read_labels(logits, target)
            self._count(labels)
            if self.worst > 0 and target.ndim and labels.target.shape[0] == target.shape[0]:
                kept = self._worst_of(logits, labels, inputs, index)
                self._kept = kept if self._kept is None else self._kept.merged(kept, self.worst)
        self._samples += target.shape[0] if target.ndim else 1

    def record(self) -> Classification:
        """Return names, counts and the worst samples (waits for the device).

        Raises:
            DataError: targets lay outside the classes.
        """
        outside = 0 if self._outside is None else int(self._outside)
        names = self.names or []
        if outside:
            raise DataError(
                f"{outside} targets of the {self.split} data lie outside the {len(names)} classes.",
                slug="metric-classes",
            )
        counts = [] if self._counts is None else self._counts.tolist()
        worst = [] if self._kept is None else list(self._rows(self._kept, names))
        return Classification(self.split, list(names), counts, worst)

    def _count(self, labels: Labels) -> None:
        if self.names is None:
            if labels.classes is None:
                raise UsageError(
                    "the outputs are classes instead of logits, and it is not said how many there are.",
                    slug="metric-classes",
                    hint="write Predictions(classes=10)",
                )
            self.names = [str(i) for i in range(labels.classes)]
        bins = len(self.names)
        if labels.classes is not None and labels.classes > bins:
            raise UsageError(
                f"the outputs have {labels.classes} classes and {bins} are named.",
                slug="metric-classes",
            )
        if bins > _MOST_CLASSES:
            raise UsageError(
                f"a confusion matrix of {bins} classes is larger than a page can show "
                f"({_MOST_CLASSES}).",
                slug="metric-classes",
            )
        predicted, target = labels.predicted, labels.target
        keep = target != self.ignore_index
        inside = keep & (target >= 0) & (target < bins) & (predicted < bins)
        counts = count(target * bins + predicted, bins * bins, inside).view(bins, bins)
        outside = (keep & ~inside).sum()
        self._counts = counts if self._counts is None else self._counts + counts
        self._outside = outside if self._outside is None else self._outside + outside

    def _worst_of(self, logits: Tensor, labels: Labels, inputs: Any, index: Tensor | None) -> _Kept:
        """Return the samples of one batch with the largest loss."""
        predicted, target = labels.predicted, labels.target
        valid = target >= 0
        if labels.classes is None:
            loss = (predicted != target).float()
            probability = torch.full_like(loss, torch.nan)
        elif labels.binary:
            logit = logits.detach().flatten().float()
            loss = binary_cross_entropy_with_logits(logit, target.float(), reduction="none")
            probability = torch.where(predicted == 1, logit.sigmoid(), (-logit).sigmoid())
        else:
            rows = logits.detach().movedim(class_dim(logits, labels.target), -1).float()
            valid &= target < rows.shape[-1]
            loss = cross_entropy(rows, torch.where(valid, target, 0), reduction="none")
            probability = rows.softmax(-1).amax(-1)
        # A NaN loss is the worst there is; a sample that does not count comes last.
        order = torch.where(valid, loss.nan_to_num(torch.inf, torch.inf), -torch.inf)
        best = order.topk(min(self.worst, len(order))).indices
        if index is None:
            index = torch.arange(self._samples, self._samples + len(loss), device=loss.device)
            if (world := current.WORLD) is not None:  # each rank has every size-th sample
                index = index * world.size + world.rank
        shown = None
        if isinstance(inputs, Tensor) and len(inputs) == len(loss):
            shown = inputs.detach().index_select(0, best.to(inputs.device))
        index = index.to(loss.device, non_blocking=True)
        return _Kept.picked((order, loss, probability, predicted, target, index), best, shown)

    def _rows(self, kept: _Kept, names: list[str]) -> Any:
        for row, number in enumerate(kept.order.tolist()):
            if number == -torch.inf:
                return
            shown = None if kept.inputs is None else kept.inputs[row]
            image = None
            if shown is not None and (self.image is not None or shown.ndim == 3):
                image = data_uri(self.image(shown) if self.image is not None else shown)
            yield Worst(
                index=int(kept.index[row]),
                target=names[int(kept.target[row])],
                predicted=names[int(kept.predicted[row])],
                probability=float(kept.probability[row]),
                loss=float(kept.loss[row]),
                image=image,
                text=None if self.text is None or shown is None else self.text(shown),
            )


class _Kept(NamedTuple):
    """Samples in the order of their loss, the largest first; ``inputs`` None where not all fit."""

    order: Tensor
    loss: Tensor
    probability: Tensor
    predicted: Tensor
    target: Tensor
    index: Tensor
    inputs: Tensor | None

    @classmethod
    def picked(cls, columns: Sequence[Tensor], best: Tensor, inputs: Tensor | None) -> _Kept:
        """Return the rows ``best`` of every column."""
        order, loss, probability, predicted, target, index = (column[best] for column in columns)
        return cls(order, loss, probability, predicted, target, index, inputs)

    def merged(self, other: _Kept, most: int) -> _Kept:
        """Return the ``most`` worst of both."""
        columns = [torch.cat(pair) for pair in zip(self[:-1], other[:-1], strict=True)]
        best = columns[0].topk(min(most, len(columns[0]))).indices
        inputs = None
        one, two = self.inputs, other.inputs
        if one is not None and two is not None and one.shape[1:] == two.shape[1:]:
            inputs = torch.cat((one, two)).index_select(0, best.to(one.device))
        return _Kept.picked(columns, best, inputs)
