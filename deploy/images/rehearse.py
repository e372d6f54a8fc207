"""Walks the Dockerfile's build stage without a container engine, for one service, in a folder that is deleted again.

It reads the Dockerfile itself: COPY copies, RUN runs (through sh, as docker does), with the stage's absolute folders
moved under the temporary one, and then imports the service's package with the result. It shows that the steps work
and that the service needs nothing else; it does not show the base image, the user or the layers. RUN steps fetch
packages from the registry that pip is set up for.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "images" / "Dockerfile"
# What the stage names by an absolute path: its work folder and its scratch file.
MOVED = re.compile(r"(?<![\w/.])/(app|tmp)(?=[/\s]|$)")


@dataclass(frozen=True)
class Step:
    """One instruction of a Dockerfile: RUN, and the text after it with continued lines joined."""

    instruction: str
    text: str


def read_dockerfile(text: str) -> list[list[Step]]:
    """The stages of a Dockerfile, each a list of steps that begins with its FROM."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    stages: list[list[Step]] = []
    for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            stages.append([])
        elif not stages:
            raise ValueError(f"{instruction} stands before the first FROM; this reader has no global arguments.")
        stages[-1].append(Step(instruction, rest.strip()))
    return stages


def rehearse(service: str, python: Path, root: Path = ROOT) -> None:
    """Runs the build stage for a service and imports its package. Raises CalledProcessError where a step fails."""
    with tempfile.TemporaryDirectory(prefix="rochdale-image-") as name:
        scratch = Path(name)
        for folder in ("app", "tmp"):
            (scratch / folder).mkdir()
        # pip finds its registry through its own settings; nothing of our environment that Python reads comes along.
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
        environment |= {"PIP_QUIET": "1", "SERVICE": service, "PATH": f"{scratch}:{os.environ['PATH']}"}
        (scratch / "python").symlink_to(python)
        for step in read_dockerfile(DOCKERFILE.read_text())[0]:
            text = step.text.replace("${SERVICE}", service)
            if step.instruction == "COPY":
                _copy(root, scratch / "app", text)
            elif step.instruction == "RUN":
                command = MOVED.sub(lambda found: f"{scratch}/{found[1]}", text)
                subprocess.run(["sh", "-ec", command], cwd=scratch / "app", env=environment, check=True)
            elif step.instruction not in ("FROM", "ARG", "WORKDIR"):
                raise ValueError(f"The rehearsal does not know {step.instruction}.")
        package = service.replace("-", "_")
        program = f"import importlib.util, {package}; print(importlib.util.find_spec('{package}').cached)"
        bytecode = subprocess.run(
            [scratch / "app/venv/bin/python", "-I", "-c", program],
            cwd="/",
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        if not Path(bytecode).is_file():
            raise ValueError(f"{package} has no bytecode at {bytecode}.")
        _import_everything(scratch, service, environment)


def _import_everything(scratch: Path, service: str, environment: dict[str, str]) -> None:
    """Imports each module of the package and runs `python -m` with no settings, as far as the sentence it ends with."""
    package = service.replace("-", "_")
    folder = scratch / "app" / "services" / service / package
    modules = sorted(
        ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
        for path in folder.rglob("*.py")
        if path.name != "__main__.py"
    )
    program = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    python = scratch / "app/venv/bin/python"
    subprocess.run([python, "-I", "-c", program, *modules], cwd="/", env=environment, check=True)
    if (folder / "__main__.py").is_file():
        bare = {key: value for key, value in environment.items() if not key.startswith(package.upper())}
        for arguments in ([], ["migrate"]):
            ended = subprocess.run(
                [python, "-I", "-m", package, *arguments], cwd="/", env=bare, capture_output=True, text=True, timeout=60
            )
            if ended.returncode != 2 or not re.search(
                rf"^{package.upper()}_\w+ is not set", ended.stderr, re.MULTILINE
            ):
                raise ValueError(f"python -m {package} {' '.join(arguments)} said: {ended.stderr[-2000:]}")


def _copy(root: Path, work: Path, text: str) -> None:
    *sources, target = text.split()
    for source in sources:
        # As docker does: a folder's content goes to the target, a file goes into a target that ends in a slash.
        if (root / source).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / source, work / target, dirs_exist_ok=True, ignore=ignore)
        else:
            (work / target).mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / source, work / target)


if __name__ == "__main__":
    for each in sys.argv[1:] or sorted(path.parent.name for path in (ROOT / "services").glob("*/pyproject.toml")):
        rehearse(each, Path(sys.executable).resolve())
        sys.stdout.write(f"{each}: the build stage runs and the package imports\n")
