"""The `vqclip` command: python -m vqclip, or the installed script."""

from vqclip.cli.app import main

if __name__ == "__main__":
    main()
