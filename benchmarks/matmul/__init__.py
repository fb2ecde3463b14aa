"""Products with N:M weights against dense and sparse peers, each in a process of its own."""
