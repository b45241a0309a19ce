"""The files that the filter reads: maps, their entries, keys, and who may read and write them."""
