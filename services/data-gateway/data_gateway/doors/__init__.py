"""The gateway's HTTP side: each door asks enforcement, and none decides by itself."""
