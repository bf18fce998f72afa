"""The accounts: what is recorded while a program runs (docs/check-how-it-works.md).

Every account is a listener of ``observe.watch.Observer`` and keeps bounded books: counts by place, a few
examples, weak references. Nothing here keeps a tensor, a graph or a batch of the program alive.
"""
