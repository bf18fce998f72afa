"""How a for loop was left: by break or return, or by an exception; told from the frame that left it."""

from __future__ import annotations

import dis
import gc
from types import FrameType, TracebackType

_LEFT = {"POP_TOP", "RETURN_VALUE", "RETURN_CONST", "END_FOR", "POP_ITER"}
_SUSPENDED = {"YIELD_VALUE", "RESUME", "SEND"}


def frame_that_left(frame: FrameType | None) -> FrameType | None:
    """Return the frame whose for loop dropped the iterator, from the one that closed it.

    A generator in between (tqdm's) is itself being closed, at a yield: the frame below it tells. One
    that is running is where the for loop stands.
    """
    while (
        frame is not None and frame.f_code.co_flags & 0x20  # CO_GENERATOR
        and _instruction(frame) in _SUSPENDED
    ):  # fmt: skip
        frame = frame.f_back
    return frame


def left_without_exception(frame: FrameType | None) -> bool:
    """Return whether a for loop was left by break or return.

    The interpreter drops the iterator in a ``POP_TOP`` for break and return; an exception drops it
    while the frame stands at the call or raise that failed. At a ``FOR_ITER`` something around the
    loop came to its end (``islice``, a shorter part of ``zip``) or failed; then the exception has
    put that very instruction into its traceback.
    """
    if frame is None or frame.f_lasti < 0:
        return False
    instruction = _instruction(frame)
    if instruction == "FOR_ITER":
        return not any(
            isinstance(x, TracebackType) and x.tb_frame is frame and x.tb_lasti == frame.f_lasti
            for x in gc.get_referrers(frame)
        )
    return instruction in _LEFT


def _instruction(frame: FrameType) -> str:
    return dis.opname[frame.f_code.co_code[frame.f_lasti]]
