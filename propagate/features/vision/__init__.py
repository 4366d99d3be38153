"""Features of the vision models that `transformers` has."""
