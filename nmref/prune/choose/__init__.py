"""Which weights stay: scores, masks, orders of channels, N of every layer."""
