"""Where the parts are put together: the `mien` command, and `python3.11 . COMMAND` in a checkout."""

from __future__ import annotations

import sys


def main(argv=None) -> int:
    """Run the command line of the installed package."""
    from .addon import cli as bake
    from .core.cli import main as run

    return run(argv, commands=(bake,))


if __name__ == "__main__":
    if __package__:
        sys.exit(main())
    else:  # `python3.11 .`: a folder is being run, nothing is installed yet
        import bootstrap

        sys.exit(bootstrap.main(sys.argv[1:]))
