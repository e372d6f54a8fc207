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
    parser.add_argument("--webhook-url", help="where every event of the platform is sent")
    parser.add_argument("--webhook-secret", help="whsec_… that signs them")
    parser.add_argument("--connect-webhook-url", help="where every event of connected accounts is sent")
    parser.add_argument("--connect-webhook-secret", help="whsec_… that signs those")
    parser.add_argument("--state", type=Path, help="journal file to resume from and write to")
    parser.add_argument("--public-url", help="the address buyers' browsers reach this server by")
    chosen = parser.parse_args()
    for name in ("webhook", "connect-webhook"):
        given = vars(chosen)
        if given[f"{name}-url".replace("-", "_")] and not given[f"{name}-secret".replace("-", "_")]:
            parser.error(f"--{name}-url needs --{name}-secret; without one anybody could forge a webhook.")
    simulator = StripeSimulator(
        state_path=chosen.state,
        webhook_url=chosen.webhook_url,
        webhook_secret=chosen.webhook_secret,
        connect_webhook_url=chosen.connect_webhook_url,
        connect_webhook_secret=chosen.connect_webhook_secret,
        public_url=chosen.public_url,
    )
    uvicorn.run(simulator.app, host=chosen.host, port=chosen.port, http="h11", ws="none", access_log=False)


if __name__ == "__main__":
    main()
