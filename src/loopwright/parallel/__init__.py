"""Many processes that train one model: torchrun's contract, PyTorch's process groups, DDP, FSDP2.

=================  =============================================================================
`torchrun`         what the environment says: rank, world size, where to meet
`group`            meet, with a clear message where a rank is missing; the group's end
`world`            what this process may ask of all ranks: exchange, the first rank's word, sums
`wrapping`         DDP around a model, synchronised only where an update is due
`shares`           each rank's share of any loader
`apart`            random numbers of each rank's own
`launch`           ``--nproc N``: torchrun's elastic agent in this process
=================  =============================================================================

Nothing here is imported in a program that trains in one process.
"""
