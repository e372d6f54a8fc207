"""The gateway's rules: chains, tokens, ranges, addresses, versions. No clock, no ids, no connection."""
