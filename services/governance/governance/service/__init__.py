"""Governance's RPCs, one file a service of the contract, each told as load, decide, save, announce, reply."""
