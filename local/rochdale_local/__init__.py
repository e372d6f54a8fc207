"""The one-machine edition: the real servers and all services on one computer; holds no rule of the market."""
