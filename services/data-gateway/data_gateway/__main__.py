"""`python -m data_gateway` serves; `python -m data_gateway migrate` brings the database to the newest schema."""

from data_gateway.config import Config
from data_gateway.main import MIGRATIONS, build
from rochdale_kit.server import run

run(Config, build, MIGRATIONS)
