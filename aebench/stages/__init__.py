"""What DVC runs: read records, call models and evaluation, write records."""
