"""Licensing: licensees, quotes, negotiations, and the licenses that come of them."""
