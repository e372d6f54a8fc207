"""`python -m billing` serves; `python -m billing migrate` brings the database to the newest schema."""

from billing.config import Config
from billing.main import MIGRATIONS, build
from rochdale_kit.server import run

run(Config, build, MIGRATIONS)
