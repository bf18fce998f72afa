"""One file a contestant: a class ``Contestant(work)`` whose ``block(steps)`` trains and returns seconds.

Seconds run from entering the loop to the last update. Each is written as its users would write it, with
what it does by default; what was switched off is said in its docstring.
"""
