"""Orders of every kind, invoices, shares."""

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    pass
