"""Prints the paths that make up bpy and all it requires in this environment, one a line."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution


def main() -> None:
    names, seen, paths = ["bpy"], set(), set()
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            package = distribution(name)
        except PackageNotFoundError:  # required on other systems or Pythons only
            continue
        tops = {file.parts[0] for file in package.files if file.parts[0] not in ("..", "__pycache__")}
        paths |= {str(package.locate_file(top)) for top in tops}
        required = [entry for entry in package.requires or () if "extra ==" not in entry]
        names += [re.match(r"[A-Za-z0-9._-]+", entry)[0] for entry in required]
    print(*sorted(paths), sep="\n")


if __name__ == "__main__":
    main()
