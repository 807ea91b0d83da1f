"""A catalog as the data of a training."""
