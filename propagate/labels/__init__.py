"""Label codecs and file formats."""
