"""`python -m governance` serves; `python -m governance migrate` brings the database to the newest schema."""

from governance.config import Config
from governance.main import MIGRATIONS, build
from rochdale_kit.server import run

run(Config, build, MIGRATIONS)
