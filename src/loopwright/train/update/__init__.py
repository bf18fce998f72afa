"""From the loss to the optimizer's step: backward, windows, precision, clipping, schedules, nan."""
