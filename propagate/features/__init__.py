"""Feature extractors: one file per backbone, a registry, and the rolling cache around them."""
