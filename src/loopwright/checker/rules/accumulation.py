"""Family A, accumulation: several backward passes for one step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from loopwright.checker.rule import Rule
from loopwright.events import Finding

if TYPE_CHECKING:
    from loopwright.checker.accounts.books import Accounts
    from loopwright.checker.accounts.optimizers import Entry


class AccumulationNotScaled(Rule):
    """Several whole batches are summed into one step."""

    name = "accum-not-scaled"
    severity = "warning"
    about = "Gradients of several batches are added up without dividing the loss."
    follows = ("missing-zero-grad", "gradients-discarded")

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for entry in accounts.optimizers.entries:
            windows = {
                key[1]: seen
                for key, seen in entry.tally.items()
                if isinstance(key, tuple) and key[0] == "window"
            }
            counts: Counter[int] = Counter()
            for key, seen in windows.items():
                if len(key) == 1:
                    counts[key[0][1]] += seen.count
            if not counts or entry.tally.get("altered by hand").count:
                continue
            size, times = counts.most_common(1)[0]
            sites = [key[0][0] for key in windows if len(key) == 1 and key[0][1] == size]
            backward = sites[0] if len(sites) == 1 else None
            facts = accounts.losses.unscaled.get(backward) if backward is not None else None
            if (
                size < 2
                or times < 2
                or facts is None
                or facts.means < 0.9 * facts.passes
                or facts.fetches < 0.9 * facts.passes
            ):
                continue
            yield self.finding(
                backward,
                f"each step adds up {size} batches whose losses are means and are not divided by {size}",
                why=f"the gradient is {size} times as large as the batches' mean: so is the step, and the clipping acts on it",
                fix=f"(loss / {size}).backward()",
                count=times,
                related=((entry.usual_step(), f"uses {size} backward passes at once"),),
            )


class AccumulationLeftover(Rule):
    """The last, shorter window of an epoch is lost or leaks into the next."""

    name = "accum-leftover"
    severity = "warning"
    about = "The last incomplete accumulation window of an epoch is thrown away, or leaks into the next epoch."
    follows = ("missing-zero-grad", "gradients-discarded", "zero-grad-after-backward")

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for (backward, zero, kind, _), seen in accounts.gradients.discarded.items():
            entry = seen.facts["entry"]
            if (
                kind == "left over"
                and seen.count >= 2
                and accounts.gradients.consumed[backward] > seen.count
            ):
                yield self.finding(
                    zero,
                    f"at the end of an epoch gradients that no step had used were cleared, {seen.count} batches in all",
                    why="the last, shorter window of every epoch is computed and thrown away",
                    fix="if (i + 1) % accumulate == 0 or i + 1 == len(loader):\n    optimizer.step()",
                    count=seen.count,
                    related=(
                        (backward, "backward made them"),
                        (entry.usual_step(), "steps only full windows"),
                    ),
                )
        for entry in accounts.optimizers.entries:
            sizes = Counter({key[1]: seen.count for key, seen in entry.tally.items()
                             if isinstance(key, tuple) and key[0] == "leaked"})  # fmt: skip
            usual: Counter[int] = Counter()
            for key, seen in entry.tally.items():
                if isinstance(key, tuple) and key[0] == "window":
                    usual[sum(count for _, count in key[1])] += seen.count
            if not usual:
                continue
            size = usual.most_common(1)[0][0]
            if not sizes:
                yield from self._regular(entry)
                continue
            larger = [n for n in sizes if n > size]
            if size >= 2 and larger and sum(sizes[n] for n in larger) >= 2:
                seen = entry.tally.get(("leaked", larger[0]))
                yield self.finding(
                    seen.sites["step"],
                    f"the first step of an epoch used {larger[0]} batches instead of {size}: "
                    f"{larger[0] - size} were left over from the epoch before",
                    why="the last, shorter window of an epoch leaks into the next one's first update",
                    fix="if (i + 1) % accumulate == 0 or i + 1 == len(loader):\n    optimizer.step()",
                    count=sum(sizes[n] for n in larger),
                    related=((seen.sites.get("backward"), "backward adds to what was left"),),
                )

    def _regular(self, entry: Entry) -> Iterator[Finding]:
        """Without a loader: every so many windows one is larger, always by as much, and none is smaller."""
        counted = Counter(entry.sizes)
        if len(counted) != 2 or len({site for site, _ in counted}) != 1:
            return
        ((backward, size), times), ((_, larger), often) = counted.most_common()
        at = [number for number, (_, one) in enumerate(entry.sizes) if one == larger]
        gaps = {after - before for before, after in pairwise(at)}
        if size < 2 or not size < larger < 2 * size or often < 3 or len(gaps) != 1 or gaps == {1}:
            return
        step = entry.usual_step()
        assert step is not None
        yield self.finding(
            step,
            f"{times} steps used {size} batches, and every {gaps.pop()}th {larger}: {larger - size} were left over from "
            "the round before",
            why="the last, shorter window of a round leaks into the next one's first update",
            fix="if (i + 1) % accumulate == 0 or i + 1 == len(batches):\n    optimizer.step()",
            count=often,
            related=((backward, "backward adds to what was left"),),
        )


RULES = (AccumulationNotScaled, AccumulationLeftover)
