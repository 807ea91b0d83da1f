"""Tiles as training samples: datasets, and loaders that read ahead."""
