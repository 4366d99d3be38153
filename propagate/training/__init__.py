"""Training of the few parts of the program that learn."""
