"""Many scenes: what is known of them, kept in one file, and found in folders, products and STAC."""
