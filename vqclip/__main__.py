"""The `vqclip` command: python -m vqclip, or the installed script."""

import os

from vqclip.cli.app import main as run
from vqclip.common.errors import ExitCode

SIGNALLED = (ExitCode.HANGUP, ExitCode.INTERRUPT, ExitCode.TERMINATED)


def main() -> None:
    """Run the command line; after a signal, end without waiting for threads that may never return."""
    try:
        run()
    except SystemExit as ended:
        if ended.code in SIGNALLED:
            os._exit(int(ended.code))
        raise


if __name__ == "__main__":
    main()
