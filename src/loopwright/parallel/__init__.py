"""Many processes that train one model: torchrun's contract, PyTorch's process groups, DDP, FSDP2.

=================  =============================================================================
`torchrun`         what the environment says: rank, world size, where to meet
`group`            meet, with a clear message where a rank is missing; the group's end
`world`            what this process may ask of all ranks: exchange, the first rank's word, sums
`wrapping`         DDP around a model, synchronised only where an update is due
`sharding`         FSDP2 in a model
`reduction`        gradients of several models
`shares`           each rank's share of any loader
`apart`            random numbers of each rank's own
`failures`         another rank's end, or its silence, in plain words
`standing`         where each rank stands
`launch`           ``--nproc N``: torchrun's elastic agent in this process
=================  =============================================================================

A program that trains in one process imports `current` alone, which says that there is nobody else.
"""
