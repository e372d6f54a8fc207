"""The gateway's tables and the only queries on them, one file per noun."""
