"""What is said when something of the user's fails: which turn, samples and batch, why, and what to do.

==============  =================================================================================
`turn`          the facts of the turn that an exception left, added to it as notes
`describe`      batches and samples in words
`hints`         what torch's messages mean and what to write instead
`memory`        out of memory: how much was asked for, the largest tensors that are alive
`fetching`      which sample of a batch raised
`fitting`       which samples of a batch do not fit together
`dead_workers`  how a worker process died
==============  =================================================================================

Imported when something has failed, never before.
"""
