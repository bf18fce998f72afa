"""A recorded step run once more on copies, with one thing changed."""
