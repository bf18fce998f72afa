"""Which statement of the program runs, in which turn of which of its loops."""
