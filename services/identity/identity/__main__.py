"""`python -m identity` serves; `python -m identity migrate` brings the database to the newest schema."""

from identity.config import Config
from identity.main import MIGRATIONS, build
from rochdale_kit.server import run

run(Config, build, MIGRATIONS)
