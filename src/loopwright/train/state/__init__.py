"""What a run saves and puts back, when, and what makes two commands the same run."""
