"""Before a prune its plan, after it its ledger."""
