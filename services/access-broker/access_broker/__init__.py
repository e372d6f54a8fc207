"""The access broker: grants, time-limited scoped tokens, and the feed by which access is cut off."""
