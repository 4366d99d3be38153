"""Evaluation on data sets in their own layouts."""
