"""What embeddings tell of a label: k-nearest neighbours and linear probes."""
