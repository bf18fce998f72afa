"""What a run writes and reads: checkpoints that survive anything, in safetensors and JSON, no pickle.

====================  =====================================================================
`Store`               checkpoints in a folder: save, load with verification, retention
`RunLock`             one process per run folder; dies with its owner
`save_weights`,       a model's weights as one safetensors file; any safetensors file back
`load_weights_file`
`encode`, `decode`    state trees as JSON and named tensors
`size_of`             bytes of a checkpoint before it is written; refuses what cannot be stored
`verify`,             what is wrong with one checkpoint folder, with one file of weights
`verify_weights`
====================  =====================================================================
"""

from __future__ import annotations

from loopwright.checkpoint.format import size_of
from loopwright.checkpoint.lock import LockedError, RunLock, SameProcess
from loopwright.checkpoint.manifest import DamagedCheckpoint, verify
from loopwright.checkpoint.store import Loaded, Store
from loopwright.checkpoint.tree import UnsupportedState, decode, encode
from loopwright.checkpoint.weights import load_weights_file, save_weights, verify_weights

__all__ = [
    "DamagedCheckpoint",
    "Loaded",
    "LockedError",
    "RunLock",
    "SameProcess",
    "Store",
    "UnsupportedState",
    "decode",
    "encode",
    "load_weights_file",
    "save_weights",
    "size_of",
    "verify",
    "verify_weights",
]
