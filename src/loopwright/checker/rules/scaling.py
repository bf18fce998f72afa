"""Family A, clipping and scaling: what is done to gradients between backward and step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loopwright.checker.rule import Rule, grouped
from loopwright.events import Finding

if TYPE_CHECKING:
    from loopwright.checker.accounts.books import Accounts
    from loopwright.checker.accounts.tally import Seen, Tally


class ClipMisplaced(Rule):
    """Gradients are clipped when there are none, or after they were used."""

    name = "clip-misplaced"
    severity = "error"
    about = "clip_grad_norm_ or clip_grad_value_ stands before backward() or after step(), or gets nothing."
    follows = (
        "zero-grad-after-backward",
        "missing-step",
        "missing-backward",
        "step-before-backward",
    )

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        clips = accounts.clips.seen
        yield from self._given_nothing(clips)
        yield from self._too_early(clips)
        for site in dict.fromkeys(key[0] for key, _ in clips.items()):
            fresh, used, nothing = (
                clips.get((site, state)) for state in ("fresh", "used", "nothing")
            )
            late, early = used.count, nothing.count
            if fresh.count > 0.1 * (late + early) or late + early < 2:
                continue
            if not _limits(used if used.facts else nothing):
                continue
            seen = used if late >= early else nothing
            when = (
                "after the step had used the gradients"
                if seen is used
                else "before there were gradients"
            )
            norm = (
                f"; their norm was up to {used.facts['norm']:.3g}, the limit is {used.facts['limit']:g}"
                if "norm" in used.facts
                else ""
            )
            yield self.finding(
                site,
                f"{late + early} of {late + early + fresh.count} times the gradients were clipped {when}{norm}",
                why="no step has ever used a clipped gradient",
                fix="loss.backward()\ntorch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)\noptimizer.step()",
                count=late + early,
                related=((seen.sites.get("backward"), "backward makes the gradients"),),
                sites={"step": seen.facts["entry"].usual_step()},
            )

    def _given_nothing(self, clips: Tally) -> Iterator[Finding]:
        """An iterator that was read before: by the optimizer, or by the first clipping."""
        for (site, state), seen in clips.items():
            if state == "spent" and seen.count >= 2 and _limits(seen):
                entry = seen.facts["entry"]
                yield self.finding(
                    site,
                    f"{seen.count} times the clipping was given an iterator that has nothing left: it was read to its end "
                    "before",
                    why="no gradient is clipped",
                    fix="parameters = [p for p in model.parameters() if p.requires_grad]  # a list, not a generator",
                    count=seen.count,
                    related=((entry.site, "the optimizer reads its parameters here"),),
                )

    def _too_early(self, clips: Tally) -> Iterator[Finding]:
        """Clipped after each pass of a window, though the step uses their sum."""
        for (site, state), seen in clips.items():
            if state == "within" and seen.count >= 2 and _limits(seen):
                entry = seen.facts["entry"]
                yield self.finding(
                    site,
                    f"{seen.count} times the gradients were clipped again after another backward pass had added to what "
                    "was clipped: within a window of several passes, not at its end",
                    why="each clipping shrinks the batches before it and not those after it: they count unequally",
                    fix="torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)  # once, right before the step",
                    count=seen.count,
                    related=(
                        (seen.sites.get("backward"), "backward adds to it"),
                        (entry.usual_step(), "the step uses the sum"),
                    ),
                )


def _limits(seen: Seen) -> bool:
    """Is it more than a measurement of the norm?"""
    limit = seen.facts.get("limit")
    return isinstance(limit, (int, float)) and limit < 1e4


class ClipWithoutUnscale(Rule):
    """Scaled gradients are clipped as if they were not."""

    name = "clip-without-unscale"
    severity = "error"
    about = "Gradients are clipped while they are multiplied by the GradScaler's scale."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for (site, state), seen in accounts.clips.seen.items():
            if state == "scaled" and seen.count >= 2:
                norm = seen.facts.get("norm")
                told = f", norm {norm:.3g}" if norm is not None else ""
                yield self.finding(
                    site,
                    f"{seen.count} times the gradients were clipped while still multiplied by the scaler's factor{told}",
                    why="the limit applies to the scaled gradients: every update is shrunk by the scale",
                    fix="scaler.unscale_(optimizer)\ntorch.nn.utils.clip_grad_norm_(...)",
                    count=seen.count,
                    sites={"step": seen.facts["entry"].usual_step()},
                )
        for order, what, value, scale in accounts.rescaled.limited():
            site = accounts.rescaled.sites[order]
            times = accounts.rescaled.times[order]
            yield self.finding(
                site,
                f"the gradients were limited by hand while still multiplied by the scaler's factor, {scale:g}: their {what} "
                f"was {value:.3g} at each of the {times} steps that were looked at",
                why="the limit applies to the scaled gradients: every update is shrunk by the scale",
                fix="scaler.unscale_(optimizer)  # before the gradients are read",
                count=times,
            )


class ScalerBypassed(Rule):
    """Scaled gradients go into a step that nobody unscales."""

    name = "scaler-bypassed"
    severity = "error"
    about = "The loss is scaled by a GradScaler, and the optimizer is stepped without it."

    def findings(self, accounts: Accounts) -> Iterator[Finding]:
        for entry in grouped(accounts.optimizers.entries, "scaler bypassed"):
            seen = entry.tally.get("scaler bypassed")
            if seen.count >= (2 if accounts.ended_well else 1):  # update() raises after the first
                yield self.finding(
                    seen.sites["step"],
                    f"{seen.count} steps used gradients that were still multiplied by the scaler's factor",
                    why="the updates are too large by the scale, and infinite gradients are not skipped",
                    fix="scaler.step(optimizer)\nscaler.update()",
                    count=seen.count,
                    related=((seen.sites.get("backward"), "backward of the scaled loss"),),
                )


RULES = (ClipMisplaced, ClipWithoutUnscale, ScalerBypassed)
