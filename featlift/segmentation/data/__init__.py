"""What a head is given of a store."""
