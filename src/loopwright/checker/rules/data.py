"""Family F, data: order, repetition, change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loopwright.checker.rule import Rule
from loopwright.events import Finding

if TYPE_CHECKING:
    from loopwright.checker.accounts.books import Accounts


class TrainingDataNotShuffled(Rule):
    """The training data come in the same order in every epoch."""

    name = "training-data-not-shuffled"
    severity = "warning"
    about = (
        "The training loader does not shuffle: sorted classes, or the same order in every epoch."
    )

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for loader in accounts.data.loaders.values():
            if (
                not loader.sequential
                or loader.iterable
                or loader.trained < max(4, 0.5 * loader.fetches)
                or loader.epochs < 2
                or loader.single
            ):
                continue
            if loader.sorted_targets and len(loader.classes) >= 2 and loader.looked >= 3:
                yield self.finding(
                    loader.sites[0],
                    f"the training data come sorted by class, in the same order in all {loader.epochs} epochs",
                    why="whole stretches of steps see one class only, and the model forgets the others",
                    fix="DataLoader(dataset, batch_size=..., shuffle=True)",
                    count=loader.epochs,
                )
            elif loader.same_epochs >= 2 and loader.batches_per_epoch >= 3:
                yield self.finding(
                    loader.sites[0],
                    f"the training batches were the same, in the same order, in all {loader.epochs} epochs",
                    why="gradients of neighbouring samples stay correlated",
                    fix="DataLoader(dataset, batch_size=..., shuffle=True)",
                    count=loader.epochs,
                    severity="hint",
                )


class IteratorRecreated(Rule):
    """A new iterator for every batch."""

    name = "iterator-recreated"
    severity = "warning"
    about = (
        "next(iter(loader)) in the loop: a new iterator, and often the same batch, at every step."
    )

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for loader in accounts.data.loaders.values():
            if loader.longest_single < 4 or loader.trained < 4 or loader.size < 2:
                continue
            if loader.longest_single < 0.9 * (loader.epochs - 2):
                continue
            same = (
                f"; {loader.same_epochs + 1} of them gave the same batch"
                if loader.same_epochs > 2
                else ""
            )
            yield self.finding(
                loader.sites[-1],
                f"{loader.epochs} iterators were made, and one batch of {loader.size} was taken from each{same}",
                why="the loader is set up anew for every batch"
                + (", and the rest of the data is never seen" if same else ""),
                fix="for batch in loader:",
                count=loader.epochs,
            )


class IterableDatasetDuplicated(Rule):
    """Every worker yields the whole stream."""

    name = "iterable-dataset-duplicated"
    severity = "warning"
    about = "An IterableDataset that is not split over its workers: each of them yields everything."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for loader in accounts.data.loaders.values():
            if loader.worker_twins >= max(1, loader.workers - 1):
                yield self.finding(
                    loader.sites[0],
                    f"{loader.worker_twins} of the first batches were equal: each of the {loader.workers} workers yields "
                    "the whole stream",
                    why=f"every sample is trained on {loader.workers} times an epoch",
                    fix="split the stream by torch.utils.data.get_worker_info() in __iter__",
                    count=loader.worker_twins,
                )


class ValidatingOnTrainData(Rule):
    """The loader that is trained on is the only one that is evaluated."""

    name = "validating-on-train-data"
    severity = "hint"
    about = "The same loader is used for training and for evaluation, and no other."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        loaders = list(accounts.data.loaders.values())
        trained_on = {one.samples for one in loaders if one.trained >= 4} - {None}
        measured_on = [one for one in loaders if not one.trained and one.fetches]
        held_out = [one for one in measured_on if one.samples not in trained_on]
        for loader in loaders:
            both = [site for site in loader.sites if loader.site_steps.get(site, 0) == 0]
            trains = [site for site in loader.sites if loader.site_steps.get(site, 0) > 0]
            others = [one for one in measured_on if one is not loader]
            twin = next((one for one in others if one.samples == loader.samples), None)
            if twin and loader.samples and loader.trained >= 4 and not held_out:
                measured = max(twin.site_samples.values(), default=0)
                yield self.finding(
                    twin.sites[0],
                    f"the loader that is measured on gives the samples that are trained on: the same {measured:,} of one "
                    f"data set; training passes over them {loader.epochs} times, and nothing else is measured on",
                    why="the measurement says how well the data are remembered, not how well new data are predicted",
                    fix="evaluate on data that are held out",
                    related=((trains[0] if trains else loader.sites[0], "trained on here"),),
                )
            if both and trains and not others and loader.trained >= 4:
                measured = loader.site_samples.get(both[0], 0)
                seen = min(measured, loader.site_samples.get(trains[0], 0))
                figures = (
                    f": a measurement fetched {measured:,} samples, of which training fetches {seen:,} in a pass "
                    f"({seen / measured:.0%}), in {loader.site_epochs.get(trains[0], 0)} passes"
                )
                yield self.finding(
                    both[0],
                    "the loader that is trained on is also the only one that is evaluated"
                    + (figures if measured else ""),
                    why="the measurement says how well the data are remembered, not how well new data are predicted",
                    fix="evaluate on data that are held out",
                    related=((trains[0], "trained on here"),),
                )


class DatasetMutatedInPlace(Rule):
    """Fetching a sample changes the data set."""

    name = "dataset-mutated-in-place"
    severity = "error"
    about = (
        "__getitem__ writes into the tensors that the data set keeps: they change in every epoch."
    )

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for loader in accounts.data.loaders.values():
            for (name, epoch), seen in loader.mutations.items():
                if epoch >= 2 and seen.count >= 2:
                    yield self.finding(
                        loader.sites[0],
                        f"the data set's {name} changed while batches were fetched, in the second epoch too "
                        f"({seen.count} of the looked-at batches)",
                        why="a sample is another one in every epoch: each pass works on the result of the last",
                        fix="x = self.data[index].clone()",
                        count=seen.count,
                    )


class DuplicateWorkerRandomness(Rule):
    """All workers draw the same random numbers."""

    name = "duplicate-worker-randomness"
    severity = "warning"
    about = "A numpy or random generator kept by the data set is copied into every worker: all draw the same."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for loader in accounts.data.loaders.values():
            if loader.worker_generators and loader.workers > 1 and loader.trained >= 1:
                yield self.finding(
                    loader.sites[0],
                    f"the data set draws from a generator that it keeps ({loader.worker_generators}): each of the "
                    f"{loader.workers} workers begins with a copy of it in the same state",
                    why="all workers draw the same augmentation, and the same in every epoch",
                    fix="def worker_init_fn(i): torch.utils.data.get_worker_info().dataset.rng = "
                    "np.random.default_rng(torch.initial_seed())",
                    count=loader.workers,
                )


RULES = (
    TrainingDataNotShuffled, IteratorRecreated, IterableDatasetDuplicated, ValidatingOnTrainData,
    DatasetMutatedInPlace, DuplicateWorkerRandomness,
)  # fmt: skip
