"""The catalog: datasets, versions, offerings, search."""
