"""What an observed program did, kept in accounts, and what rules conclude from them.

``accounts/`` listen to ``observe`` and keep books: gradients, parameters, losses, graphs, modes, data,
schedules and checkpoints, ranks. ``rules/`` read the books and nothing else; each makes findings.
``session`` is one check of one process, ``process`` begins one in a program that runs on its own,
``merge`` brings the processes of a program together.
"""
