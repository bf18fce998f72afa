"""Watching a PyTorch program that no one changed.

``swap`` puts a hook behind a function and takes it out again, ``sites`` says which line called,
``watch`` is the observer that hooks report to, ``points`` are the functions worth watching, ``graph`` and
``content`` read autograd graphs and tensors without touching them, ``startup`` and ``process`` bring the
observer into a program that runs on its own. What is seen are ``events.Event`` records; what they mean is
for the checker and the explainer to say.
"""
