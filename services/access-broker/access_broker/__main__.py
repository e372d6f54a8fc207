"""`python -m access_broker` serves; `python -m access_broker migrate` brings the database to the newest schema."""

from access_broker.config import Config
from access_broker.main import MIGRATIONS, build
from rochdale_kit.server import run

run(Config, build, MIGRATIONS)
