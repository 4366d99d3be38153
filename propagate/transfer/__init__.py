"""Labels of images of other instances in, a labelled clip out: semantic matching, then a run."""
