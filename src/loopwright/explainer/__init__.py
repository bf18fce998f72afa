"""What each line of a program's own loop did to real tensors.

In the program: ``source`` knows its statements and loops, ``lines`` follows them while they run, ``turns``
decides which turns of which loop are recorded, ``state`` compares tensors from statement to statement,
``calls`` hears the observer's events, ``record`` puts all of it together. ``rule``, ``graph``, ``memory``,
``replay`` and ``timing`` look closer. Afterwards, without torch: ``narrate`` turns numbers into sentences,
``compare`` two records into their differences.
"""
