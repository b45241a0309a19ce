"""The files that the filter reads: maps, their entries, and keys, with their permissions."""
