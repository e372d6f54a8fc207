"""Governance: cooperatives, their members, and the sharing rules that everything else must stay inside."""
