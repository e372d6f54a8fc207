"""`python -m licensing` serves; `python -m licensing migrate` brings the database to the newest schema."""

from licensing.config import Config
from licensing.main import MIGRATIONS, build
from rochdale_kit.server import run

run(Config, build, MIGRATIONS)
