"""Billing's RPCs, one file a noun, each told as load, decide, save, announce, reply."""
