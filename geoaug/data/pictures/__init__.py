"""What was read, as pictures: contact sheets, batches, catalogs on a map."""
