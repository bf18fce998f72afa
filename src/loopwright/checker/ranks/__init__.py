"""What only all ranks of a program together show: compared when their processes have ended."""
