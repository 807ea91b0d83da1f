"""One pass over all pixels: where scenes are valid, which classes lie where, and statistics of bands."""
