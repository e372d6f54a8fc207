"""`python -m catalog` serves; `python -m catalog migrate` brings the database to the newest schema."""

from catalog.config import Config
from catalog.main import MIGRATIONS, build
from rochdale_kit.server import run

run(Config, build, MIGRATIONS)
