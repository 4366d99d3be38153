"""One file per family of models; each has a `FAMILY`, and is found by being here."""
