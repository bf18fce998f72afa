"""What a person sees while a run trains: bars, lines, notices of waiting."""
