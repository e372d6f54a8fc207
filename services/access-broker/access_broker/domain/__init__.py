"""The broker's rules: whether a license holds, and what a token may say. No clock, no ids, no connection."""
