"""What a run shares with its whole process: generators, signals, the allocator, other runs."""
