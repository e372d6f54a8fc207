"""`python -m storefront` serves; `migrate` has nothing to do, because the storefront keeps nothing."""

from rochdale_kit.server import run
from storefront.config import Config
from storefront.main import MIGRATIONS, build

run(Config, build, MIGRATIONS)
