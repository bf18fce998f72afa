"""What is done with models beside training them: parts by name, averages, best weights, summaries."""
