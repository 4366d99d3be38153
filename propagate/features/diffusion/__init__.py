"""DIFT: features of a denoising network at one noise level. Loads torch; import parts late."""
