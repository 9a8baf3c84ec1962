"""Print what the service needs, a line each, from the pyproject.toml of this folder: `requirements.py [EXTRA ...]`.

With it the libraries are a layer of the image that a change of the service itself leaves alone.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
needed = project["dependencies"] + [line for extra in sys.argv[1:] for line in project["optional-dependencies"][extra]]
print(*needed, sep="\n")
