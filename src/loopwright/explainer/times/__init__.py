"""Where a step's time goes, without ours, and what would make it shorter."""
