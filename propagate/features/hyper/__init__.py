"""Maps of many layers and diffusion steps as one, by a learned aggregation."""
