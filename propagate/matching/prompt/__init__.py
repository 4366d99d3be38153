"""Matching by prompts that are optimised to point at a place (Hedlin et al., NeurIPS 2023)."""
