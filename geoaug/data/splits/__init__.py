"""Parts of a catalog to train on and to test on, which keep their distance on the ground."""
