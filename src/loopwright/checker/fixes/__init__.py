"""Rewriting a program where the fix of a finding is sure.

``source`` is one file of the program as a syntax tree, ``edits`` are the changes that can be made to it,
``order``, ``modes``, ``bookkeeping`` and ``losses`` say which edits fix a finding, ``propose`` brings them
together and writes files. A fix reads the program's text, as a person would who follows the finding; a rule
never does.

Nothing here is imported before somebody asks for a fix: the trees are libcst's.
"""
