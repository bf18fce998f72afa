"""All accounts of one process, wired to each other: what a rule is given."""

from __future__ import annotations

from typing import Any

from loopwright.checker.accounts.clips import Clips
from loopwright.checker.accounts.collectives import Collectives
from loopwright.checker.accounts.data import Data
from loopwright.checker.accounts.denormals import Denormals
from loopwright.checker.accounts.drawn import Drawn
from loopwright.checker.accounts.gradients import Gradients
from loopwright.checker.accounts.graphs import Graphs
from loopwright.checker.accounts.joining import Joining
from loopwright.checker.accounts.losses import Losses
from loopwright.checker.accounts.mixing import Mixing
from loopwright.checker.accounts.modes import Modes
from loopwright.checker.accounts.optimizers import Optimizers
from loopwright.checker.accounts.parameters import Parameters
from loopwright.checker.accounts.picks import Picks
from loopwright.checker.accounts.ranks import Ranks
from loopwright.checker.accounts.repeated import Repeated
from loopwright.checker.accounts.rescaled import Rescaled
from loopwright.checker.accounts.schedules import Schedules
from loopwright.checker.accounts.stuck import Stuck
from loopwright.checker.accounts.waits import Waits
from loopwright.checker.accounts.writes import Writes


class Accounts:
    """The books; ``complete`` is False where the observation ended before the program did."""

    def __init__(self, here: Any):
        self.optimizers = Optimizers()
        self.gradients = Gradients(self.optimizers)
        self.clips = Clips(self.gradients)
        self.repeated = Repeated(self.optimizers)
        self.parameters = Parameters(self.optimizers, here)
        self.rescaled = Rescaled(self.gradients)
        self.drawn = Drawn(self.optimizers)
        self.data = Data(self.gradients, self.drawn)
        self.losses = Losses(self.data, self.parameters)
        self.graphs = Graphs()
        self.modes = Modes(self.optimizers, here)
        self.schedules = Schedules(self.optimizers, self.losses)
        self.ranks = Ranks(self.optimizers, self.data, self.parameters)
        self.joining = Joining(self.optimizers, self.data, self.parameters)
        self.collectives = Collectives()
        self.waits = Waits()
        self.denormals = Denormals(self.optimizers)
        self.writes = Writes(self.optimizers, here)
        self.mixing = Mixing(here, self.data, self.parameters)
        self.picks = Picks()
        self.stuck = Stuck(self.optimizers, self.parameters)
        self.complete = True
        self.ended_well = True
        """The program ended by itself, without an exception."""

    def listeners(self) -> list[Any]:
        """In the order in which they hear of an event: parameters record inner calls before modes look."""
        return [
            self.optimizers,
            self.rescaled,  # what the gradient account forgets at the scaler's step
            self.clips,
            self.gradients,
            self.repeated,  # which asks what the step used
            self.parameters,
            self.losses,
            self.losses.targets,
            self.graphs,
            self.modes,
            self.drawn,
            self.data,
            self.schedules,
            self.ranks,
            self.joining,
            self.collectives,
            self.waits,
            self.denormals,
            self.writes,
            self.mixing,
            self.picks,
            self.stuck,
        ]
