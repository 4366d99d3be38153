"""Inner loops compiled on the machine that runs them, in C or Triton; optional."""
