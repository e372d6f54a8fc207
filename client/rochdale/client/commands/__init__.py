"""The commands, one file a noun. Each has an `app` that cli.py finds by the name of its file."""
