"""`python -m stripe_simulator`: the simulator as a process of its own."""

import argparse
from pathlib import Path

import uvicorn

from .simulator import StripeSimulator


def main() -> None:
    """Serves until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="stripe_simulator", description="A stand-in for Stripe's API.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; keep it on loopback")
    parser.add_argument("--port", type=int, default=12111)
    parser.add_argument("--webhook-url", help="where every event is sent")
    parser.add_argument("--webhook-secret", help="whsec_… that signs them")
    parser.add_argument("--state", type=Path, help="journal file to resume from and write to")
    parser.add_argument("--public-url", help="the address buyers' browsers reach this server by")
    chosen = parser.parse_args()
    if chosen.webhook_url and not chosen.webhook_secret:
        parser.error("--webhook-url needs --webhook-secret; without one anybody could forge a webhook.")
    simulator = StripeSimulator(
        state_path=chosen.state,
        webhook_url=chosen.webhook_url,
        webhook_secret=chosen.webhook_secret,
        public_url=chosen.public_url,
    )
    uvicorn.run(simulator.app, host=chosen.host, port=chosen.port, http="h11", ws="none", access_log=False)


if __name__ == "__main__":
    main()
