"""One per cooperative: ingestion, versions, and the door through which data leaves."""
