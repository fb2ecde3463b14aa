"""To and from other forms of the same weights."""
