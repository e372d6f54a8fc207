"""Public registers, asked over HTTP. What an entry means for a category is domain/categories."""

from licensing.registers.ask import Answer, Ask
from licensing.registers.book import Found, Registers

__all__ = ["Answer", "Ask", "Found", "Registers"]
